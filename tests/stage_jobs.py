"""One stage on folders that are there already, without a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from interp_by_construction.engine.records import Record
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.stage import Given, Job, Stage
from interp_by_construction.labelling.labels import Label

R = TypeVar("R", bound=Record)


def given(folder: Path) -> Given:
    """A folder as a parent, known by its path."""
    return Given(folder, str(folder))


@contextmanager
def untracked(stage: str, layer: int | None) -> Iterator[Any]:
    """No logger."""
    yield False


def runtime(tmp: Path, seconds: float = 0.0) -> Runtime:
    """One thread on the CPU; by default checkpoints after every step."""
    return Runtime("cpu", 1, 1, seconds, untracked, tmp / "calls.sqlite", tmp / "logs")


def compute(stage: Stage[R], out: Path, work: Runtime | None = None) -> R:
    """Runs a stage whose parents are all given; its files are in `out`."""
    (out / "scratch").mkdir(parents=True, exist_ok=True)
    folders = {
        each.fingerprint: each.folder for each in stage.parents.values() if isinstance(each, Given)
    }
    return stage.compute(Job(stage, out, work or runtime(out.parent), folders))


def ancestry(stages: Sequence[Stage[Any]]) -> Iterator[Stage[Any]]:
    """The stages and all that they are computed from, parents first, each once."""
    seen: set[str] = set()

    def walk(stage: Stage[Any]) -> Iterator[Stage[Any]]:
        if stage.fingerprint not in seen:
            seen.add(stage.fingerprint)
            for parent in stage.parents.values():
                yield from walk(parent)
            yield stage

    for stage in stages:
        yield from walk(stage)


def labelled(folder: Path, nodes: Sequence[int], poles: Sequence[int] | None = None) -> Given:
    """A label artifact in which exactly `nodes` have labels."""
    folder.mkdir(parents=True, exist_ok=True)
    poles = [1] * len(nodes) if poles is None else poles
    labels = [
        Label(node, pole, f"label {node}", "aligned", 1, None)
        for node, pole in zip(nodes, poles, strict=True)
    ]
    write_rows(folder / "labels.jsonl", [asdict(label) for label in labels])
    return given(folder)
