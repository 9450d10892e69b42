"""One page per node: label, scores, real and simulated activations on text, neighbours, output
tokens, and the history of the label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from interp_by_construction.engine.progress import track
from interp_by_construction.engine.rows import read_rows
from interp_by_construction.labelling.labels import read_history, read_labels
from interp_by_construction.report.charts import histogram
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.report.site import render, token, words
from interp_by_construction.report.viewer import build_viewer
from interp_by_construction.results.method_scores import SIMULATION
from interp_by_construction.subject.nodes import read_promoted

LEVELS = 9
"""Steps of the colour scale from 0 to the largest activation."""
TEXT_COLUMNS = "layer node pole label status top_tokens promotes suppresses added".split()
"""Columns of nodes.parquet that are no scores."""
N_CASES = 6
MOMENTS = ("before", "after", "final", "shuffled")
TRUTH_TEXT = {"truth_concept": "concept", "truth_rule": "rule"}
"""Columns of nodes.parquet that name what a node's ground truth is."""
OWN_NAMES = {
    "score": (SIMULATION, "simulator"),
    "score_exact": (SIMULATION, "labeler, exact"),
    "truth_r": ("ground truth, r", "corpus"),
    "truth_auc": ("ground truth, AUC", "corpus"),
    "truth_rule_r": ("ground truth by a rule, r", "corpus"),
    "truth_rule_auc": ("ground truth by a rule, AUC", "corpus"),
}


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
    history: dict[int, list[Any]]
    labels: dict[int, Any]
    titles: dict[str, str]
    """Method of a score -> what tables call it."""
    matched: dict[int, dict[str, Any]]


