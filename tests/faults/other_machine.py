"""Lets a process work as if on another machine, whose file locks the first one does not see."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from interp_by_construction.engine import locks


class LocksOfOneProcess:
    """`fcntl.flock` that excludes only descriptors of this process."""

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], set[int]] = {}

    def flock(self, file: Any, kind: int) -> None:
        number = file if isinstance(file, int) else file.fileno()
        status = os.fstat(number)
        holders = self.held.setdefault((status.st_dev, status.st_ino), set())
        if kind & fcntl.LOCK_UN:
            holders.discard(number)
        elif holders - {number}:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        else:
            holders.add(number)


def go_to(machine: str, root: Path, patch: pytest.MonkeyPatch) -> None:
    """From here on this process runs on `machine`, which has mounted `root` over the network with
    locks of its own."""
    mounts = root.with_name(f"{root.name}.{machine}.mounts")
    mounts.write_text(
        "22 1 0:1 / / rw - ext4 /dev/disk rw\n"
        f"36 22 0:2 / {root} rw,relatime - nfs4 server:/x rw,vers=4.2,local_lock=all\n"
    )
    patch.setattr(locks, "MOUNTS", mounts)
    patch.setattr(socket, "gethostname", lambda: machine)
    own = LocksOfOneProcess()
    patch.setattr(fcntl, "flock", own.flock)
    patch.setattr(fcntl, "lockf", lambda *given: None)
    locks._file_system.cache_clear()
    locks._problem.cache_clear()
