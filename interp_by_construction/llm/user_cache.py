"""The user's cache: what is converted, merged or hashed once per user, for all runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from interp_by_construction.config import user_path
from interp_by_construction.errors import LabelerError

SHOWS = "config.json"
"""A file of every checkpoint: where it is missing, somebody has emptied the directory."""


def cache_dir() -> Path:
    """Directory for what is converted or hashed once per user. Raises LabelerError where there is
    none."""
    root = os.environ.get("IBC_CACHE")
    if root:
        return user_path(root, "IBC_CACHE")
    try:
        return Path.home() / ".cache" / "interp-by-construction"
    except RuntimeError as error:
        raise LabelerError(
            "this user has no home directory for the cache: set IBC_CACHE=DIR to a writable "
            "directory with space"
        ) from error


@contextmanager
def cache_errors(path: Path) -> Iterator[None]:
    """Inside the block something is written into the user cache. Raises LabelerError where that
    fails."""
    try:
        yield
    except OSError as error:
        raise LabelerError(
            f"cannot write {path} ({error.strerror}): set IBC_CACHE=DIR to a writable directory "
            "with space"
        ) from error


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """The directory `target` of a checkpoint, which `make` fills under another name if it is not
    there yet. Of processes that ask at the same time, one makes it.

    Raises LabelerError where the cache cannot be written, and what `make` raises.
    """
    if (target / SHOWS).is_file():
        return target
    with cache_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock"):
            if not (target / SHOWS).is_file():
                partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
                try:
                    make(partial)
                    # Temporary directories and safetensors are private; a cache may be shared.
                    partial.chmod(0o755)
                    for file in partial.glob("*.safetensors"):
                        file.chmod(0o644)
                    partial.replace(target)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    return target
