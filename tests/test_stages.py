"""Laws of all stages: what a stage reads is hashed, and every setting of a run is hashed somewhere.

Graphs are built, nothing is computed.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from stage_jobs import ancestry

from interp_by_construction.config import Config, compose, identity
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.runtime import Handle
from interp_by_construction.engine.stage import Given, Stage
from interp_by_construction.errors import IbcError
from interp_by_construction.llm import identity as llm_identity
from interp_by_construction.schedules.plan import graph_of
from interp_by_construction.stages import all_stages

ENDPOINT = [
    "labeler=endpoint",
    "labeler.url=http://127.0.0.1:1",
    "labeler.classify_url=http://127.0.0.1:1",
]
SETTINGS = {
    "loop": [],
    "exact": ["simulate.simulator=exact", "label.select_tokens=64"],
    "joint": ["simulate.simulator=head", "schedule=joint", "align.distill=1"],
    "dictionary": ["nodes=transcoder", "align.distill=1"],
    "head": [
        "simulate.simulator=head",
        "nodes.assign=match",
        "label.audit_rounds=1",
        "judge=endpoint",
        "judge.classify_url=http://127.0.0.1:2",
        "trigger.share=0.1",
    ],
    "shipped": ["data=tales", "subject.pretrain_steps=6000", "trainer.weight_decay=0.1"],
    "pretrained": ["labeler=smollm2", "subject=smollm2", "subject.adapt_steps=1"],
}


def config(name: str) -> Config:
    return compose([*ENDPOINT, "layer=[0,1]", *SETTINGS[name]])


def stages_of(cfg: Config, layers: Sequence[int] = (0, 1)) -> list[Stage[Any]]:
    return list(ancestry([stage for _, _, stage in graph_of(cfg, layers).links()]))


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
        for stage in {stage.fingerprint: stage for stage in stages}.values():
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


def test_each_stage_says_in_plain_words_what_it_does() -> None:
    """On one line of the terminal, behind its name."""
    said = {name: vars(kind).get("says", "") for name, kind in all_stages().items()}
    wrong = {
        name: words
        for name, words in said.items()
        if not (20 <= len(words) <= 60) or not words[:1].islower() or words.endswith(".")
    }
    assert not wrong and len(set(said.values())) == len(said)


SHOWN = {"subject.name", "data.name", "labeler.name", "judge.name"}
"""Names that are shown in tables and decide nothing."""
LED_TO = {
    "data.path",
    "labeler.adapter",
    "labeler.tokenizer",
    "nodes.path",
    "simulate.head",
    "simulate.second_head",
    "subject.path",
    "subject.revision",
}
"""What they lead to is hashed by its content, and is missing here."""


def replaced(value: Any, dotted: str, other: Any) -> Any:
    """A copy of a configuration with one field changed, unchecked."""
    name, _, rest = dotted.partition(".")
    copy = object.__new__(type(value))
    for field in dataclasses.fields(value):
        object.__setattr__(copy, field.name, getattr(value, field.name))
    object.__setattr__(copy, name, replaced(getattr(value, name), rest, other) if rest else other)
    return copy


def other_values(cfg: Config, dotted: str) -> Iterator[Any]:
    """Allowed values of a field where only some are, else any."""
    *groups, name = dotted.split(".")
    group: Any = cfg
    for each in groups:
        group = getattr(group, each)
    hint, value = typing.get_type_hints(type(group))[name], getattr(group, name)
    choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    yield from (each for each in choices if each != value) if choices else islice(changed(value), 1)


def is_hashed(cfg: Config, dotted: str, known: set[str]) -> bool:
    """Whether changing the field moves a fingerprint, or is refused."""
    for other in other_values(cfg, dotted):
        try:
            found = {stage.fingerprint for stage in stages_of(replaced(cfg, dotted, other), [0])}
        except (IbcError, OSError):
            continue
        if found == known:
            return False
    return True


def test_every_setting_of_a_run_is_hashed_by_some_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two runs that differ in it would share their artifacts without a word."""
    # No hub is asked.
    monkeypatch.setattr(llm_identity, "commit_of", lambda name: name)
    waiting = (
        {
            field.replace("continue.", "continue_.")
            for name in SETTINGS
            for field in identity(config(name))
            if not field.startswith(("data.fractions.", "judge"))
        }
        - SHOWN
        - LED_TO
    )
    for name in SETTINGS:
        cfg = config(name)
        known = {stage.fingerprint for stage in stages_of(cfg, [0])}
        waiting = {field for field in waiting if not is_hashed(cfg, field, known)}
    assert not waiting
