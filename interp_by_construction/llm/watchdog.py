"""Runs one command and makes sure that nothing of it outlives the processes that use it.

    python watchdog.py HOME COMMAND...

vLLM starts an engine and workers as children of its own, which survive when the server or its
parent dies by SIGKILL. The watchdog leads a process group in which the command and all its children
stay. It ends the whole group when nobody holds a lock on HOME/users (see `server_registry.py`),
when the command ends, or on SIGTERM. It imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
"""Time for an orderly end (vLLM frees its shared memory) before the group is killed."""
PR_SET_PDEATHSIG = 1


def _end_with_watchdog() -> None:
    """In the child, before exec: ask the kernel for SIGTERM if the watchdog itself is killed (Linux
    only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main(home: Path, command: list[str]) -> None:
    """Starts vLLM, watches it, and ends its process group when it should stop."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    (home / "pid").write_text(str(os.getpid()))
    users = (home / "users").open("r+b")
    asked, n_idle = False, 0

    def idle() -> bool:
        """Whether nobody uses the server. The lock is kept from the second time on: whoever comes
        now waits until all is over."""
        nonlocal n_idle
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            n_idle = 0
            return False
        n_idle += 1
        if n_idle < 2:
            fcntl.flock(users, fcntl.LOCK_UN)
        return n_idle >= 2

    def stop(signum: int, frame: object) -> None:
        nonlocal asked
        asked = True

    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, stop)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_watchdog)
    while not asked and not idle() and child.poll() is None:
        time.sleep(POLL_SECONDS)
    if child.poll() is None:
        child.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 2)
    # The group has this process as its leader, so its number cannot belong to anybody else.
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
