"""The sections of a run's page: layers, curves, scores by method, where the work hides, cost."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from interp_by_construction.report.charts import Line, line_chart
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.report.terminal import METHODS, MOMENTS
from interp_by_construction.store import Artifact

CHAINS = {"this run": ("align", "continue"), "control": ("control",), "freeze-only": ("freeze_only",)}
"""Curve -> the stages that train it, in their order."""
HIDES = ("work", "function", "cumulative", "audit")
"""Records of a layer that say what flows around or through the labels."""
HIDES_IN_TOTAL = ("work", "trigger")


def curves(facts: RunFacts, layer: int) -> list[dict[str, Any]]:
    """Charts of one layer's training: loss by step, then the alignment loss of its local phase, then what else is a curve."""
    artifacts = facts.artifacts(layer)
    charts = []
    language, alignment = _training_lines(artifacts)
    if language:
        aligned = facts.layer(layer)["n_aligned"]
        note = "While it aligns, this run's curve is LM loss plus weighted alignment loss." if aligned else ""
        title = f"Training loss, layer {layer}"
        charts.append({"title": title, "note": note, "svg": _chart(language, "loss (nats per token)", title)})
    if alignment:
        title = f"Alignment loss, layer {layer}"
        note = "Mean over nodes of 1 − r with the simulated node."
        charts.append({"title": title, "note": note, "svg": _chart(alignment, "alignment loss (1 − r)", title)})
    return charts


def _training_lines(artifacts: dict[str, Artifact]) -> tuple[list[Line], list[Line]]:
    """Curves of LM loss, one per chain of stages, and of alignment loss. Steps count on through the phases of a layer."""
    language, alignment = [], []
    for name, stages in CHAINS.items():
        points: list[tuple[float, float]] = []
        step = 0
        for stage in stages:
            metrics = artifacts[stage].metrics if stage in artifacts else {}
            for phase, record in _phases(stage, metrics):
                for key, curve in _curves(record):
                    moved = [(step + at, loss) for at, loss in curve]
                    own_loss = (stage == "align" and phase == "local") or "align" in key
                    if own_loss:
                        alignment.append(Line(f"{phase} phase", moved))
                    elif key == "curve":
                        points += moved
                    else:
                        language.append(Line(f"{name}: {key.replace('_', ' ')}", moved))
                step += int(record.get("steps", 0))
        if points:
            language.insert(min(len(language), list(CHAINS).index(name)), Line(name, points))
    return [line for line in language if line.points][:6], [line for line in alignment if line.points][:6]


def _phases(stage: str, metrics: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Phases in the order that they are trained in; a stage of one phase is its own."""
    if _curves(metrics):
        return [(stage, metrics)]
    order = {"local": 0, "joint": 1, "continue": 2}
    phases = [(name, record) for name, record in metrics.items() if isinstance(record, dict) and _curves(record)]
    return sorted(phases, key=lambda phase: order.get(phase[0], len(order)))


def _curves(record: dict[str, Any]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Everything in a record that is a list of [step, value]."""
    return [
        (key, [(float(a), float(b)) for a, b in value])
        for key, value in record.items()
        if isinstance(value, list) and value and all(isinstance(item, list) and len(item) == 2 for item in value)
    ]


def _chart(lines: list[Line], y_label: str, title: str) -> Markup:
    return line_chart(lines, "step of the layer", y_label, f"{title}: {', '.join(line.name for line in lines)}")


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
