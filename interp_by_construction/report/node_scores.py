"""The scores of one node as rows, whatever methods and judges the run has. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interp_by_construction.results.method_scores import SIMULATION, STRONG_TOKENS

TEXT_COLUMNS = (
    "layer node pole label source status top_tokens first_label contextual promotes suppresses added"
).split()
"""Columns of nodes.parquet that are no scores."""
MOMENTS = ("before", "after", "final", "shuffled")
TRUTH_TEXT = {"truth_concept": "concept", "truth_rule": "rule"}
"""Columns of nodes.parquet that name what a node's ground truth is."""
OWN_NAMES = {
    "score": (SIMULATION, "simulator"),
    "score_exact": (SIMULATION, "labeler, exact"),
    "score_rules": (SIMULATION, "rule, no language model"),
    "score_second": (SIMULATION, "second simulator"),
    "score_auprc": (STRONG_TOKENS["auprc"], "simulator"),
    "score_f1": (STRONG_TOKENS["f1"], "simulator"),
    "first_r": ("first answer of the labeler, r on the select split", "simulator"),
    "table_r": ("simulation r", "the node's own mean per token"),
    "truth_r": ("ground truth, r", "corpus"),
    "truth_auc": ("ground truth, AUC", "corpus"),
    "truth_rule_r": ("ground truth by a rule, r", "corpus"),
    "truth_rule_auc": ("ground truth by a rule, AUC", "corpus"),
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
    return OWN_NAMES.get(name, (name.replace("_", " "), ""))
