"""Whether file locks work where a store is, and how far they reach.

1. On a local disk a lock excludes every other process.
2. On a network file system it may exclude the processes of one machine alone. Then each machine
   works in folders and files of its own (`own_name`), and the rename at the end of a commit lets
   only one win.
3. Where a lock excludes nobody, or is never granted, nothing can be computed safely
   (`check_locks`).
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

from filelock import FileLock, Timeout

from interp_by_construction.engine.disk import disk_errors
from interp_by_construction.engine.machine import host
from interp_by_construction.errors import StoreError

MOUNTS = Path("/proc/self/mountinfo")
LOCAL = frozenset(
    "aufs apfs bcachefs btrfs devtmpfs erofs exfat ext2 ext3 ext4 f2fs fuseblk hfsplus jfs nilfs2 "
    "ntfs3 overlay ramfs reiserfs rootfs squashfs tmpfs ubifs ufs vfat xfs zfs".split()
)
"""File systems that one kernel alone writes."""
REACHING: Mapping[str, Callable[[frozenset[str]], bool]] = {
    "ceph": lambda options: True,
    "gfs2": lambda options: "localflocks" not in options,
    "gpfs": lambda options: True,
    "lustre": lambda options: "flock" in options,
    "nfs": lambda options: not _kept_here(options),
    "nfs4": lambda options: not _kept_here(options),
    "ocfs2": lambda options: "localflocks" not in options,
}
"""Network file systems whose locks may hold for all machines, by their mount options."""


class FileSystem(NamedTuple):
    """What a folder lies on."""

    kind: str
    """Such as ext4; empty where the system does not tell."""
    options: frozenset[str]

    @property
    def local(self) -> bool:
        """Whether no other machine writes to it."""
        return self.kind in LOCAL or not self.kind

    @property
    def locks_reach_all(self) -> bool:
        """Whether a lock that one machine holds is refused to all others."""
        return self.local or (self.kind in REACHING and REACHING[self.kind](self.options))


def _kept_here(options: frozenset[str]) -> bool:
    """Whether NFS is mounted such that the server never hears of some locks."""
    return bool(options & {"nolock", "local_lock=all", "local_lock=flock", "local_lock=posix"})


def file_system(folder: Path) -> FileSystem:
    """That of a folder, or of the folder in which it would be made."""
    return _file_system(str(folder.resolve()))


@lru_cache
def _file_system(path: str) -> FileSystem:
    """path: absolute, without links."""
    best, found = -1, FileSystem("", frozenset())
    for line in MOUNTS.read_text().splitlines() if MOUNTS.is_file() else ():
        # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
        left, _, right = line.partition(" - ")
        mounted, own = left.split()[4:6]
        kind, _, general = right.split(" ")[:3]
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), mounted)
        # A later mount hides an earlier one at the same place.
        if Path(path).is_relative_to(point) and len(point) >= best:
            best = len(point)
            found = FileSystem(kind, frozenset([*own.split(","), *general.split(",")]))
    return found


def own_name(folder: Path) -> str:
    """What stands in the names of unfinished work in a folder: empty where a lock keeps others
    away, else `@` and the name of this machine."""
    return "" if file_system(folder).locks_reach_all else f"@{host()}"


def is_locked(file: Path) -> bool:
    """Whether another process holds the lock on a file. False where the file is missing, and where
    locks do not work."""
    if not file.is_file():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
    except NotImplementedError:
        return False


def check_locks(folder: Path, setting: str = "paths.root") -> None:
    """Raises StoreError where locks do not work in a folder. One that is missing is not made: they
    are tried in the folder in which it would be. setting: what the user sets to have another."""
    there = next(each for each in (folder.resolve(), *folder.resolve().parents) if each.is_dir())
    problem = _problem(str(there))
    if problem is not None:
        kind = file_system(folder).kind
        raise StoreError(
            f"{setting}: {folder} lies on a file system{f' ({kind})' if kind else ''} on which "
            f"{problem}, so that two processes could damage each other's work: set {setting} to a "
            "folder on another one, such as a local disk, or mount this one with locks"
        )


@lru_cache
def _problem(path: str) -> str | None:
    """Why locks do not work in a folder, or None. Both kinds are tried: `flock`, which this project
    takes, and record locks, which sqlite takes."""
    folder = Path(path)
    file = folder / f".locks-{host()}-{os.getpid()}"
    with disk_errors(file):
        try:
            with ExitStack() as opened:
                one, other = (opened.enter_context(file.open("a+b")) for _ in range(2))
                return _tried("file locks", one, other, _flock) or _tried(
                    "record locks", one, other, _record_lock
                )
        finally:
            file.unlink(missing_ok=True)


def _tried(
    what: str, one: IO[bytes], other: IO[bytes], lock: Callable[[IO[bytes], int], None]
) -> str | None:
    """What is wrong with one kind of lock, tried on two descriptors of one file."""
    try:
        lock(one, fcntl.LOCK_EX)
    except BlockingIOError:
        return f"{what} are refused though nobody holds them"
    except OSError as error:
        return f"{what} do not work ({error.strerror})"
    try:
        lock(other, fcntl.LOCK_EX)
    except OSError:
        lock(one, fcntl.LOCK_UN)
        return None
    return f"{what} are granted twice"


def _flock(file: IO[bytes], kind: int) -> None:
    fcntl.flock(file, kind | fcntl.LOCK_NB)


def _record_lock(file: IO[bytes], kind: int) -> None:
    """A lock that belongs to the descriptor and not to the process, so that one process can try it
    against itself. It excludes the other kind of record lock. Only Linux has it."""
    if hasattr(fcntl, "F_OFD_SETLK"):
        of = {fcntl.LOCK_EX: fcntl.F_WRLCK, fcntl.LOCK_UN: fcntl.F_UNLCK}
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", of[kind], 0, 0, 0, 0))
