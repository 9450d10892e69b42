"""Only one process at a time works on a run.

A file lock says so. Where locks do not reach other machines (`locks.own_name`), a file `.held` says
beside it which machine works on the run. A machine that was switched off leaves that file behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from interp_by_construction.engine.locks import is_locked, own_name
from interp_by_construction.engine.machine import host
from interp_by_construction.errors import StoreError

LOCK, HELD = ".lock", ".held"


@contextmanager
def only_here(folder: Path, name: str) -> Iterator[None]:
    """Holds the run called `name` in `folder`. Raises StoreError if another process does."""
    # It waits for a moment, because `in_use` of another process holds the lock for an instant.
    lock = FileLock(folder / LOCK, timeout=0.5)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"run {name} is in use by another process: wait for it, or give another run=NAME"
        ) from error
    try:
        if not own_name(folder):
            yield
            return
        other = _holder(folder)
        if other is not None:
            raise StoreError(
                f"run {name} is in use on {other}, and file locks do not reach other machines here: "
                f"wait for it, or give another run=NAME; if that process has ended, delete "
                f"{folder / HELD}"
            )
        (folder / HELD).write_text(host())
        try:
            yield
        finally:
            (folder / HELD).unlink(missing_ok=True)
    finally:
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a process works on the run in `folder`."""
    if is_locked(folder / LOCK):
        return True
    return bool(own_name(folder)) and _holder(folder) is not None


def _holder(folder: Path) -> str | None:
    """Another machine that works on the run; None if there is none."""
    try:
        name = (folder / HELD).read_text()
    except FileNotFoundError:
        return None
    return None if name == host() else name or "another machine"
