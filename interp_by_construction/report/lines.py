"""What the stages of a run recorded, with the lines that they say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interp_by_construction.engine.run_directory import RunDirectory


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
    records: link name -> record; other keys are ignored. Stages of a run that wrote no lines have
    none."""
    said = run.lines["shared"] if layer is None else run.lines["layers"].get(str(layer), {})
    return [
        StageFacts(link.name, said.get(link.name, []), values)
        for link in run.links
        if link.layer == layer and (values := records.get(link.name)) is not None
    ]
