"""Laws of all stages: what a stage reads is hashed, and every setting of a run is hashed somewhere.

Graphs are built, nothing is computed.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from interp_by_construction.config import Config, compose, identity
from interp_by_construction.engine.engine import ancestry
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.stage import Given, Handle, Stage
from interp_by_construction.pipeline import graph_of
from interp_by_construction.stages.registry import all_stages

ENDPOINT = [
    "labeler=endpoint",
    "labeler.url=http://127.0.0.1:1",
    "labeler.classify_url=http://127.0.0.1:1",
]
SETTINGS = {
    "loop": [],
    "exact": ["simulate.simulator=exact", "label.select_tokens=64"],
    "head": [
        "simulate.simulator=head",
        "nodes.assign=match",
        "label.audit_rounds=1",
        "judge=endpoint",
        "judge.classify_url=http://127.0.0.1:2",
        "trigger.share=0.1",
    ],
    "joint": ["simulate.simulator=head", "schedule=joint", "align.distill=1"],
    "dictionary": ["nodes=transcoder", "align.distill=1"],
}


def config(name: str) -> Config:
    return compose([*ENDPOINT, "layer=[0,1]", *SETTINGS[name]])


def stages_of(cfg: Config) -> list[Stage[Any]]:
    return list(ancestry([stage for _, _, stage in graph_of(cfg, [0, 1]).links()]))


@pytest.fixture(scope="module")
def every() -> dict[str, list[Stage[Any]]]:
    found: dict[str, list[Stage[Any]]] = {}
    for name in SETTINGS:
        for stage in stages_of(config(name)):
            found.setdefault(stage.name, []).append(stage)
    return found


@dataclass(frozen=True)
class Stranger(Handle[Any]):
    @property
    def identity(self) -> str:
        return "stranger"


OTHER = Given(Path("nowhere"), "another")


def changed(value: Any) -> Iterator[Any]:
    """Values that differ from `value` in one place."""
    if isinstance(value, Stage):
        yield OTHER
    elif isinstance(value, Handle):
        yield Stranger()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            for other in changed(getattr(value, each.name)):
                # Without its rules: any other value will do.
                copy = object.__new__(type(value))
                for field in dataclasses.fields(value):
                    object.__setattr__(copy, field.name, getattr(value, field.name))
                object.__setattr__(copy, each.name, other)
                yield copy
    elif isinstance(value, tuple | list):
        yield type(value)([*value, *(value[:1] or [1])])
        for i, item in enumerate(value):
            for other in changed(item):
                yield type(value)([*value[:i], other, *value[i + 1 :]])
    elif isinstance(value, dict):
        for key, item in value.items():
            for other in changed(item):
                yield {**value, key: other}
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    elif isinstance(value, str):
        yield f"{value}x"
    elif value is None:
        yield 12345
    else:
        raise AssertionError(f"{value!r} is hashed")


def test_every_hashed_field_of_every_stage_moves_its_fingerprint(
    every: dict[str, list[Stage[Any]]],
) -> None:
    for name, stages in every.items():
        for stage in stages:
            for field in dataclasses.fields(stage):
                if field.metadata.get("unhashed"):
                    continue
                others = list(changed(getattr(stage, field.name)))
                for other in others:
                    copy = object.__new__(type(stage))
                    for each in dataclasses.fields(stage):
                        object.__setattr__(copy, each.name, getattr(stage, each.name))
                    object.__setattr__(copy, field.name, other)
                    assert copy.fingerprint != stage.fingerprint, f"{name}.{field.name}: {other!r}"


def test_every_stage_occurs_in_a_graph(every: dict[str, list[Stage[Any]]]) -> None:
    assert set(all_stages()) - set(every) == {"viewer"}, "the report makes viewer"


def test_each_file_holds_one_stage_named_like_it() -> None:
    for name, kind in all_stages().items():
        assert Path(inspect.getfile(kind)).stem.rstrip("_") == name == kind.name
        assert kind.version >= 1 and issubclass(kind.record, Record) and kind.__doc__


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(value):
        each = getattr(value, field.name)
        if dataclasses.is_dataclass(each):
            yield from leaves(each, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def test_every_setting_is_hashed_by_some_stage() -> None:
    """Else two runs that differ in it would share their artifacts without a word."""
    configs = {name: config(name) for name in SETTINGS}
    known = {name: {s.fingerprint for s in stages_of(cfg)} for name, cfg in configs.items()}
    free = set()
    for name, cfg in configs.items():
        for field, other in variants(cfg):
            if {s.fingerprint for s in stages_of(other)} != known[name]:
                free.discard(field)
                seen.add(field)
            elif field not in seen:
                free.add(field)
    assert free <= NAMES, f"no stage hashes {sorted(free - NAMES)}"


seen: set[str] = set()
NAMES = {
    "subject.name",
    "data.name",
    "labeler.name",
    "judge.name",
    "data.path",
    "subject.path",
    "nodes.path",
}
"""Shown only, or hashed by what they lead to."""


def variants(cfg: Config) -> Iterator[tuple[str, Config]]:
    """The configuration with one field of a run's identity changed."""
    for dotted in identity(cfg):
        *groups, name = dotted.replace("continue.", "continue_.").split(".")
        if len(groups) > 1:
            continue
        group = getattr(cfg, groups[0]) if groups else cfg
        if not hasattr(group, name):
            continue
        for other in changed(getattr(group, name)):
            copy = object.__new__(type(group))
            for field in dataclasses.fields(group):
                object.__setattr__(copy, field.name, getattr(group, field.name))
            object.__setattr__(copy, name, other)
            if not groups:
                yield dotted, copy
                continue
            whole = object.__new__(Config)
            for field in dataclasses.fields(Config):
                object.__setattr__(whole, field.name, getattr(cfg, field.name))
            object.__setattr__(whole, groups[0], copy)
            yield dotted, whole
