"""Scores of one layer by method, judge and moment, for the summary and the table of nodes: from
`evaluate`, `function`, `judge`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from interp_by_construction.config import Config

if TYPE_CHECKING:
    from interp_by_construction.schedules.workshop import Layer


def scores_by_method(layer: Layer, cfg: Config) -> list[dict[str, Any]]:
    """Records of method, judge, self_judged, moment, mean, ci95, n, n_undefined and n_not_asked
    (the last three are all nodes).

    moment: before or final, and of the final model shuffled (other nodes' labels, or what chance
    gives), empty_label and common_label. `simulation` is over all of the scored text,
    `simulation_top|random|combined` over excerpts.
    """
    evaluated = layer.artifacts["evaluate"].metrics["score"]
    records = [_simulation(evaluated[name], cfg, name) for name in ("before", "final", "shuffled")]
    if cfg.simulate.simulator == "head":
        exact = {"before": "exact_before", "final": "exact", "shuffled": "exact_shuffled"}
        records += [_simulation(evaluated[name], cfg, moment) for moment, name in exact.items()]
    records += _own_label_first(layer, cfg) if "function" in layer.artifacts else []
    return records + (
        layer.artifacts["judge"].metrics["scores"] if "judge" in layer.artifacts else []
    )


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
        table.add(
            "own_label_first", "head", head, moment, np.where(np.isnan(rank), math.nan, rank == 1)
        )
    chance = layer.artifacts["function"].metrics["final"]["own_label_rank"]["chance_top1_rate"]
    undefined = np.isnan(ranks["final.rank"]) | (chance is None)
    table.add(
        "own_label_first",
        "head",
        head,
        "shuffled",
        np.where(undefined, math.nan, chance or math.nan),
    )
    return table.records()


def judged(layer: Layer) -> dict[str, Any] | None:
    """What the judge stage says beside its scores: thresholds, the common label, who judged; null
    where the run leaves it out."""
    if "judge" not in layer.artifacts:
        return None
    return {
        key: value for key, value in layer.artifacts["judge"].metrics.items() if key != "scores"
    }


def node_columns(layer: Layer) -> dict[int, dict[str, float | None]]:
    """Node -> its scores beside those of `summary.SCORES`, null where undefined; `<column>_before`
    is the same before alignment.

    `score_exact_before` and `truth_r_before` stand beside the columns of those names.
    `<method>_<role>` is the final score by the judge stage: the role is labeler, judge or head, so
    that columns are called the same whatever model plays it; methods that compare texts have none,
    and no moment but the final one.
    """
    from safetensors.numpy import load_file

    from interp_by_construction.stages.evaluate import read_truth

    evaluated = layer.artifacts["evaluate"].path
    scores, truth = load_file(evaluated / "scores.safetensors"), read_truth(evaluated)
    rows: dict[int, dict[str, float | None]] = {
        int(node): {"score_exact_before": _or_null(scores["exact_before"][i])}
        for i, node in enumerate(scores["nodes"])
    }
    for node, record in truth.items():
        rows[node]["truth_r_before"] = record.get("r_before")
    if "judge" not in layer.artifacts:
        return rows
    values, columns = (
        load_file(layer.artifacts["judge"].path / "judge.safetensors"),
        _judge_columns(layer),
    )
    for i, node in enumerate(values["nodes"]):
        rows[int(node)] |= {name: _or_null(values[key][i]) for name, key in columns.items()}
    return rows


def _judge_columns(layer: Layer) -> dict[str, str]:
    """Column -> its tensor in `judge.safetensors`, before alignment next to final."""
    metrics = layer.artifacts["judge"].metrics
    roles = {metrics["judges"][role]: role for role in ("judge", "labeler")} | {"head": "head"}
    moments: dict[tuple[str, str | None], set[str]] = {}
    for row in metrics["scores"]:
        moments.setdefault((row["method"], row["judge"]), set()).add(row["moment"])
    columns = {}
    for (method, judge), known in moments.items():
        name = method if judge is None else f"{method}_{roles[judge]}"
        for moment, suffix in (("before", "_before"), ("final", "")):
            if moment in known:
                columns[name + suffix] = f"{method}/{judge or 'text'}/{moment}"
    return columns


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
