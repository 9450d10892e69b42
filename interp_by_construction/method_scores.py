"""Scores of one layer by method, judge and moment, for the summary and the table of nodes: from `evaluate`, `function`, `judge`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from interp_by_construction.config import Config

if TYPE_CHECKING:
    from interp_by_construction.workshop import Layer


def scores_by_method(layer: Layer, cfg: Config) -> list[dict[str, Any]]:
    """Records of method, judge, self_judged, moment, mean, ci95, n, n_undefined and n_not_asked (the last three are all nodes).

    moment: before or final, and of the final model shuffled (other nodes' labels, or what chance gives), empty_label and
    common_label. `simulation` is over all of the scored text, `simulation_top|random|combined` over excerpts.
    """
    evaluated = layer.artifacts["evaluate"].metrics["score"]
    records = [_simulation(evaluated[name], cfg, name) for name in ("before", "final", "shuffled")]
    if cfg.simulate.simulator == "head":
        exact = {"before": "exact_before", "final": "exact", "shuffled": "exact_shuffled"}
        records += [_simulation(evaluated[name], cfg, moment) for moment, name in exact.items()]
    records += _own_label_first(layer, cfg) if "function" in layer.artifacts else []
    return records + (layer.artifacts["judge"].metrics["scores"] if "judge" in layer.artifacts else [])


def _simulation(record: dict[str, Any], cfg: Config, moment: str) -> dict[str, Any]:
    judge = "head" if record["simulator"] == "head" else cfg.labeler.model
    kept = {key: record[key] for key in ("self_judged", "mean", "ci95", "n", "n_undefined")}
    return {"method": "simulation", "judge": judge, "moment": moment, "n_not_asked": 0, **kept}


def _own_label_first(layer: Layer, cfg: Config) -> list[dict[str, Any]]:
    """Share of nodes whose own label predicts them best among their layer's."""
    from safetensors.numpy import load_file

    from interp_by_construction.scoring.score_table import ScoreTable

    ranks = load_file(layer.artifacts["function"].path / "function.safetensors")
    head = layer.artifacts["evaluate"].metrics["score"]["final"]["self_judged"]
    table = ScoreTable(cfg.evaluate.n_bootstrap, cfg.seed)
    for moment in ("before", "final"):
        rank = ranks[f"{moment}.rank"]
        table.add("own_label_first", "head", head, moment, np.where(np.isnan(rank), math.nan, rank == 1))
    chance = layer.artifacts["function"].metrics["final"]["own_label_rank"]["chance_top1_rate"]
    undefined = np.isnan(ranks["final.rank"]) | (chance is None)
    table.add("own_label_first", "head", head, "shuffled", np.where(undefined, math.nan, chance or math.nan))
    return table.records()


def judged(layer: Layer) -> dict[str, Any] | None:
    """What the judge stage says beside its scores: thresholds, the common label, who judged; null where the run leaves it out."""
    if "judge" not in layer.artifacts:
        return None
    return {key: value for key, value in layer.artifacts["judge"].metrics.items() if key != "scores"}


def node_columns(layer: Layer) -> dict[int, dict[str, float | None]]:
    """Node -> `<method>_<role>` -> its score by the judge stage in the final model, null where undefined.

    The role is labeler, judge or head, so that columns are called the same whatever model plays it; methods that compare texts
    have none.
    """
    from safetensors.numpy import load_file

    if "judge" not in layer.artifacts:
        return {}
    values = load_file(layer.artifacts["judge"].path / "judge.safetensors")
    metrics, columns = layer.artifacts["judge"].metrics, {}
    roles = {metrics["judges"][role]: role for role in ("judge", "labeler")} | {"head": "head"}
    for row in metrics["scores"]:
        if row["moment"] == "final":
            name = row["method"] if row["judge"] is None else f"{row['method']}_{roles[row['judge']]}"
            columns[name] = values[f"{row['method']}/{row['judge'] or 'text'}/final"]
    return {
        int(node): {name: None if math.isnan(column[i]) else float(column[i]) for name, column in columns.items()}
        for i, node in enumerate(values["nodes"])
    }
