"""One page per node: label, scores, real and simulated activations on text, neighbours, output
tokens, and the history of the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from interp_by_construction.engine.progress import track
from interp_by_construction.report.charts import histogram
from interp_by_construction.report.layer_view import LayerView, excerpt_groups, ranked
from interp_by_construction.report.node_scores import MOMENTS, TRUTH_TEXT, score_rows
from interp_by_construction.report.site import render, token
from interp_by_construction.subject.nodes import shown_at

LEVELS = 9
"""Steps of the colour scale from 0 to the largest activation."""


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
            for title, note, part in excerpt_groups(viewer["excerpts"])
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
    word = tokens[shown_at(tokens, peak)].strip()
    return Markup(
        f'<figure class="excerpt" tabindex="0" {" ".join(data)}><div class="lines">{"".join(lines)}</div>'
        f"<figcaption>peak at “{escape(word)}”: {said}</figcaption></figure>"
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
    return f'<div class="line {name}"{hidden}><span class="which">{name}</span><code dir="auto">{"".join(cells)}</code></div>'


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
