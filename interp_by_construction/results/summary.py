"""`summary.json`: what every tool reads of a run. Every number comes from an artifact.

Each layer holds the record of each of its stages under the stage's link name. `stages` holds those
of the whole run. Curves are left out. Other keys hold the numbers that need several stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from interp_by_construction.config import Config, LabelerConfig
from interp_by_construction.engine.disk import write_json
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.records import to_json
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.run_files import SCHEMA
from interp_by_construction.results.finished import Artifacts, Finished, labels_of, without_curves
from interp_by_construction.results.kinds import scores_by_kind
from interp_by_construction.results.lines import write_lines
from interp_by_construction.results.losses import Bootstrap, dictionary_losses, run_losses
from interp_by_construction.results.method_scores import scores_by_method
from interp_by_construction.results.nodes import layer_width, node_table, write_nodes
from interp_by_construction.results.work import work_of_layer, work_of_run
from interp_by_construction.schedules.graph import RunGraph

SCORES = ("before", "after", "final", "shuffled", "exact", "final_raw", "second")
"""Scores that every run has, `second` null where there is no second simulator; the others are under
`score_more`."""
OFTEN_LEFT_OUT = ("dictionary", "function", "audit", "work")
"""Stages whose key is null in a run without them."""


def write_results(run: RunDirectory, cfg: Config, graph: RunGraph, engine: Engine) -> None:
    """Writes `summary.json`, `nodes.parquet` and `lines.json` of a run whose stages are all
    done."""
    found = Finished.of(graph, engine)
    write_lines(run, found)
    table = node_table(found, cfg.free.count)
    write_nodes(table, run.path / "nodes.parquet")
    write_json(run.path / "summary.json", summary(run.name, cfg, found, table), sort=False)


def summary(run: str, cfg: Config, found: Finished, table: pa.Table) -> dict[str, Any]:
    """The content of `summary.json` for a run whose layers are all done. table: its node table."""
    subject = found.shared["subject"].metrics["subject"]
    bootstrap = Bootstrap(cfg.evaluate.n_bootstrap, cfg.seed)
    rows = table.to_pylist()
    return {
        "schema": SCHEMA,
        "run": run,
        "complete": True,
        "schedule": cfg.schedule,
        "subject": {"name": cfg.subject.name}
        | {key: subject[key] for key in ("n_layers", "d_mlp", "n_params")},
        "labeler": _model(cfg.labeler),
        "judge": None if cfg.judge is None else _model(cfg.judge),
        "loss": to_json(run_losses(found, bootstrap)),
        "align": vars(cfg.align) | {"control": _control(cfg, found)},
        "layers": [
            _layer(found, layer, cfg, bootstrap, [row for row in rows if row["layer"] == layer])
            for layer in found.layers
        ],
        "work": work_of_run(found, bootstrap),
        "trigger": _trigger(found.shared),
        "invariants": {
            "frozen_identical": all(
                artifacts["evaluate"].metrics["frozen_identical"]
                for artifacts in found.layers.values()
            ),
            "splits_disjoint": bool(found.shared["corpus"].metrics["splits_disjoint"]),
        },
        "stages": {
            name: without_curves(artifact.metrics) for name, artifact in found.shared.items()
        },
    }


def _layer(
    found: Finished,
    layer: int,
    cfg: Config,
    bootstrap: Bootstrap,
    rows: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """rows: of the layer in the node table."""
    artifacts, together = found.layers[layer], cfg.schedule == "joint"
    records = {name: without_curves(each.metrics) for name, each in artifacts.items()}
    labels, evaluated = labels_of(artifacts).metrics, records["evaluate"]
    n_nodes, n_aligned = layer_width(artifacts) + cfg.free.count, labels["n_labels"]
    judge = records.get("judge")
    dictionary = dictionary_losses(found, layer, together)
    return {
        "layer": layer,
        "n_nodes": n_nodes,
        "n_aligned": n_aligned,
        "n_free": n_nodes - n_aligned,
        "n_added": cfg.free.count,
        "n_failed_labels": labels["n_failed"],
        "n_distinct_labels": labels["n_distinct"],
        "sources": labels["sources"],
        "kinds": scores_by_kind(rows),
        "score": {name: evaluated["score"].get(name) for name in SCORES},
        "score_more": {
            name: value for name, value in evaluated["score"].items() if name not in SCORES
        },
        # Layers that were aligned together share one record.
        "target": {"kind": cfg.align.target, **records["align"]["targets"].get(str(layer), {})},
        "truth": evaluated["truth"],
        "labelling": records["label"],
        "assignment": records.get("assign"),
        "simulation": records["simulate"],
        "scores_by_method": scores_by_method(artifacts, cfg),
        "judged": judge and {key: value for key, value in judge.items() if key != "scores"},
        **dict.fromkeys(OFTEN_LEFT_OUT),
        **records,
        "dictionary": dictionary and records["dictionary"] | dictionary,
        "work": work_of_layer(found, layer, together, bootstrap),
        "seconds": seconds_of(found, layer),
        "artifacts": {name: artifact.fingerprint for name, artifact in artifacts.items()},
    }


def seconds_of(found: Finished, layer: int) -> dict[str, float]:
    """Link name -> wall seconds. An artifact that layers share counts in the lowest of them."""
    lower = [each for index, each in found.layers.items() if index < layer]
    counted = {artifact.fingerprint for each in lower for artifact in each.values()}
    return {
        name: 0.0 if artifact.fingerprint in counted else artifact.seconds
        for name, artifact in found.layers[layer].items()
    }


def _model(labeler: LabelerConfig) -> dict[str, Any]:
    return {"model": labeler.model, "backend": labeler.backend}


def _control(cfg: Config, found: Finished) -> str | None:
    """What makes the run a control: its nodes were trained towards `shuffled` labels or `random`
    targets, or there were none to align (`no_alignment`); else None."""
    labels = [labels_of(artifacts).metrics for artifacts in found.layers.values()]
    if not any(record["n_labels"] + record["n_failed"] for record in labels):
        return "no_alignment"
    return cfg.align.target if cfg.align.target != "label" else None


def _trigger(shared: Artifacts) -> dict[str, Any] | None:
    """How the models react to the planted trigger, and how many training documents hold it; None
    where nothing was planted."""
    if "trigger" not in shared:
        return None
    return shared["trigger"].metrics | shared["subject"].metrics["planted"]
