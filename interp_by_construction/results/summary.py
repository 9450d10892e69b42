"""`summary.json` and `nodes.parquet`, the contract with every tool that reads a run. Every number
comes from an artifact."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp_by_construction.config import Config
from interp_by_construction.engine.run_directory import SCHEMA
from interp_by_construction.engine.store import disk_errors, write_json
from interp_by_construction.results.method_scores import judged, node_columns, scores_by_method
from interp_by_construction.results.work_summary import trigger_of_run, work_of_layer, work_of_run
from interp_by_construction.scoring import paired_difference_ci95

if TYPE_CHECKING:
    from interp_by_construction.engine.store import Artifact
    from interp_by_construction.schedules.workshop import Layer

PROMOTED = ("promotes", "suppresses")
"""Columns of `nodes.parquet`: output tokens of the final model that an aligned node makes likelier
and less likely."""

TRUTH = ("concept", "r", "auc", "rule", "rule_r", "rule_auc")
"""Columns of `nodes.parquet` from the ground truth: against the lexicon, and against
`scoring.rule_truth` where it names no concept."""

SCORES = ("before", "after", "final", "shuffled", "exact", "final_raw")


def write_summary(
    path: Path,
    run: str,
    cfg: Config,
    shared: dict[str, Artifact],
    layers: list[Layer],
    complete: bool,
) -> None:
    """Writes the summary of the layers done so far (schema 1)."""
    subject = shared["subject"].metrics["subject"]
    write_json(
        path,
        {
            "schema": SCHEMA,
            "run": run,
            "complete": complete,
            "schedule": cfg.schedule,
            "subject": {
                "name": cfg.subject.name,
                **{key: subject[key] for key in ("n_layers", "d_mlp", "n_params")},
            },
            "labeler": {"model": cfg.labeler.model, "backend": cfg.labeler.backend},
            "judge": None
            if cfg.judge is None
            else {"model": cfg.judge.model, "backend": cfg.judge.backend},
            "loss": _losses(cfg, shared["losses"], layers[-1]),
            "align": _align(cfg, layers),
            "layers": [
                _layer(layer, cfg, shared["losses"], layers[:place])
                | {
                    "work": work_of_layer(
                        layers, place, cfg.schedule == "joint", partial(_paired, cfg)
                    )
                }
                for place, layer in enumerate(layers)
            ],
            "work": work_of_run(shared, layers, partial(_paired, cfg)),
            "trigger": trigger_of_run(shared),
            "invariants": {
                "frozen_identical": all(
                    layer.artifacts["evaluate"].metrics["frozen_identical"] for layer in layers
                ),
                "splits_disjoint": bool(shared["corpus"].metrics["splits_disjoint"]),
            },
        },
    )


def _losses(cfg: Config, original: Artifact, last: Layer) -> dict[str, Any]:
    final, control, freeze_only = (
        last.artifacts[f"losses_{stage}"] for stage in ("continue", "control", "freeze_only")
    )
    return {
        "original": original.metrics["loss"],
        "control": control.metrics["loss"],
        "freeze_only": freeze_only.metrics["loss"],
        "final": final.metrics["loss"],
        "tax": final.metrics["loss"] - control.metrics["loss"],
        "tax_ci95": _paired(cfg, final, control),
        "freeze_cost": freeze_only.metrics["loss"] - control.metrics["loss"],
        "freeze_cost_ci95": _paired(cfg, freeze_only, control),
        # A control can learn more than its subject, or be harmed by its rate; these two tell which.
        "over_original": final.metrics["loss"] - original.metrics["loss"],
        "over_original_ci95": _paired(cfg, final, original),
        "over_freeze_only": final.metrics["loss"] - freeze_only.metrics["loss"],
        "over_freeze_only_ci95": _paired(cfg, final, freeze_only),
        "n_test_tokens": final.metrics["n_tokens"],
        "n_test_documents": final.metrics["n_documents"],
    }


def _align(cfg: Config, layers: list[Layer]) -> dict[str, Any]:
    """The knobs of alignment, and under `control` whether the run is one: its nodes were trained
    towards `shuffled` labels or `random` targets, or there were none to align (`no_alignment`);
    else null."""
    none = not any(
        layer.labels.metrics["n_labels"] + layer.labels.metrics["n_failed"] for layer in layers
    )
    control = cfg.align.target if cfg.align.target != "label" else None
    named = ("weight", "schedule", "objective", "distill", "ablate_free", "target", "start")
    knobs = {name: getattr(cfg.align, name) for name in named}
    return knobs | {"control": "no_alignment" if none else control}


def _fit_to_target(layer: Layer) -> dict[str, Any]:
    """Layers that were aligned together share one artifact."""
    metrics = layer.artifacts["align"].metrics
    found: dict[str, Any] = metrics.get(
        "target", metrics.get("targets", {}).get(str(layer.index), {})
    )
    return found


def _paired(cfg: Config, first: Artifact, second: Artifact) -> list[float] | None:
    """Null where the test text is one document."""
    from safetensors.numpy import load_file

    a, b = (
        load_file(first.path / "losses.safetensors"),
        load_file(second.path / "losses.safetensors"),
    )
    if (a["document"] != b["document"]).any() or (a["tokens"] != b["tokens"]).any():
        raise AssertionError("both models are measured on the same documents")
    low, high = paired_difference_ci95(
        a["nats"], b["nats"], a["tokens"], cfg.evaluate.n_bootstrap, cfg.seed
    )
    return None if math.isnan(low) else [low, high]


def _width(layer: Layer) -> int:
    """Nodes of the layer when it was labelled."""
    from safetensors import safe_open

    with safe_open(layer.artifacts["collect"].path / "moments.safetensors", "numpy") as moments:
        width: int = moments.get_slice("mean").get_shape()[0]
    return width


def _layer(layer: Layer, cfg: Config, original: Artifact, below: list[Layer]) -> dict[str, Any]:
    n_nodes = _width(layer) + cfg.free.count
    # What layers share counts once, so that their seconds add up.
    counted = {artifact.fingerprint for each in below for artifact in each.artifacts.values()}
    labels, evaluated = layer.labels.metrics, layer.artifacts["evaluate"].metrics
    n_aligned = labels["n_labels"]
    return {
        "layer": layer.index,
        "n_nodes": n_nodes,
        "n_aligned": n_aligned,
        "n_free": n_nodes - n_aligned,
        "n_added": cfg.free.count,
        "n_failed_labels": labels["n_failed"],
        "n_distinct_labels": labels["n_distinct"],
        "score": {name: evaluated["score"][name] for name in SCORES},
        "score_more": {
            name: value for name, value in evaluated["score"].items() if name not in SCORES
        },
        "target": {"kind": cfg.align.target, **_fit_to_target(layer)},
        "truth": evaluated["truth"],
        "dictionary": _dictionary(layer, cfg, original, below),
        "function": layer.artifacts["function"].metrics if "function" in layer.artifacts else None,
        "labelling": layer.artifacts["label"].metrics,
        "audit": layer.artifacts["audit"].metrics if "audit" in layer.artifacts else None,
        "cumulative": layer.artifacts["cumulative"].metrics
        if "cumulative" in layer.artifacts
        else None,
        "scores_by_method": scores_by_method(layer, cfg),
        "judged": judged(layer),
        "assignment": layer.artifacts["assign"].metrics if "assign" in layer.artifacts else None,
        "simulation": layer.artifacts["simulate"].metrics,
        "seconds": {
            stage: 0.0 if artifact.fingerprint in counted else artifact.seconds
            for stage, artifact in layer.artifacts.items()
        },
        "artifacts": {stage: artifact.fingerprint for stage, artifact in layer.artifacts.items()},
    }


def _dictionary(
    layer: Layer, cfg: Config, original: Artifact, below: list[Layer]
) -> dict[str, Any] | None:
    """What took the place of the layer's MLP, how well it does its work, and the test loss before
    and after; None for neurons.

    `loss` is that of the model with the dictionary, before any further training. `control` is the
    control's own dictionary; layers that are aligned together share theirs with it.
    """
    if "dictionary" not in layer.artifacts:
        return None
    made = layer.artifacts["dictionary"]
    stage = "continue" if cfg.schedule == "sequential" else "dictionary"
    before = below[-1].artifacts[f"losses_{stage}"] if below else original
    control = layer.artifacts.get("dictionary_control", made).metrics
    found = {key: value for key, value in made.metrics.items() if key != "training"}
    found |= {
        "loss_before": before.metrics["loss"],
        "loss": layer.artifacts["losses_dictionary"].metrics["loss"],
    }
    return found | {"control": {key: control[key] for key in ("fvu", "l0", "n_dead")}}


def write_nodes(path: Path, cfg: Config, layers: list[Layer]) -> None:
    """One row per node of each layer done; scores are null where undefined. `added`: a neuron of
    free.count."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file

    from interp_by_construction.stages.evaluate import read_truth
    from interp_by_construction.subject.tables import read_labels, read_nodes, read_opposites

    rows: list[dict[str, Any]] = []
    method_kinds: dict[str, Any] = {}
    for layer in layers:
        labels = {label.node: label for label in read_labels(layer.labels.path)}
        by_method = node_columns(layer)
        method_kinds |= {name: pa.float64() for values in by_method.values() for name in values}
        truth = read_truth(layer.artifacts["evaluate"].path)
        promoted = _promoted(layer)
        scores = load_file(layer.artifacts["evaluate"].path / "scores.safetensors")
        position = {int(node): i for i, node in enumerate(scores["nodes"])}
        collected = layer.artifacts["collect"].path
        views = [*read_nodes(collected), *read_opposites(collected)]
        top = {(view.node, view.pole): _top_tokens(view) for view in views}
        width = _width(layer)
        for node in range(width + cfg.free.count):
            label, i = labels.get(node), position.get(node)
            row: dict[str, Any] = {
                "layer": layer.index,
                "node": node,
                "pole": label.pole if label else 1,
                "label": label.text if label else None,
                "status": label.status if label else "free",
                "added": node >= width,
                "top_tokens": top.get((node, label.pole)) if label else None,
                **{name: promoted.get(node, {}).get(name) for name in PROMOTED},
            }
            for name in ("before", "after", "final", "shuffled", "exact"):
                value = math.nan if i is None else float(scores[name][i])
                row[f"score_{name}"] = None if math.isnan(value) else value
            row |= {f"truth_{name}": truth.get(node, {}).get(name) for name in TRUTH}
            rows.append(row | by_method.get(node, {}))
    kinds = {
        "layer": pa.int64(),
        "node": pa.int64(),
        "pole": pa.int64(),
        "label": pa.string(),
        "status": pa.string(),
        "added": pa.bool_(),
        "top_tokens": pa.list_(pa.string()),
        **{name: pa.list_(pa.string()) for name in PROMOTED},
    }
    kinds |= {
        f"score_{name}": pa.float64() for name in ("before", "after", "final", "shuffled", "exact")
    }
    kinds |= {
        f"truth_{name}": pa.string() if name in ("concept", "rule") else pa.float64()
        for name in TRUTH
    } | method_kinds
    with disk_errors(path):
        unfinished = path.with_name(f".{path.name}.partial")
        pq.write_table(
            pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items()))), unfinished
        )
        unfinished.replace(path)


def _promoted(layer: Layer) -> dict[int, dict[str, Any]]:
    """Node -> its promoted tokens; empty without a head."""
    from interp_by_construction.subject.tables import read_promoted

    return read_promoted(layer.artifacts["function"].path) if "function" in layer.artifacts else {}


def _top_tokens(node: Any) -> list[str]:
    return list(dict.fromkeys(excerpt.tokens[excerpt.peak].strip() for excerpt in node.top))[:8]
