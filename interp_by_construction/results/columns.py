"""Columns of the node table from stages whose records declare none themselves yet."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from interp_by_construction.engine.records import Column
from interp_by_construction.engine.store import METRICS
from interp_by_construction.stages.evaluate import read_truth
from interp_by_construction.subject.nodes import read_promoted

SCORES = ("before", "after", "final", "shuffled", "exact")
TRUTH = ("concept", "r", "auc", "rule", "rule_r", "rule_auc")


def _numbers(name: str, nodes: Iterable[int], values: Iterable[float]) -> Column:
    known = {
        int(node): float(value)
        for node, value in zip(nodes, values, strict=True)
        if not math.isnan(value)
    }
    return Column(name, "float", known)


def evaluate(folder: Path) -> list[Column]:
    """`score_<moment>`; `truth_*` against the lexicon, and against the rules where the lexicon
    names no concept."""
    scores, truth = load_file(folder / "scores.safetensors"), read_truth(folder)
    names = {f"score_{name}": name for name in SCORES} | {"score_exact_before": "exact_before"}
    columns = [_numbers(name, scores["nodes"], scores[key]) for name, key in names.items()]
    for name in (*TRUTH, "r_before"):
        kind = "string" if name in ("concept", "rule") else "float"
        values = {node: record.get(name) for node, record in truth.items()}
        columns.append(Column(f"truth_{name}", kind, values))
    return columns


def function(folder: Path) -> list[Column]:
    """Output tokens of the final model that an aligned node makes likelier and less likely."""
    promoted = read_promoted(folder)
    return [
        Column(name, "strings", {node: record.get(name) for node, record in promoted.items()})
        for name in ("promotes", "suppresses")
    ]


def judge(folder: Path) -> list[Column]:
    """`<method>_<role>` is the final score, `<method>_<role>_before` that before alignment. The
    role is labeler, judge or head, so that columns are called the same whatever model plays it.
    Methods that compare texts have no role, and no moment but the final one."""
    metrics: dict[str, Any] = json.loads((folder / METRICS).read_text())
    values = load_file(folder / "judge.safetensors")
    roles = {metrics["judges"][role]: role for role in ("judge", "labeler")} | {"head": "head"}
    moments: dict[tuple[str, str | None], set[str]] = {}
    for row in metrics["scores"]:
        moments.setdefault((row["method"], row["judge"]), set()).add(row["moment"])
    columns = []
    for (method, judge), known in moments.items():
        name = method if judge is None else f"{method}_{roles[judge]}"
        for moment, suffix in (("before", "_before"), ("final", "")):
            if moment in known:
                key = f"{method}/{judge or 'text'}/{moment}"
                columns.append(_numbers(name + suffix, values["nodes"], values[key]))
    return columns


UNDECLARED: dict[str, Callable[[Path], list[Column]]] = {
    "evaluate": evaluate,
    "function": function,
    "judge": judge,
}
