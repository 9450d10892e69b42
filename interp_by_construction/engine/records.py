"""Records: what a stage says about its result, typed here and JSON on disk."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_origin

from interp_by_construction.stats.undefined import or_none

T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    """One column of the node table that a stage fills."""

    name: str
    kind: str
    """float, int, bool, string or strings."""
    values: Mapping[int, Any]
    """Node -> value; nodes that are missing are null."""

    @classmethod
    def of_floats(cls, name: str, nodes: Iterable[Any], values: Iterable[Any]) -> Self:
        """nodes, values: arrays [node]. NaN becomes null."""
        pairs = zip(nodes, values, strict=True)
        numbers = {int(node): or_none(value) for node, value in pairs}
        return cls(name, "float", numbers)


@dataclass(frozen=True)
class Record:
    """Base of all records. A subclass is a frozen dataclass.

    A field called `extra`, a mapping, holds values whose names depend on the run. In JSON they
    stand beside the others.
    """

    def lines(self) -> Iterator[str]:
        """What the terminal shows of it, a line each; by default its plain values."""
        parts = []
        for name, value in vars(self).items():
            if isinstance(value, bool | int | float | str):
                parts.append(
                    f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                )
        if parts:
            yield ", ".join(parts)

    @classmethod
    def columns(cls, folder: Path) -> list[Column]:
        """Columns of the node table, from the artifact in `folder`; none by default."""
        return []


def or_undefined(value: float | None, form: str = ".2f") -> str:
    """A number as lines show it, or `undefined`. form: a format of Python."""
    return "undefined" if value is None else f"{value:{form}}"


def to_json(value: Any) -> Any:
    """Dataclasses and named tuples become objects. A field such as `with_` loses its underscore."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value)]
        found = {name.removesuffix("_"): to_json(getattr(value, name)) for name in names}
        return found | found.pop("extra", {})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_json(each) for name, each in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    return value


def from_json(kind: Any, value: Any) -> Any:
    """The inverse of `to_json` for dataclasses, named tuples, containers and scalars. Fields that
    the JSON lacks take their defaults."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or value is None:
        return value
    if origin in (types.UnionType, typing.Union):
        return from_json(next(each for each in arguments if each is not type(None)), value)
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")):
        hints = typing.get_type_hints(kind)
        if "extra" in hints:
            known = {key: each for key, each in value.items() if key in hints}
            value = known | {"extra": {key: value[key] for key in value if key not in hints}}
        named = {key if key in hints else f"{key}_": each for key, each in value.items()}
        return kind(**{name: from_json(hints[name], each) for name, each in named.items()})
    if origin is dict or origin is Mapping:
        return {arguments[0](key): from_json(arguments[1], each) for key, each in value.items()}
    if origin is list:
        return [from_json(arguments[0], each) for each in value]
    if origin is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1:] == (...,) else arguments
        return tuple(from_json(each, item) for each, item in zip(kinds, value, strict=True))
    return value


def read_record(kind: type[T], file: Path) -> T:
    """The record in `file`."""
    return from_json(kind, json.loads(file.read_text()))
