"""What the stages of a layer say about their results, a line each, for terminal and report.

Records are read from `summary.json` by the class of their stage, so that a stage that is new says
its lines without a change here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from interp_by_construction.engine.records import Record, from_json
from interp_by_construction.engine.run_directory import Link, RunDirectory
from interp_by_construction.engine.stage import Stage
from interp_by_construction.stages.registry import all_stages

Lines = Iterator[str]
Classes = Mapping[str, type[Stage[Any]]]


@dataclass(frozen=True)
class StageFacts:
    """What one stage recorded."""

    name: str
    """Its link name in the run."""
    lines: list[str]
    values: dict[str, Any]
    """Its record, without curves."""


def stage_facts(
    run: RunDirectory, records: Mapping[str, Any], layer: int | None
) -> list[StageFacts]:
    """Of all stages of a layer, or of those that belong to none, in the order of computation.
    records: link name -> record, among other things."""
    classes = all_stages()
    return [
        StageFacts(link.name, list(_lines(link, records[link.name], classes)), records[link.name])
        for link in run.links
        if link.layer == layer and records.get(link.name) is not None
    ]


def _lines(link: Link, values: Mapping[str, Any], classes: Classes) -> Lines:
    """What a record says by default is shown of measurements only."""
    kind = classes.get(link.stage)
    if kind is not None and kind.record.lines is not Record.lines:
        yield from _record(kind, values).lines()
    elif kind is not None and any(hasattr(kind, name) for name in ("examine", "examine_all")):
        yield from (f"{link.name}: {line}" for line in _record(kind, values).lines())


def _record(kind: type[Stage[Any]], values: Mapping[str, Any]) -> Record:
    """Beside a record's own values the summary may hold what was derived from them."""
    own = [each.name for each in dataclasses.fields(kind.record)]
    record: Record = from_json(kind.record, {name: values[name] for name in own if name in values})
    return record
