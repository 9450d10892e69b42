"""The sections of a run's page: scores by method, where the work hides, cost."""

from __future__ import annotations

from typing import Any

from interp_by_construction.report.facts import RunFacts
from interp_by_construction.report.terminal import METHODS, MOMENTS

HIDES = ("work", "function", "cumulative", "audit")
"""Records of a layer that say what flows around or through the labels."""
HIDES_IN_TOTAL = ("work", "trigger")


def method_rows(layer: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per method and judge, the moments beside each other."""
    rows: dict[tuple[str, str | None], dict[str, Any]] = {}
    for record in layer.get("scores_by_method", []):
        rows.setdefault((record["method"], record["judge"]), {})[record["moment"]] = record
    order = {method: place for place, method in enumerate(METHODS)}
    return [
        {
            "method": METHODS.get(method, method.replace("_", " ")),
            "judge": judge or "text",
            "self_judged": any(record["self_judged"] for record in moments.values()),
            "n": moments.get("final", next(iter(moments.values())))["n"],
            "moments": [moments.get(name) for name in MOMENTS],
        }
        for (method, judge), moments in sorted(rows.items(), key=lambda row: order.get(row[0][0], len(order)))
    ]


def hidden_work(facts: RunFacts) -> list[dict[str, Any]]:
    """Every record that says where the work hides, by layer and in total."""
    found = [
        {"title": f"Layer {layer['layer']}: {name}", "value": layer[name], "open": name == "work"}
        for layer in facts.summary["layers"]
        for name in HIDES
        if layer.get(name)
    ]
    total = [
        {"title": f"All layers: {name}", "value": facts.summary[name], "open": True}
        for name in HIDES_IN_TOTAL
        if facts.summary.get(name)
    ]
    return total + found


def cost(facts: RunFacts) -> dict[str, Any]:
    """Seconds and labeler tokens by stage, per layer; what layers share stands apart."""
    layers, stages = facts.summary["layers"], list(dict.fromkeys(s for layer in facts.summary["layers"] for s in layer["seconds"]))
    rows = []
    # An artifact that layers share counts once.
    counted: set[str] = set()
    for stage in stages:
        cells = []
        for layer in layers:
            fingerprint = layer["artifacts"].get(stage)
            fresh = fingerprint is not None and fingerprint not in counted
            counted |= {fingerprint} if fingerprint is not None else set()
            tokens = facts.artifacts(layer["layer"])[stage].labeler_tokens if fresh else 0
            cells.append({"seconds": layer["seconds"].get(stage), "tokens": tokens})
        rows.append({"stage": stage.replace("_", " "), "cells": cells})
    shared = [
        {"stage": stage, "seconds": facts.shared(stage, facts.store).seconds}
        for stage, fingerprint in facts.directory.state["shared"].items()
        if fingerprint not in counted
    ]
    by_layer = [[row["cells"][i] for row in rows] for i in range(len(layers))]
    totals = [{key: sum(cell[key] or 0 for cell in cells) for key in ("seconds", "tokens")} for cells in by_layer]
    labelled = [max(1, layer["n_aligned"] + layer.get("n_failed_labels", 0)) for layer in layers]
    return {"layers": facts.layers, "rows": rows, "shared": shared, "totals": totals, "labelled": labelled}
