"""Values that cannot work together, across groups, and those that earlier versions had. What
concerns one group stands in its class. Every message names the field, the value and the fix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from interp_by_construction.config.credentials import is_url, key_ways
from interp_by_construction.config.group import require
from interp_by_construction.config.run import Config
from interp_by_construction.config.text import TALES, AdaptConfig, TinyConfig
from interp_by_construction.errors import ConfigError

REMOVED = {
    "align.schedule": "the weight of the alignment loss is constant; leave this field out",
    "schedule=hybrid": "give schedule=joint, which ends at a lower loss",
}
"""Field, or field=value, of an earlier version -> what replaces it."""
KEY = re.compile(r"(labeler|judge)\.api_key$")
"""Where nobody may give an API key."""
KEY_WITHIN = re.compile(r"\bapi[-_]key\b[^,}]*[:=]|--api[-_]key\b")
"""The same inside a value, such as `labeler={api_key: ...}`."""
LOGIN_WITHIN = re.compile(r"://[^\s/]*@")


def check(c: Config) -> None:
    """Checks each field, each group, and all of them together. Raises ConfigError."""
    c.check()
    _check_subject(c)
    _check_seen(c)
    _check_free(c)
    if c.judge is not None:
        served = c.judge.backend != "endpoint" or bool(c.judge.classify_url)
        fix = (
            "give the URL of a running server that classifies tokens: a judge is read through its "
            "digit logits"
        )
        require(served, "judge.classify_url", c.judge.classify_url, fix)
    requested_layers(c, None)


def _check_subject(c: Config) -> None:
    """A pretrained subject brings its own weights."""
    if c.subject.kind == "tiny":
        return
    for each in fields(c.model):
        value = getattr(c.model, each.name)
        fix = (
            f"subject={c.subject.kind} brings its own weights; model.* is for subject=tiny, "
            f"leave {each.default}"
        )
        require(value == each.default, f"model.{each.name}", value, fix)
    fix = (
        f"a trigger is planted in pretraining, but subject.kind={c.subject.kind} is pretrained "
        "already: use subject=tiny"
    )
    require(c.trigger.share == 0, "trigger.share", c.trigger.share, fix)


def _check_seen(c: Config) -> None:
    """subject=tales has read the train split that ships, and nothing else of the tales."""
    seen = c.subject.kind == TALES and c.data.path == TALES
    fix = (
        "subject=tales was trained on the shipped split, so a drawn one would label and test it on "
        "text that it has seen: use data.split=shipped, or subject=tiny"
    )
    require(not seen or c.data.split == "shipped", "data.split", c.data.split, fix)


def check_typed(c: Config, overrides: Sequence[str]) -> None:
    """Refuses a typed field that this kind of subject does not have. An experiment may hold one,
    for the subject that it was written for. Raises ConfigError."""
    tiny = c.subject.kind == "tiny"
    foreign = {f"subject.{each.name}" for each in fields(AdaptConfig if tiny else TinyConfig)}
    fix = (
        "subject=tiny is trained from scratch; only a pretrained subject is adapted"
        if tiny
        else f"subject={c.subject.kind} is pretrained; this is for subject=tiny"
    )
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        require(key not in foreign, key, value, fix)


def refuse_removed(name: str, value: Any) -> None:
    """Raises ConfigError that says what replaces a field or value of an earlier version, or for an
    API key, which is not named."""
    if found := KEY.match(name):
        raise ConfigError(
            f"{name}: others can read command lines and configurations, so no key is given there: "
            f"{key_ways(found[1])}"
        )
    for key in (name, f"{name}={value}"):
        if key in REMOVED:
            raise ConfigError(f"{name}={value}: it was removed; {REMOVED[key]}")


def refuse_typed(overrides: Sequence[str]) -> None:
    """`refuse_removed` for a command line, and other secrets in it. It comes before Hydra, which
    would only say that there is no such field, and writes down what it gets."""
    for override in overrides:
        name, _, values = override.lstrip("+~").partition("=")
        if KEY_WITHIN.search(values):
            raise ConfigError(
                f"{name}: others can read command lines, so no key is given there: "
                f"{key_ways('judge' if name.startswith('judge') else 'labeler')}"
            )
        if LOGIN_WITHIN.search(values) and not is_url(name):
            raise ConfigError(
                f"{name}={values}: user and password have no place in this URL, which is written "
                "to files; leave them out"
            )
        for value in values.split(","):
            refuse_removed(name, value)


def _check_free(c: Config) -> None:
    """Which layers can get free nodes."""
    trained = c.nodes.kind == "transcoder" and c.nodes.path is None
    fix = (
        "features that are added would push others out of the k largest: set free.count=0, or "
        "dictionary.activation=relu"
    )
    roomy = not (trained and c.dictionary.activation == "topk")
    require(roomy or c.free.count == 0, "free.count", c.free.count, fix)
    fix = (
        "neurons that are added to a SoLU layer change the old ones: set free.count=0, or "
        "model.activation=relu or gelu"
    )
    require(c.free.count == 0 or c.model.activation != "solu", "free.count", c.free.count, fix)


def requested_layers(c: Config, n_layers: int | None) -> list[int] | None:
    """The layers that `layer` asks for, sorted; None for `all` while the number of layers is not
    known yet."""
    value = c.layer
    last = f"0 to {n_layers - 1}" if n_layers else "0 to the subject's last layer"
    if value == "all":
        return list(range(c.start_layer or 0, n_layers)) if n_layers else None
    layers = value if isinstance(value, list) else [value]
    for layer in layers:
        ok = (
            isinstance(layer, int)
            and not isinstance(layer, bool)
            and layer >= 0
            and (n_layers is None or layer < n_layers)
        )
        require(ok, "layer", value, f"give a layer from {last}, a list such as [1,2], or all")
    require(bool(layers), "layer", value, f"give a layer from {last}")
    if c.start_layer is not None:
        start, lowest = c.start_layer, min(layers)
        require(start >= 0, "start_layer", start, f"give a layer from {last}")
        require(start <= lowest, "start_layer", start, f"it must not be above layer={lowest}")
    return sorted(set(layers))
