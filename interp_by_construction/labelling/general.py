"""Labels that are tried on any layer of any model, beside those of the labeler."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from interp_by_construction.engine.runtime import Handle, Runtime
from interp_by_construction.errors import ConfigError

GENERAL = Path(__file__).with_name("general_labels.txt")
"""One label per line; a line that begins with `#` is a comment."""


def general_labels(file: Path = GENERAL) -> list[str]:
    """The labels of the file. Raises ConfigError if there is no such file."""
    if not file.is_file():
        raise ConfigError(
            f"label.general_pool=true: {file} is missing; reinstall the package, or set label.general_pool=false"
        )
    lines = (" ".join(line.split()) for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@dataclass(frozen=True)
class GeneralLabels(Handle[list[str]]):
    """The list that ships with the package."""

    @cached_property
    def identity(self) -> str:
        return hashlib.sha256("\n".join(general_labels()).encode()).hexdigest()

    def open(self, runtime: Runtime) -> list[str]:
        return general_labels()
