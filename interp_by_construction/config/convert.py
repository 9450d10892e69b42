"""From YAML and command line to checked dataclasses, and back."""

from __future__ import annotations

import copy
import dataclasses
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from interp_by_construction.config.checks import check, check_typed, refuse_removed, refuse_typed
from interp_by_construction.config.group import RENAMED, SPELLED, Group, dot, require
from interp_by_construction.config.labels import LabelerConfig
from interp_by_construction.config.paths import PATH_FIELDS, user_path
from interp_by_construction.config.run import NOT_IDENTITY, Config
from interp_by_construction.config.typed import as_typed
from interp_by_construction.errors import ConfigError


def conf_dir() -> Path:
    """The YAML groups: inside the package in a wheel, beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError(
        f"no conf/config.yaml in {package} or {package.parent}: reinstall the package"
    )


def compose(overrides: list[str]) -> Config:
    """Composes `conf/` with Hydra overrides. Raises ConfigError for unknown names and impossible
    values."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    overrides = as_typed(overrides)
    refuse_typed(overrides)
    register_resolvers()
    try:
        composed = _set_on_choices(overrides) or _composed(conf_dir(), tuple(overrides))
        return from_dict(OmegaConf.to_container(composed, resolve=True), overrides)
    except (HydraException, OmegaConfBaseException) as error:
        said = " ".join(str(error).split())
        raise ConfigError(said.partition(" Config search path")[0]) from error


def register_resolvers() -> None:
    """What `conf/` may call: `${expanded:PATH}` is the path behind a leading `~`."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver(
        "expanded", lambda path: str(user_path(str(path), "paths.root")), replace=True
    )


MOST = 2**53
"""Largest integer of a field. Up to here a computation in floating point is exact."""
FIELD = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
"""How an override begins that gives a value to a field."""


def _set_on_choices(overrides: Sequence[str]) -> Any:
    """What Hydra composes of overrides that choose from groups and give values to fields, at a
    quarter of the time: choices are composed once per process, and fields are set on a copy, as
    Hydra sets them last. None for anything else, of which Hydra says itself what is wrong."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    conf = conf_dir()
    groups = {folder.name for folder in conf.iterdir() if folder.is_dir()}
    choices = [each for each in overrides if each.partition("=")[0] in groups - {"hydra"}]
    fields = [each for each in overrides if each not in choices]
    if any(not FIELD.match(each) or each.startswith("hydra") for each in fields):
        return None
    try:
        parsed = OverridesParser.create().parse_overrides(fields)
        if any(each.is_sweep_override() for each in parsed):
            return None
        composed = copy.deepcopy(_choices_composed(conf, tuple(choices)))
        for each in parsed:
            OmegaConf.update(composed, each.key_or_group, each.value(), merge=True)
    except (HydraException, OmegaConfBaseException):
        return None
    return composed


def _composed(conf: Path, overrides: tuple[str, ...]) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(config_dir=str(conf), version_base="1.3"):
        return hydra_compose("config", overrides=list(overrides))


_choices_composed = cache(_composed)


def from_dict(values: Any, overrides: Sequence[str] = ()) -> Config:
    """A checked Config from plain dicts; `overrides` is what was typed to make them. Raises
    ConfigError naming the field, the value and the fix."""
    config = _build(Config, values, "")
    check(config)
    check_typed(config, overrides)
    return config


def from_saved(values: Any) -> Config:
    """The Config of a run, from what its `config.yaml` holds. Raises ConfigError as `from_dict`,
    and where a field is missing or unknown, since then another version wrote it."""
    if not isinstance(values, Mapping):
        raise ConfigError("it holds no configuration")
    found = _flatten(values, "")
    judge = LabelerConfig() if isinstance(values.get("judge"), Mapping) else None
    known = _flatten(to_dict(Config(judge=judge)), "")
    unknown = [f"unknown field {name}" for name in found if name not in known]
    missing = [f"missing field {name}" for name in known if name not in found]
    if unknown or missing:
        raise ConfigError("; ".join(unknown + missing))
    return from_dict(values)


def to_dict(config: Any) -> dict[str, Any]:
    """The inverse of `from_dict`."""
    return {SPELLED.get(key, key): value for key, value in dataclasses.asdict(config).items()}


def identity(config: Config) -> dict[str, Any]:
    """The fields that make a run what it is, flat: dotted name -> value."""
    return {
        name: value
        for name, value in _flatten(to_dict(config), "").items()
        if not any(f"{name}.".startswith(f"{free}.") for free in NOT_IDENTITY)
    }


def _flatten(value: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flatten(item, dot(prefix, str(key)))
    return flat


def _build(cls: type[Group], values: Any, prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix}={values}: expected a group of fields")
    known = typing.get_type_hints(cls)
    kwargs: dict[str, Any] = {}
    for key, value in values.items():
        name = RENAMED.get(key, key)
        dotted = dot(prefix, str(key))
        refuse_removed(dotted, value)
        if name not in known:
            raise ConfigError(f"{dotted}: unknown field; known are {', '.join(sorted(known))}")
        kwargs[name] = _convert(known[name], value, dotted)
    return cls(**kwargs)


def _convert(kind: Any, value: Any, name: str) -> Any:
    """`value` as `kind`, which is one of what the groups use: a group, a scalar, a union with None,
    Literal, list, dict. Raises ConfigError."""
    if kind is Any:
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        require(value in arguments, name, value, f"give one of {', '.join(map(str, arguments))}")
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(arguments[0], value, name)
    if origin is list:
        require(isinstance(value, list), name, value, "give a list such as [1,2]")
        return [_convert(arguments[0], item, name) for item in value]
    if origin is dict:
        require(isinstance(value, Mapping), name, value, "give a mapping")
        return {
            str(key): _convert(arguments[1], item, f"{name}.{key}") for key, item in value.items()
        }
    if issubclass(kind, Group):
        return _build(kind, value, name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    ok, fix = {
        float: (number and abs(value) <= sys.float_info.max, "give a finite number"),
        int: (isinstance(value, int) and number and abs(value) <= MOST, "give an integer"),
        bool: (isinstance(value, bool), "give true or false"),
        str: (number or isinstance(value, str), "give a string"),
    }[kind]
    require(ok, name, value, fix)
    if name in PATH_FIELDS:
        return str(user_path(value, name)) if str(value).startswith("~") else str(value)
    return kind(value)
