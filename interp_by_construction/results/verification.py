"""`ibc verify`: recomputes every hash of a run's artifacts and checks the invariants against the
saved checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interp_by_construction.engine.progress import track
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import StoreError


def artifacts_of(run: RunDirectory) -> list[tuple[str, str]]:
    """(stage directory in the store, fingerprint) of everything that a run links to, each once."""
    state = run.state
    links = [(stage, fp) for stage, fp in state["shared"].items()]
    links += [(stage, fp) for layer in state["layers"].values() for stage, fp in layer.items()]
    return sorted({(stored_as(stage), fp) for stage, fp in links})


def stored_as(link: str) -> str:
    """The stage that a link of a run points to: several models of a layer have losses, and a
    dictionary."""
    return next((stage for stage in ("losses", "dictionary") if link.startswith(stage)), link)


def verify(run: RunDirectory, store: Store) -> list[str]:
    """One line per problem; empty if the run is what it says it is. Raises ConfigError for a
    summary of another schema."""
    problems, summary = [], None
    try:
        summary = run.summary
    except StoreError as error:
        problems.append(str(error))
    for stage, fingerprint in track(artifacts_of(run), "verify"):
        problems += store.verify(stage, fingerprint)
    if problems:
        return problems
    return [
        *_summary_problems(run, summary, store),
        *_split_problems(run, store),
        *_frozen_problems(run, store),
    ]


def _summary_problems(
    run: RunDirectory, summary: dict[str, Any] | None, store: Store
) -> Iterator[str]:
    if summary is None:
        return
    file, layers, loss = run.path / "summary.json", summary["layers"], summary["loss"]
    for layer in layers:
        found = store.get("evaluate", layer["artifacts"]["evaluate"])
        expected = (
            None
            if found is None
            else {name: found.metrics["score"].get(name) for name in layer["score"]}
        )
        if expected != layer["score"]:
            yield f"{file}: the scores of layer {layer['layer']} differ from its evaluate artifact"
        if found is not None and layer.get("truth") != found.metrics.get("truth"):
            yield f"{file}: the ground truth of layer {layer['layer']} differs from its evaluate artifact"
        for key, stage in (("function", "function"), ("assignment", "assign")):
            fingerprint = layer["artifacts"].get(stage)
            kept = store.get(stage, fingerprint) if fingerprint else None
            if layer.get(key) != (kept.metrics if kept else None):
                yield f"{file}: {key} of layer {layer['layer']} differs from its {stage} artifact"
    measured = [(layer.get("work"), layer["artifacts"].get("work")) for layer in layers]
    measured.append((summary.get("work"), run.state["shared"].get("work")))
    for record, fingerprint in measured:
        kept = store.get("work", fingerprint) if fingerprint else None
        # Tax and removed MLPs are compared with other artifacts' losses, and stand beside.
        if record is not None and (
            kept is None or any(record.get(key) != value for key, value in kept.metrics.items())
        ):
            yield f"{file}: work of layers {record['layers']} differs from its work artifact"
    final = store.get("losses", layers[-1]["artifacts"]["losses_continue"])
    control = store.get("losses", layers[-1]["artifacts"]["losses_control"])
    if (
        final is None
        or control is None
        or loss["tax"] != final.metrics["loss"] - control.metrics["loss"]
    ):
        yield f"{file}: the tax differs from its losses artifacts"


def _split_problems(run: RunDirectory, store: Store) -> Iterator[str]:
    """Invariant 2, from the documents' hashes."""
    import pyarrow.parquet as pq

    path = store.path("corpus", run.state["shared"]["corpus"]) / "documents.parquet"
    splits: dict[str, set[str]] = {}
    for row in pq.read_table(path, columns=["split", "sha256"]).to_pylist():
        splits.setdefault(row["sha256"], set()).add(row["split"])
    shared = sum(len(names) > 1 for names in splits.values())
    if shared:
        yield f"{path}: {shared} documents are in more than one split"


def _frozen_problems(run: RunDirectory, store: Store) -> Iterator[str]:
    """Invariant 1: aligned activations and frozen weights of each layer in every later checkpoint.

    With schedule=joint the align checkpoint stands before all freezes.
    """
    from interp_by_construction.stages.freeze import frozen_identical
    from interp_by_construction.subject.load import load_subject

    stages = ("continue",) if run.config().schedule == "joint" else ("align", "continue")
    done = sorted(
        (int(layer), links) for layer, links in run.state["layers"].items() if "continue" in links
    )
    for index, links in done:
        frozen: Path = store.path("freeze", links["freeze"])
        later = [
            (above, stage, fps[stage]) for above, fps in done for stage in stages if above >= index
        ]
        if run.config().schedule == "sequential":
            # Layers that are aligned together got their dictionaries before anything was frozen.
            later += [
                (above, "dictionary", fps["dictionary"])
                for above, fps in done
                if above > index and "dictionary" in fps
            ]
        for above, stage, fingerprint in later:
            model = store.path(stage, fingerprint) / "model"
            if not frozen_identical(load_subject(model), frozen):
                yield f"{model}: layer {index} is not as it was frozen, seen after {stage} of layer {above}"
