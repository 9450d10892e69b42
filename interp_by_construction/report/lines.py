"""The lines that stages say about their results, for terminal and report.

The class of a stage reads its record in `summary.json`. So a new stage needs no change here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from interp_by_construction.engine.records import Record, from_json
from interp_by_construction.engine.run_directory import Link, RunDirectory
from interp_by_construction.engine.stage import Stage
from interp_by_construction.stages import all_stages


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
    """Of all stages of a layer, or of those of the whole run (None), in the order of computation.
    records: link name -> record; other keys are ignored."""
    classes = all_stages()
    return [
        StageFacts(link.name, list(_lines(link, values, classes.get(link.stage))), values)
        for link in run.links
        if link.layer == layer and (values := records.get(link.name)) is not None
    ]


def _lines(link: Link, values: dict[str, Any], kind: type[Stage[Any]] | None) -> Iterator[str]:
    """The default lines of a record are shown for measurements only."""
    if kind is None:
        return
    default = kind.record.lines is Record.lines
    if default and not (hasattr(kind, "examine") or hasattr(kind, "examine_all")):
        return
    # The summary may hold derived values beside the record's own.
    own = [each.name for each in dataclasses.fields(kind.record)]
    record = from_json(kind.record, {name: values[name] for name in own if name in values})
    yield from (f"{link.name}: {line}" if default else line for line in record.lines())
