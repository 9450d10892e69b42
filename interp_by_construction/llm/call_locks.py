"""Locks on calls: processes that share a call cache never ask the same at the same time.

A lock lies on one byte of a file beside the cache, at a position that the call's key decides. The
kernel drops it when the process ends, so a killed process leaves nothing behind. Two keys at one
position only wait for each other.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO


class CallLocks:
    """Locks of this process in the file `path`, opened on first use. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._owner = -1

    def take(self, keys: Sequence[str]) -> list[str]:
        """Locks what no other process has locked; returns those keys, in order."""
        return [key for key in keys if self._lock(key, fcntl.LOCK_NB)]

    def release(self, key: str) -> None:
        fcntl.lockf(self._open(), fcntl.LOCK_UN, 1, _position(key))

    def wait(self, key: str) -> None:
        """Returns when no other process has locked `key`. Release your own locks first: two
        processes that wait for each other wait for ever."""
        self._lock(key, 0)
        self.release(key)

    def close(self) -> None:
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file = None

    def _lock(self, key: str, flags: int) -> bool:
        try:
            fcntl.lockf(self._open(), fcntl.LOCK_EX | flags, 1, _position(key))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _open(self) -> IO[bytes]:
        if self._file is None or self._owner != os.getpid():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file, self._owner = self.path.open("a+b"), os.getpid()
        return self._file


def _position(key: str) -> int:
    """A byte below 2^60 from a hexadecimal key; locks may lie beyond the end of a file."""
    return int(key[:15], 16)
