"""What ties a process to the one that started it. Light to import, so that it holds at once."""

from __future__ import annotations

import os
import threading


def task_of_parent() -> bytes:
    """The line that the parent wrote to standard input. From then on this process ends as soon as
    the parent closes the pipe, or is killed."""
    line = b""
    while not line.endswith(b"\n"):
        # Not through `sys.stdin`, whose lock would be held when the interpreter ends.
        piece = os.read(0, 65536)
        if not piece:
            os._exit(0)
        line += piece
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return line


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(0)
