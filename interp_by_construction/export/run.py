"""`ibc export`: one moment of a run as a plain transformers checkpoint."""

from __future__ import annotations

from pathlib import Path

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError, CorruptArtifact
from interp_by_construction.export import export_checkpoint

MOMENTS = ("before", "after", "final")


def export_run(run: RunDirectory, store: Store, at: str, layer: str | None, output: Path) -> None:
    """Writes the model as it was before or after the alignment of `layer`, or at the end of the run
    (`final`).

    Where layers were aligned together (schedule=joint or hybrid), what was before is the original
    subject.

    Raises ConfigError for an unknown moment or a layer that the run has not aligned,
    CorruptArtifact for a damaged artifact.
    """
    state, summary = run.state, run.summary
    done = sorted(state["done"])
    if at not in MOMENTS:
        raise ConfigError(f"at={at}: give one of {', '.join(MOMENTS)}")
    if not done or summary is None:
        raise ConfigError(f"run {run.name} has no finished layer yet: run it first")
    if layer is None and at != "final":
        raise ConfigError(
            f"layer: at={at} needs one of the aligned layers {done}, as in layer={done[0]}"
        )
    if layer is not None and (not layer.isdecimal() or int(layer) not in done):
        raise ConfigError(f"layer={layer}: run {run.name} has aligned the layers {done}")
    index = int(layer) if layer is not None else done[-1]
    position = done.index(index)
    if at == "final":
        stage, fingerprint = "continue", state["layers"][str(done[-1])]["continue"]
    elif at == "after":
        stage, fingerprint = "align", state["layers"][str(index)]["align"]
    elif "dictionary" in state["layers"][str(index)]:
        # There are no such nodes in the model that had an MLP.
        made_at = index if run.config().schedule == "sequential" else done[-1]
        stage, fingerprint = "dictionary", state["layers"][str(made_at)]["dictionary"]
    elif position and run.config().schedule == "sequential":
        stage, fingerprint = "continue", state["layers"][str(done[position - 1])]["continue"]
    else:
        stage, fingerprint = "subject", state["shared"]["subject"]
    corpus = state["shared"]["corpus"]
    problems = [*store.verify(stage, fingerprint), *store.verify("corpus", corpus)]
    if problems:
        raise CorruptArtifact(f"not exported: {problems[0]}")
    through_free = ((summary.get("work") or {}).get("share_free") or {}).get("value")
    card = {
        "run": run.name,
        "moment": f"{at} layer {index}",
        "subject": summary["subject"]["name"],
        "aligned layers": ", ".join(map(str, done)),
        "labeler": summary["labeler"]["model"],
        "test loss of the final model": f"{summary['loss']['final']:.4f} nats",
        "tax of the final model": f"{summary['loss']['tax']:+.4f} nats",
        "share of its loss through free nodes": "unknown"
        if through_free is None
        else f"{through_free:.2f}",
        "artifact": f"{stage}/{fingerprint}",
    }
    tokenizer = store.path("corpus", corpus) / "tokenizer"
    export_checkpoint(
        store.path(stage, fingerprint) / "model",
        tokenizer,
        run.path / "nodes.parquet",
        output,
        card,
    )
