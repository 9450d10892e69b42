"""Fields and values that earlier versions had."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from interp_by_construction.errors import ConfigError

REMOVED = {
    "align.schedule": "the weight of the alignment loss is constant; leave this field out",
    "schedule=hybrid": "give schedule=joint, which ends at a lower loss",
}
"""Name, or name=value -> what replaces it."""


def refuse_removed(name: str, value: Any) -> None:
    """Raises ConfigError that says what replaces the field or value."""
    for key in (name, f"{name}={value}"):
        if key in REMOVED:
            raise ConfigError(f"{name}={value}: it was removed; {REMOVED[key]}")


def refuse_typed(overrides: Iterable[str]) -> None:
    """The same for a command line, before Hydra, which only knows that there is no such field."""
    for override in overrides:
        name, _, values = override.lstrip("+~").partition("=")
        for value in values.split(","):
            refuse_removed(name, value)
