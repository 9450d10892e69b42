"""All that is known about the nodes of one layer of a finished run. Light to import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp_by_construction.engine.rows import read_rows
from interp_by_construction.engine.store import Artifact
from interp_by_construction.labelling.labels import Label, Proposal, read_history, read_labels
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.report.viewed import VIEWED
from interp_by_construction.subject.nodes import read_promoted

N_CASES = 6


@dataclass
class LayerView:
    """All that the pages of one layer's nodes show; tables by node."""

    layer: int
    rows: dict[int, dict[str, Any]]
    """Of nodes.parquet."""
    viewer: dict[int, dict[str, Any]]
    viewer_metrics: dict[str, Any]
    promoted: dict[int, dict[str, Any]]
    cases: dict[int, list[dict[str, Any]]]
    history: dict[int, list[Proposal]]
    labels: dict[int, Label]
    titles: dict[str, str]
    """Method of a score -> what tables call it."""
    matched: dict[int, dict[str, Any]]


def read_layer(
    facts: RunFacts, layer: int, rows: Iterable[dict[str, Any]], viewer: Artifact
) -> LayerView:
    """rows: of nodes.parquet; those of other layers are ignored. Raises StoreError if an artifact
    is gone."""
    artifacts = facts.artifacts(layer)
    promoted = read_promoted(viewer.path)
    promoted |= read_promoted(artifacts["function"].path) if "function" in artifacts else {}
    history: dict[int, list[Proposal]] = {}
    for proposal in read_history(artifacts["label"].path) if "label" in artifacts else []:
        history.setdefault(proposal.node, []).append(proposal)
    matched = read_rows(artifacts["assign"].path / "matched.jsonl") if "assign" in artifacts else []
    return LayerView(
        layer=layer,
        rows={row["node"]: row for row in rows if row["layer"] == layer},
        viewer={record["node"]: record for record in read_rows(viewer.path / VIEWED)},
        viewer_metrics=viewer.metrics,
        promoted=promoted,
        cases=_cases(artifacts["audit"].path) if "audit" in artifacts else {},
        history=history,
        labels={label.node: label for label in read_labels(facts.labels(layer).path)},
        titles={each["method"]: each["title"] for each in facts.layer(layer)["scores_by_method"]},
        matched={record["node"]: record for record in matched},
    )


def _cases(audit: Path) -> dict[int, list[dict[str, Any]]]:
    """Node -> where node and label differ most in the final model, worst first."""
    found: dict[int, list[dict[str, Any]]] = {}
    for record in read_rows(audit / "audit.jsonl"):
        if record["moment"] == "final":
            found.setdefault(record["node"], []).append(record)
    return {
        node: sorted(cases, key=lambda case: -case["gap"])[:N_CASES]
        for node, cases in found.items()
    }


def ranked(rows: Iterable[Mapping[str, Any]]) -> list[int]:
    """Node ids in the order of pages and tables: the labelled ones by final score, the best first,
    then failed and free ones."""
    order = {"aligned": 0, "failed": 1}

    def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
        score = row["score_final"]
        return order.get(row["status"], 2), score is None, -(score or 0.0), row["node"]

    return [row["node"] for row in sorted(rows, key=place)]


def excerpt_groups(
    excerpts: Sequence[dict[str, Any]],
) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """(title, note, excerpts) of what the viewer chose of a node, the most telling first."""

    def of(kind: str) -> list[dict[str, Any]]:
        return [each for each in excerpts if each["kind"] == kind]

    yield "Strongest", "Where the node is most active.", of("top")
    bands = sorted({each["band"] for each in of("quantile")}, reverse=True)
    for band in bands:
        title = f"Quantile {20 * (band - 1)}–{20 * band} %"
        note = "Excerpts by their peak." if band == bands[0] else ""
        yield title, note, [each for each in excerpts if each["band"] == band]
    yield "Label expects most", "Where the simulation is highest.", of("simulated")
    yield "Largest differences", "Of real and simulated, on this text.", of("differs")
