"""Records as JSON lines: one object per line, sorted keys, so that equal records give equal
bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from interp_by_construction.subject.records import Excerpt, Label, Node, Proposal


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    lines = (
        json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
        for record in records
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_records(path: Path) -> list[dict[str, Any]]:
    # Not splitlines: a token may hold U+2028, which is legal inside a JSON string.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def read_nodes(path: Path) -> list[Node]:
    """The chosen nodes of a collect artifact, each by its dominant pole."""
    return _nodes(path / "nodes.jsonl")


def read_opposites(path: Path) -> list[Node]:
    """The other pole of the nodes that take both signs; none with nodes.poles=dominant."""
    return _nodes(path / "opposites.jsonl")


def _nodes(file: Path) -> list[Node]:
    nodes = []
    for record in read_records(file):
        for kind in ("top", "quantiles", "near_misses", "random"):
            record[kind] = [Excerpt(**excerpt) for excerpt in record[kind]]
        nodes.append(Node(**record))
    return nodes


def read_labels(path: Path) -> list[Label]:
    """The labels of a label or assign artifact, in the node order of `collect`."""
    return [Label(**record) for record in read_records(path / "labels.jsonl")]


def read_proposals(path: Path) -> list[str]:
    """All labels that were proposed for a layer's nodes, revisions and repeats included, of a label
    artifact."""
    return [proposal.text for proposal in read_history(path) if proposal.text is not None]


def read_history(path: Path) -> list[Proposal]:
    """Every answer of a label artifact, in the node order of `collect`, oldest first."""
    return [Proposal(**record) for record in read_records(path / "history.jsonl")]


def read_promoted(path: Path, moment: str = "final") -> dict[int, dict[str, Any]]:
    """Node -> the output tokens it promotes in one model, of a function artifact; empty where none
    were written."""
    file = path / "promoted.jsonl"
    return (
        {each["node"]: each for each in read_records(file) if each["moment"] == moment}
        if file.is_file()
        else {}
    )


def aligned_nodes(path: Path) -> list[int]:
    """The nodes that have a label, ascending, of a label or assign artifact."""
    return sorted(label.node for label in read_labels(path) if label.text is not None)
