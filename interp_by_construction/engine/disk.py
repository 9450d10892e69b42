"""What is read from and written to a disk: hashes, flushed files, and the errors of a disk in plain
words."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from interp_by_construction.engine.machine import host
from interp_by_construction.errors import StoreError


def canonical_json(value: Any) -> bytes:
    """Equal bytes for equal values: sorted keys, no spaces. Raises ValueError for NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256_json(value: Any) -> str:
    """Hex digest of `canonical_json`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_regular(path: Path) -> bool:
    """Whether it is a file, and no link, pipe or device. Those would not come along in a copy, or
    would be waited for when they are read."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def read_regular(path: Path) -> str:
    """Text of a file. Raises OSError where it is missing or no regular file, such as a pipe, which
    would be waited for."""
    if not is_regular(path):
        raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
    return path.read_text()


def file_problem(path: Path, sha256: str) -> str | None:
    """What is wrong with a file that had this hash; None if nothing is."""
    if not os.path.lexists(path):
        return "missing"
    if not is_regular(path):
        return "not a regular file"
    return None if sha256_file(path) == sha256 else "differs from what was written"


def flush(path: Path) -> None:
    """Returns when the contents of a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def indented_json(value: Any, sort: bool = True) -> str:
    """JSON for files that people read too. Raises ValueError for NaN."""
    return json.dumps(value, indent=1, sort_keys=sort, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any, sort: bool = True) -> None:
    """Writes JSON atomically and flushes it to disk. Without `sort` keys stay in their order."""
    partial = path.with_name(f".{path.name}.{host()}.{os.getpid()}.partial")
    with disk_errors(path):
        partial.write_text(indented_json(value, sort))
        flush(partial)
        partial.replace(path)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what a disk refuses into a StoreError that says what to do. path: what is written."""
    try:
        yield
    except OSError as error:
        if (message := refusal(error, path)) is not None:
            raise StoreError(message) from error
        raise
    except SafetensorError as error:
        # It has no number, only the text of one.
        if (code := re.search(r"os error (\d+)", str(error))) is None:
            raise
        number = int(code[1])
        if (message := refusal(OSError(number, os.strerror(number)), path)) is not None:
            raise StoreError(message) from error
        raise


def refusal(error: OSError, path: Path | None = None) -> str | None:
    """What a disk refuses and how to go on, in one line; None for another error. path: for errors
    that name none."""
    where = error.filename or path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left for {where}: free some space and run the same command again"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"{where}: {error.strerror}; give yourself the permission, or set paths.root=DIR to a "
            "writable directory"
        )
    if error.errno in (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV):
        return (
            f"{where}: the disk fails ({error.strerror}); what is finished is kept. Run the same "
            "command again when the disk works, or set paths.root=DIR to another one"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{where}: {error.strerror}; raise the limit with `ulimit -n 4096`"
    return None
