"""Settings as people type them in a shell.

Hydra reads a typed value by a grammar of its own: `2024_05` is a number, and `=`, `(`, `#` or a
letter outside ASCII is a mistake. Here the value of a text field is taken as it is typed, by quotes
that Hydra understands. What is quoted already, `null`, and values with `${...}` are Hydra's.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, get_args, get_origin

from interp_by_construction.config.group import SPELLED, Group
from interp_by_construction.config.run import Config
from interp_by_construction.errors import ConfigError
from interp_by_construction.shown import excerpt

SWEEPS = ("-m", "--multirun", "hydra.mode=MULTIRUN")
"""Arguments that make a sweep."""
_PLAIN = re.compile(r"[A-Za-z_./][\w./:@+-]*", re.ASCII)
"""What Hydra reads as text, unless it is a number or a word of YAML."""
_SETTING = re.compile(r"\+{0,2}[a-z_]+(\.[a-z_]+)*=")
"""How an argument begins that gives a value to a field."""
_WORDS = ("true", "false", "null", "nan", "inf")
_FUNCTION = re.compile(
    r"(choice|glob|range|interval|shuffle|sort|tag|int|float|str|bool|json_str)\("
)
"""How a function of Hydra's grammar begins."""


def as_typed(arguments: Sequence[str]) -> list[str]:
    """The same arguments for Hydra, with text fields as they were typed. In a sweep commas separate
    values, and functions such as `choice(...)` are Hydra's. Raises ConfigError for a sweep over
    names of runs, for a value that Hydra cannot read, and for several values without a sweep."""
    sweeping = any(argument in SWEEPS for argument in arguments)
    typed = [_as_typed(argument, sweeping) for argument in arguments]
    for argument in typed:
        _check_readable(argument, sweeping)
    return typed


def _as_typed(argument: str, sweeping: bool) -> str:
    key, separator, value = argument.partition("=")
    if not separator or key.lstrip("+") not in text_fields():
        return argument
    if sweeping:
        if _FUNCTION.match(value):
            return argument
        values = _split(value)
        if key == "run" and len(values) > 1:
            raise ConfigError(
                f"{argument}: a sweep has one name, and its jobs are NAME/0, NAME/1 and so on: give "
                "run=NAME, or call `ibc run` once for each name"
            )
        return f"{key}={','.join(map(quoted, values))}"
    return f"{key}={quoted(value)}"


def _check_readable(argument: str, sweeping: bool) -> None:
    """Hydra's own messages have several lines, and not all name the field."""
    # Not needed where nothing is typed.
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if not _SETTING.match(argument):
        return
    try:
        (parsed,) = OverridesParser.create().parse_overrides([argument])
    except (HydraException, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{excerpt(argument)}: the value cannot be read: give a number, a word, a list such as [1,2] or "
            "{a: 1}, and put a text with other signs in quotes inside quotes"
        ) from error
    if parsed.is_sweep_override() and not sweeping:
        raise ConfigError(
            f"{excerpt(argument)}: several values make a sweep: add -m, or give one value or a list such as "
            "[1,2]"
        )


def quoted(value: str) -> str:
    """A value that Hydra reads as this very text."""
    if value == "null" or "${" in value or _is_quoted(value) or _is_plain(value):
        return value
    # Backslashes are special to Hydra in front of a quote only, and at the end there is one.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]


def _is_plain(value: str) -> bool:
    if not _PLAIN.fullmatch(value) or value.lower() in _WORDS:
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


def _split(value: str) -> list[str]:
    """At commas outside quotes."""
    return re.findall(r"(?:'(?:\\'|[^'])*'|\"(?:\\\"|[^\"])*\"|[^,])+", value) or [value]


@cache
def text_fields() -> frozenset[str]:
    """Dotted names of all fields that hold any text."""
    return frozenset(_text_fields(Config, ""))


def _text_fields(group: type[Group], prefix: str) -> Iterator[str]:
    for name, kind in typing.get_type_hints(group).items():
        dotted = f"{prefix}{SPELLED.get(name, name)}"
        inner = _without_none(kind)
        if inner is str:
            yield dotted
        elif isinstance(inner, type) and issubclass(inner, Group):
            yield from _text_fields(inner, f"{dotted}.")


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (types.UnionType, typing.Union):
        return get_args(kind)[0]
    return kind
