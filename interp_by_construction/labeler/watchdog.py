"""Runs one command and makes sure that nothing of it outlives the process that asked for it.

    python watchdog.py PARENT_PID COMMAND...

vLLM starts an engine and workers as children of its own; they survive when the server or its parent dies by SIGKILL.
So this small process stands between: it leads a process group of its own, in which the command and all its children
stay, and it ends the whole group when the parent is gone, when the command ends, or on SIGTERM. It imports nothing
but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
"""Time for an orderly end (vLLM frees its shared memory) before the group is killed."""
PR_SET_PDEATHSIG = 1


def _end_with_watchdog() -> None:
    """In the child, before exec: ask the kernel for SIGTERM if the watchdog itself is killed (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main(parent: int, command: list[str]) -> None:
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    asked = False

    def stop(signum: int, frame: object) -> None:
        nonlocal asked
        asked = True

    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, stop)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_watchdog)
    while not asked and os.getppid() == parent and child.poll() is None:
        time.sleep(POLL_SECONDS)
    if child.poll() is None:
        child.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 2)
    # The group has this process as its leader, so its number cannot belong to anybody else.
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
