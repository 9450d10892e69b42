"""`ibc export`: one moment of a run as a plain transformers checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interp_by_construction.engine.run_directory import Link, RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import CorruptArtifact
from interp_by_construction.export import export_checkpoint
from interp_by_construction.results.models import asked_link


def export_run(run: RunDirectory, store: Store, at: str, layer: str | None, output: Path) -> None:
    """Writes a model of the run, `at` one of `before`, `after` and `final` (see `asked_link`).

    Raises ConfigError for an unknown moment or a layer that the run has not aligned,
    CorruptArtifact for a damaged artifact.
    """
    model, summary = asked_link(run, store, at, layer), run.summary
    assert summary is not None, "it has an aligned layer"
    moment = f"{at} layer {summary['layers'][-1]['layer'] if layer is None else int(layer)}"
    corpus = run.state["shared"]["corpus"]
    problems = [*store.verify(model.stage, model.fingerprint), *store.verify("corpus", corpus)]
    if problems:
        raise CorruptArtifact(f"not exported: {problems[0]}")
    export_checkpoint(
        store.path(model.stage, model.fingerprint) / "model",
        store.path("corpus", corpus) / "tokenizer",
        run.path / "nodes.parquet",
        output,
        _card(summary, moment, model),
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
