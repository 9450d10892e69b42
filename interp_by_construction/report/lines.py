"""What the stages of a layer say about their results, a line each, for terminal and report.

Records are read from `summary.json` by the class of their stage, so that a stage that is new says
its lines without a change here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
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
    elif link.stage in UNDECLARED:
        yield from UNDECLARED[link.stage](values)
    elif kind is not None and any(hasattr(kind, name) for name in ("examine", "examine_all")):
        yield from (f"{link.name}: {line}" for line in _record(kind, values).lines())


def _record(kind: type[Stage[Any]], values: Mapping[str, Any]) -> Record:
    """Beside a record's own values the summary may hold what was derived from them."""
    own = [each.name for each in dataclasses.fields(kind.record)]
    record: Record = from_json(kind.record, {name: values[name] for name in own if name in values})
    return record


def number(value: float | None) -> str:
    """Two digits, or that there is no value."""
    return "undefined" if value is None else f"{value:.2f}"


# From here on: stages whose records declare no lines themselves yet.


def _assign(values: Mapping[str, Any]) -> Lines:
    yield (
        f"labels matched on the label split: r {number(values['r_mean_before'])} -> "
        f"{number(values['r_mean_after'])}, pool of {values['n_pool']}, "
        f"share from the labeler {number(values['share_from_labeler'])}, "
        f"{values['n_failed_labeler']} nodes the labeler failed on"
    )


def _dictionary(values: Mapping[str, Any]) -> Lines:
    kept = "ReLU" if values["k"] is None else f"TopK {values['k']}"
    yield (
        f"nodes are features of a {values['source']} transcoder "
        f"({kept}{', skip' if values['skip'] else ''}): {values['fvu']:.3f} of the MLP's variance "
        f"unexplained, {values['l0']:.1f} of {values['n_features']} active per token, "
        f"{values['n_dead']} dead"
    )


UNDECLARED: dict[str, Callable[[Mapping[str, Any]], Lines]] = {
    "assign": _assign,
    "dictionary": _dictionary,
    # What these say stands in tables of their own.
    "removed": lambda values: iter(()),
}
