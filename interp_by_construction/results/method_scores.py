"""Scores of one layer by method, judge and moment: from `evaluate`, `function`, `judge`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from interp_by_construction.config import Config
from interp_by_construction.results.finished import Artifacts
from interp_by_construction.scoring.score_table import Row, RowSummary

SIMULATION = "simulation r, all text"
"""Name of the scores of evaluate in tables."""
STRONG_TOKENS = {"auprc": "strong tokens, AUPRC", "f1": "strong tokens, F1"}
"""The same of those that are no correlation, see `scoring.detection_scores`."""


def scores_by_method(artifacts: Artifacts, cfg: Config) -> list[dict[str, Any]]:
    """Records of method, judge, self_judged, moment, mean, ci95, n, n_undefined and n_not_asked
    (the last three are all nodes).

    moment: before or final, and of the final model shuffled (other nodes' labels, or what chance
    gives), empty_label and common_label. `simulation` is over all of the scored text,
    `simulation_top|random|combined` over excerpts.
    """
    scores = artifacts["evaluate"].metrics["score"]
    moments = {name: name for name in ("before", "final", "shuffled")}
    records = _simulation(scores, moments, cfg.labeler.model)
    if scores["final"]["simulator"] != scores["exact"]["simulator"]:
        beside = {"before": "exact_before", "final": "exact", "shuffled": "exact_shuffled"}
        records += _simulation(scores, beside, cfg.labeler.model)
    if scores.get("second") is not None:
        beside = {"before": "second_before", "final": "second", "shuffled": "second_shuffled"}
        records += _simulation(scores, beside, cfg.labeler.model)
    if scores["rules"]["n"]:
        beside = {"before": "rules_before", "final": "rules", "shuffled": "rules_shuffled"}
        records += _simulation(scores, beside, cfg.labeler.model)
    for name, title in STRONG_TOKENS.items():
        if name in scores:
            of = {"before": f"{name}_before", "final": name, "shuffled": f"{name}_shuffled"}
            records += _simulation(scores, of, cfg.labeler.model, name, title)
    if "function" in artifacts:
        records += _own_label_first(artifacts, cfg)
    if "judge" in artifacts:
        records += artifacts["judge"].metrics["scores"]
    return records


def _simulation(
    scores: dict[str, Any],
    moments: dict[str, str],
    labeler: str,
    method: str = "simulation",
    title: str = SIMULATION,
) -> list[dict[str, Any]]:
    """moments: moment -> name of its score. The judge of exact simulation is the labeler. Any other
    simulator is its own judge."""
    exact, kept = scores["exact"]["simulator"], ("self_judged", "mean", "ci95", "n", "n_undefined")
    records = []
    for moment, name in moments.items():
        simulator = scores[name]["simulator"]
        record = {
            "method": method,
            "title": title,
            "judge": labeler if simulator == exact else simulator,
            "moment": moment,
            "n_not_asked": 0,
        }
        records.append(record | {key: scores[name][key] for key in kept})
    return records


def _own_label_first(artifacts: Artifacts, cfg: Config) -> list[dict[str, Any]]:
    """Share of nodes whose own label predicts them best among their layer's."""
    function = artifacts["function"]
    ranks = load_file(function.path / "function.safetensors")
    final = artifacts["evaluate"].metrics["score"]["final"]
    chance = function.metrics["final"]["own_label_rank"]["chance_top1_rate"]
    first = {
        moment: np.where(np.isnan(ranks[f"{moment}.rank"]), math.nan, ranks[f"{moment}.rank"] == 1)
        for moment in ("before", "final")
    }
    undefined = np.isnan(ranks["final.rank"]) | (chance is None)
    first["shuffled"] = np.where(undefined, math.nan, chance or math.nan)
    of = ("own_label_first", "own label ranked first", final["simulator"], final["self_judged"])
    rows = [Row(*of, moment, values) for moment, values in first.items()]
    return [asdict(RowSummary.of(row, cfg.evaluate.n_bootstrap, cfg.seed)) for row in rows]
