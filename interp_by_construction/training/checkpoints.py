"""What a training phase leaves on disk so that it can go on after a kill or a power cut.

Every file is flushed before it gets its name, and is read again only if it has the hash that was
recorded for it. A file that is damaged all the same is dropped with a warning, and training goes on
from what was before it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from interp_by_construction.engine.disk import disk_errors, flush, sha256_file, write_json

_LOG = logging.getLogger(__name__)

KEPT = 2
"""Checkpoints of a phase. The one before the last is there in case that the last is damaged."""
SUFFIX = ".ckpt"
WEIGHTS = "weights.safetensors"
FINISHED = "finished.json"


class Checkpoints:
    """The last checkpoints of one phase, in its folder: `<step>-<sha256>.ckpt`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Keeps what `write(path)` writes. step: optimizer steps that are done.

        Raises StoreError where the disk is full or read-only.
        """
        partial = self.folder / "checkpoint.partial"
        with disk_errors(partial):
            write(partial)
            flush(partial)
            partial.replace(self.folder / f"{step:09}-{sha256_file(partial)}{SUFFIX}")
            flush(self.folder)
            for old in self._newest_first()[KEPT:]:
                old.unlink()

    def newest(self) -> Path | None:
        """The newest that is as it was written. Those that are not are removed."""
        return next(self._intact(), None)

    def remove(self) -> None:
        """Removes all of them."""
        for path in self._newest_first():
            path.unlink()

    def _intact(self) -> Iterator[Path]:
        for path in self._newest_first():
            if sha256_file(path) == path.stem.partition("-")[2]:
                yield path
            else:
                _LOG.warning(
                    "the checkpoint %s is damaged and is dropped; training goes on from the one before it",
                    path,
                )
                path.unlink()

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob(f"*-*{SUFFIX}"), reverse=True)


def save_finished(folder: Path, weights: dict[str, Tensor], record: Any) -> None:
    """Keeps the weights and the record (JSON) of a phase that is done."""
    partial = folder / "weights.partial"
    with disk_errors(partial):
        save_file(weights, partial)
        flush(partial)
        partial.replace(folder / WEIGHTS)
        flush(folder)
        write_json(folder / FINISHED, {"weights": sha256_file(folder / WEIGHTS), "record": record})
        flush(folder)


def load_finished(folder: Path) -> tuple[dict[str, Tensor], Any] | None:
    """Weights and record of a finished phase. None where it is not finished, or where what it left
    is damaged."""
    if not (folder / FINISHED).is_file():
        return None
    try:
        finished = json.loads((folder / FINISHED).read_text())
        if sha256_file(folder / WEIGHTS) == finished["weights"]:
            return load_file(folder / WEIGHTS), finished["record"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    _LOG.warning("the result of the finished phase in %s is damaged; it is trained again", folder)
    (folder / FINISHED).unlink()
    return None
