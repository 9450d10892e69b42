"""`lines.json` of a run: what each stage says of its result, as its record words it.

    {"shared": {link name: [line, ...]}, "layers": {layer: {link name: [line, ...]}}}

It is written beside the summary, because the records need the stages' imports, and whoever reads a
finished run should not wait for those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from interp_by_construction.engine.disk import write_json
from interp_by_construction.engine.records import Record, from_json
from interp_by_construction.engine.run_directory import LINES, RunDirectory
from interp_by_construction.engine.stage import Stage
from interp_by_construction.engine.store import Artifact
from interp_by_construction.results.finished import Artifacts, Finished
from interp_by_construction.stages import all_stages


def write_lines(run: RunDirectory, found: Finished) -> None:
    """Writes the file. Stages that say nothing have an empty list."""
    classes = all_stages()
    layers = {str(layer): _of_all(each, classes) for layer, each in found.layers.items()}
    content = {"shared": _of_all(found.shared, classes), "layers": layers}
    write_json(run.path / LINES, content, sort=False)


def _of_all(artifacts: Artifacts, classes: Mapping[str, type[Stage[Any]]]) -> dict[str, list[str]]:
    return {
        name: list(lines_of(name, artifact, classes.get(artifact.stage)))
        for name, artifact in artifacts.items()
    }


def lines_of(name: str, artifact: Artifact, kind: type[Stage[Any]] | None) -> Iterator[str]:
    """What a stage says, which its link in the run calls `name`. The default lines of a record are
    for measurements only. kind: its class, None if this version has none."""
    if kind is None:
        return
    default = kind.record.lines is Record.lines
    if default and not (hasattr(kind, "examine") or hasattr(kind, "examine_all")):
        return
    record = from_json(kind.record, artifact.metrics)
    yield from (f"{name}: {line}" if default else line for line in record.lines())
