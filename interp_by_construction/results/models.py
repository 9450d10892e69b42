"""Which of a run's models is the one before, after and final of a layer."""

from __future__ import annotations

from interp_by_construction.engine.run_directory import Link, RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError, StoreError

MOMENTS = ("before", "after", "final")


def model_link(run: RunDirectory, store: Store, layer: int, moment: str) -> Link:
    """The stage whose model `score.<moment>` of a layer was measured on, as the manifest of the
    layer's `evaluate` names it. Raises StoreError if an artifact is gone."""
    evaluate = next((each for each in run.links if each[:2] == (layer, "evaluate")), None)
    found = evaluate and store.get(evaluate.stage, evaluate.fingerprint)
    if not found:
        raise StoreError(
            f"run {run.name}: what was measured of layer {layer} is not there; "
            "the same `ibc run` makes it again"
        )
    parents = found.manifest["parents"].items()
    fingerprint = next(each for role, each in parents if role.rpartition("_")[2] == moment)
    link = next((each for each in run.links if each.fingerprint == fingerprint), None)
    if link is None:
        raise StoreError(
            f"run {run.name}: no stage of it is {fingerprint}, the model {moment} layer {layer}"
        )
    return link


def asked_link(run: RunDirectory, store: Store, at: str, layer: str | int | None) -> Link:
    """The stage with the model `before` or `after` the alignment of `layer`, or at the end of the
    run (`final`, for which `layer` may be None). Where layers were aligned together, `before` is
    the original subject.

    Raises ConfigError for an unknown moment, for a layer that the run has not aligned, and where no
    layer is finished; StoreError if an artifact is gone.
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
    if layer is not None and str(layer) not in map(str, done):
        raise ConfigError(f"layer={layer}: run {run.name} has aligned the layers {done}")
    return model_link(run, store, done[-1] if layer is None else int(layer), at)
