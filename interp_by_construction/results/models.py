"""Which of a run's models is the one before, after and final of a layer."""

from __future__ import annotations

from interp_by_construction.engine.run_directory import Link, RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import StoreError

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