def read_layer(facts: RunFacts, layer: int, rows: Sequence[dict[str, Any]]) -> LayerView:
    """Makes the viewer artifact if it is missing. Raises StoreError if another artifact is gone."""
    artifacts, viewer = facts.artifacts(layer), build_viewer(facts, layer)
    promoted = read_promoted(viewer.path)
    promoted |= read_promoted(artifacts["function"].path) if "function" in artifacts else {}
    history: dict[int, list[Any]] = {}
    for proposal in read_history(artifacts["label"].path) if "label" in artifacts else []:
        history.setdefault(proposal.node, []).append(proposal)
    matched = read_rows(artifacts["assign"].path / "matched.jsonl") if "assign" in artifacts else []
    return LayerView(
        layer=layer,
        rows={row["node"]: row for row in rows},
        viewer={record["node"]: record for record in read_rows(viewer.path / "viewer.jsonl")},
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


def write_nodes(
    views: Mapping[int, LayerView], out: Path, run: str, labelled_only: bool
) -> set[tuple[int, int]]:
    """Writes `nodes/L<layer>/<node>.html`; returns (layer, node) of the pages."""
    chosen = {
        (layer, node)
        for layer, view in views.items()
        for node, row in view.rows.items()
        if node in view.viewer and (row["status"] != "free" or not labelled_only)
    }
    for layer, view in views.items():
        nodes = [node for node in ranked(view.rows.values()) if (layer, node) in chosen]
        for i, node in enumerate(track(nodes, f"report layer {layer}")):
            render(
                "node.html",
                out / "nodes" / f"L{layer}" / f"{node}.html",
                2,
                run=run,
                previous=nodes[i - 1] if i else None,
                next=nodes[i + 1] if i + 1 < len(nodes) else None,
                **_page(view, views, node, chosen),
            )
    return chosen


def ranked(rows: Iterable[Mapping[str, Any]]) -> list[int]:
    """Node ids in the order of pages and tables: the labelled ones by final score, the best first,
    then failed and free ones."""
    order = {"aligned": 0, "failed": 1}

    def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
        score = row["score_final"]
        return order.get(row["status"], 2), score is None, -(score or 0.0), row["node"]

    return [row["node"] for row in sorted(rows, key=place)]


def _page(
    view: LayerView, views: Mapping[int, LayerView], node: int, chosen: set[tuple[int, int]]
) -> dict[str, Any]:
    row, viewer = view.rows[node], view.viewer[node]
    largest, counts = viewer["largest"], viewer["histogram"]
    described = f"Histogram of {sum(counts)} activations"
    return {
        "layer": view.layer,
        "node": node,
        "row": row,
        "scores": score_rows(row, view.titles),
        "moments": MOMENTS,
        "truth": [
            (what, row[name]) for name, what in TRUTH_TEXT.items() if row.get(name) is not None
        ],
        "histogram": histogram(counts, viewer["low"], viewer["high"], described),
        "n_tokens": sum(counts),
        "largest": largest,
        "calibrated_on": view.viewer_metrics["calibrated_on"],
        "levels": range(LEVELS + 1),
        "groups": [
            (title, note, [excerpt(each, largest) for each in part])
            for title, note, part in _groups(viewer["excerpts"])
            if part
        ],
        "cases": [_case(case, largest) for case in view.cases.get(node, [])],
        "incoming": _neighbours(viewer["incoming"], view.layer, -1, views, chosen),
        "outgoing": _neighbours(viewer["outgoing"], view.layer, 1, views, chosen),
        "promoted": view.promoted.get(node),
        "history": view.history.get(node, []),
        "label": view.labels.get(node),
        "matched": view.matched.get(node),
    }


@dataclass(frozen=True)
class ScoreRow:
    """One way of scoring a node, at all moments that it was measured at."""

    name: str
    by: str
    moments: dict[str, float | None]
    """None where undefined."""

    @property
    def defined(self) -> bool:
        """False where no moment has a value."""
        return any(value is not None for value in self.moments.values())


def score_rows(row: Mapping[str, Any], titles: Mapping[str, str]) -> list[ScoreRow]:
    """The scores in a row of nodes.parquet. `<name>_before` is `<name>` before alignment. The
    simulation score has all moments. titles: method -> its name in tables."""
    found: dict[str, dict[str, float | None]] = {}
    for column in row:
        if column in TEXT_COLUMNS or column in TRUTH_TEXT:
            continue
        name, _, moment = column.rpartition("_")
        if moment != "before" and not (name == "score" and moment in MOMENTS):
            name, moment = column, "final"
        found.setdefault(name, {})[moment] = row[column]
    return [ScoreRow(*_score_name(name, titles), moments) for name, moments in found.items()]


def _score_name(name: str, titles: Mapping[str, str]) -> tuple[str, str]:
    """What is measured, and by whom: columns are called `<method>_<role>`."""
    if name in titles:
        return titles[name], "text"
    for method in sorted(titles, key=len, reverse=True):
        if name.startswith(f"{method}_"):
            return titles[method], name.removeprefix(f"{method}_")
    return OWN_NAMES.get(name, (words(name), ""))


def _groups(excerpts: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """(title, note, excerpts)."""

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


def _case(case: dict[str, Any], largest: float) -> dict[str, Any]:
    said = "the label applies, the node is silent"
    if case["kind"] == "real_high":
        said = "the node is active, its label does not apply"
    how = "found in the select split"
    if case["source"] == "edited":
        how = f"{len(case.get('swaps', []))} tokens changed by search"
    return {"said": said, "gap": case["gap"], "how": how, "html": excerpt(case, largest)}


def excerpt(record: Mapping[str, Any], largest: float) -> Markup:
    """One line of tokens coloured by real activations and, where there are any, one coloured by
    simulated activations, on one scale from 0 to `largest`."""
    tokens, peak = [token(each) for each in record["tokens"]], record["peak"]
    shown = {name: record[name] for name in ("real", "simulated") if record[name] is not None}
    lines = [_line(name, tokens, values, largest, peak) for name, values in shown.items()]
    data = [f'data-{name}="{" ".join(map(str, values))}"' for name, values in shown.items()]
    said = ", ".join(f"{name} {values[peak]:g}" for name, values in shown.items())
    return Markup(
        f'<figure class="excerpt" tabindex="0" {" ".join(data)}><div class="lines">{"".join(lines)}</div>'
        f"<figcaption>peak at “{escape(tokens[peak].strip())}”: {said}</figcaption></figure>"
    )


def _line(
    name: str, tokens: Sequence[str], values: Sequence[float], largest: float, peak: int
) -> str:
    cells = []
    for i, (text, value) in enumerate(zip(tokens, values, strict=True)):
        level = round(min(1.0, abs(value) / largest) * LEVELS) if largest > 0 else 0
        classes = [f"{'p' if value > 0 else 'n'}{level}"] if level else []
        classes += ["k"] if i == peak else []
        marked = f' class="{" ".join(classes)}"' if classes else ""
        cells.append(f"<i{marked}>{escape(text)}</i>")
    # The second line repeats the text: once is enough for a screen reader.
    hidden = ' aria-hidden="true"' if name == "simulated" else ""
    return f'<div class="line {name}"{hidden}><span class="which">{name}</span><code>{"".join(cells)}</code></div>'


def _neighbours(
    edges: Sequence[Sequence[Any]],
    layer: int,
    side: int,
    views: Mapping[int, LayerView],
    chosen: set[tuple[int, int]],
) -> list[dict[str, Any]]:
    """Label, weight and page of the neighbours in the next aligned layer on one side."""
    others = sorted(index for index in views if (index - layer) * side > 0)
    if not others or not edges:
        return []
    other = others[0] if side > 0 else others[-1]
    rows, strongest = views[other].rows, max(abs(weight) for _, weight in edges) or 1.0
    return [
        {
            "layer": other,
            "node": node,
            "weight": weight,
            "label": rows[node]["label"],
            "share": round(100 * abs(weight) / strongest),
            "linked": (other, node) in chosen,
        }
        for node, weight in edges
    ]
