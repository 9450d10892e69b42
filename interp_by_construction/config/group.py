"""What every group of fields has in common: rules beside the fields, and the projection on a part.

A group is a frozen dataclass with one string under each field. A rule (`at_least`, `above_zero`,
`share`, `ruled`) says which values of one field can work. A group's own `check` adds what concerns
several of its fields. Groups that several consumers read in part are made of base classes, one for
each consumer; `only` takes such a part out again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from interp_by_construction.errors import ConfigError
from interp_by_construction.shown import excerpt

RENAMED = {"continue": "continue_"}
"""YAML keys that are Python keywords, and the fields that hold them."""
SPELLED = {field_name: key for key, field_name in RENAMED.items()}
"""The reverse."""

G = TypeVar("G", bound="Group")


@dataclass(frozen=True)
class Rule:
    """Which values of a field can work, and what to do about another one."""

    holds: Callable[[Any], bool]
    fix: str


def ruled(default: Any, holds: Callable[[Any], bool], fix: str) -> Any:
    """A field whose value must satisfy `holds`; None is never tested."""
    metadata = {"rule": Rule(holds, fix)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def at_least(low: int, default: float | None, fix: str | None = None) -> Any:
    """A field that is `low` or more, or None."""
    kind = "a number" if isinstance(default, float) else "an integer"
    return ruled(default, lambda value: value >= low, fix or f"give {kind} >= {low}")


def above_zero(default: float) -> Any:
    """A field of more than 0."""
    return ruled(default, lambda value: value > 0, "give a number > 0")


def thread_count(default: int) -> Any:
    """A field of threads, of which a library must be able to make so many."""
    return ruled(default, lambda value: 1 <= value <= 1024, "give an integer from 1 to 1024")


def share(default: float | None, fix: str = "give a share between 0 and 1") -> Any:
    """A field from 0 to 1, both included."""
    return ruled(default, lambda value: 0 <= value <= 1, fix)


@dataclass(frozen=True)
class Group:
    """A group of fields of the configuration."""

    def check(self, name: str) -> None:
        """`name` is the group's own, dotted. Raises ConfigError naming a field, its value and the
        fix."""
        for each in fields(self):
            value, dotted = getattr(self, each.name), dot(name, each.name)
            if isinstance(value, Group):
                value.check(dotted)
            elif value is not None and "rule" in each.metadata:
                rule: Rule = each.metadata["rule"]
                require(rule.holds(value), dotted, value, rule.fix)


def is_plain_name(name: Any) -> bool:
    """Whether a folder of this name stays in its place: no part of it is hidden or leads upwards,
    and each can be shown and be made."""
    if not str(name).isprintable() or "\\" in str(name):
        return False
    parts = str(name).split("/")
    return all(
        part.strip() and not part.startswith(".") and len(part.encode()) <= 200 for part in parts
    )


def only(cls: type[G], config: G) -> G:
    """The fields of `cls`, a base class of the group `config`, as a plain instance of `cls`: what a
    consumer that takes it reads, and what is hashed of it."""
    return cls(**{each.name: getattr(config, each.name) for each in fields(cls)})


def dot(prefix: str, field_name: str) -> str:
    """A field's name as people type it."""
    key = SPELLED.get(field_name, field_name)
    return f"{prefix}.{key}" if prefix else key


def require(ok: bool, name: str, value: Any, fix: str) -> None:
    """Raises ConfigError unless `ok`."""
    if not ok:
        raise ConfigError(f"{name}={excerpt(str(value))}: {fix}")
