"""`ibc export`: one moment of a run as a plain transformers checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interp_by_construction.engine.run_directory import Link, RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError, CorruptArtifact
from interp_by_construction.export import export_checkpoint
from interp_by_construction.results.models import MOMENTS, model_link


def export_run(run: RunDirectory, store: Store, at: str, layer: str | None, output: Path) -> None:
    """Writes the model `before` or `after` the alignment of `layer`, or at the end of the run
    (`final`). Where layers were aligned together, `before` is the original subject.

    Raises ConfigError for an unknown moment or a layer that the run has not aligned,
    CorruptArtifact for a damaged artifact.
    """
    summary = run.summary
    if at not in MOMENTS:
        raise ConfigError(f"at={at}: give one of {', '.join(MOMENTS)}")
    if summary is None:
        raise ConfigError(f"run {run.name} has no finished layer yet: run it first")
    done = [record["layer"] for record in summary["layers"]]
    if layer is None and at != "final":
        raise ConfigError(
            f"layer: at={at} needs one of the aligned layers {done}, as in layer={done[0]}"
        )
    if layer is not None and (not layer.isdecimal() or int(layer) not in done):
        raise ConfigError(f"layer={layer}: run {run.name} has aligned the layers {done}")
    index = int(layer) if layer is not None else done[-1]
    model = model_link(run, store, index, at)
    corpus = run.state["shared"]["corpus"]
    problems = [*store.verify(model.stage, model.fingerprint), *store.verify("corpus", corpus)]
    if problems:
        raise CorruptArtifact(f"not exported: {problems[0]}")
    export_checkpoint(
        store.path(model.stage, model.fingerprint) / "model",
        store.path("corpus", corpus) / "tokenizer",
        run.path / "nodes.parquet",
        output,
        _card(summary, f"{at} layer {index}", model),
    )


def _card(summary: dict[str, Any], moment: str, model: Link) -> dict[str, Any]:
    """Rows of the model card."""
    through_free = ((summary["work"] or {}).get("share_free") or {}).get("value")
    share = "unknown" if through_free is None else f"{through_free:.2f}"
    return {
        "run": summary["run"],
        "moment": moment,
        "subject": summary["subject"]["name"],
        "aligned layers": ", ".join(str(record["layer"]) for record in summary["layers"]),
        "labeler": summary["labeler"]["model"],
        "test loss of the final model": f"{summary['loss']['final']:.4f} nats",
        "tax of the final model": f"{summary['loss']['tax']:+.4f} nats",
        "share of its loss through free nodes": share,
        "artifact": f"{model.stage}/{model.fingerprint}",
    }
