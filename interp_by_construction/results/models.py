"""Which of a run's models is before, after and final of a layer."""

from __future__ import annotations

from interp_by_construction.engine.run_directory import Link, RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import StoreError

MOMENTS = ("before", "after", "final")


def model_link(run: RunDirectory, store: Store, layer: int, moment: str) -> Link:
    """The stage whose model `score.<moment>` of a layer was measured on. Raises StoreError where an
    artifact is gone.

    The manifest of the layer's `evaluate` names it, so that no other place has to know in which
    order a schedule trains.
    """
    links = {link.name: link for link in run.links if link.layer == layer}
    evaluate = store.get("evaluate", links["evaluate"].fingerprint)
    if evaluate is None:
        raise StoreError(
            f"{store.path('evaluate', links['evaluate'].fingerprint)} is gone; "
            "the same `ibc run` makes it again"
        )
    parents: dict[str, str] = evaluate.manifest["parents"]
    fingerprint = next(each for role, each in parents.items() if role.rpartition("_")[2] == moment)
    return next(link for link in run.links if link.fingerprint == fingerprint)
