"""What the aligned layers' MLPs are worth in test loss, and the tax as a share of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interp_by_construction.engine.records import to_json
from interp_by_construction.engine.store import Artifact
from interp_by_construction.results.finished import Artifacts, Finished, without_curves
from interp_by_construction.results.losses import Bootstrap, Interval, tax_up_to


@dataclass(frozen=True)
class Removed:
    """The control, and the same training without the MLPs of some layers."""

    layers: list[int]
    loss: float
    """Test loss without the MLPs, nats per token."""
    control: float
    """The control's."""
    cost: float
    """loss - control."""
    cost_ci95: Interval | None
    tax_share: float | None
    """tax / cost; None where it is not certain that the MLPs are needed (the interval of the cost
    reaches 0)."""


def work_of_layer(
    found: Finished, layer: int, together: bool, bootstrap: Bootstrap
) -> dict[str, Any] | None:
    """The record of `work` of one layer alone, where `tax` is what its turn added. None where
    `work` is off.

    Layers that were aligned `together` (schedule=joint) have no turns. Their tax is the run's, so
    a layer has None unless it is the only one. Such a layer is compared with the control after its
    whole training.
    """
    artifacts, below = found.layers[layer], found.below(layer)
    before = 0.0 if below is None else tax_up_to(below)
    after = tax_up_to(artifacts)
    no_turns = together and len(found.layers) > 1
    tax = None if no_turns or before is None or after is None else after - before
    return _work(artifacts, found.last if together else artifacts, tax, bootstrap)


def work_of_run(found: Finished, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """The record of `work` of all layers at once. None where `work` is off."""
    return _work(found.shared, found.last, tax_up_to(found.last), bootstrap)


def _work(
    stages: Artifacts, models: Artifacts, tax: float | None, bootstrap: Bootstrap
) -> dict[str, Any] | None:
    """The record of `work` with `tax` and `removed`, which is None where nothing was retrained
    without MLPs. models: has the control that `removed` is compared with."""
    if "work" not in stages:
        return None
    removed = None
    if "removed" in stages:
        removed = to_json(_removed(stages["removed"], models["losses_control"], tax, bootstrap))
    return without_curves(stages["work"].metrics) | {"tax": tax, "removed": removed}


def _removed(
    removed: Artifact, control: Artifact, tax: float | None, bootstrap: Bootstrap
) -> Removed:
    record, known = removed.metrics, control.metrics["loss"]
    interval = bootstrap.difference(removed, control)
    cost = record["loss"] - known
    certain = interval is not None and interval[0] > 0
    share = tax / cost if certain and tax is not None else None
    return Removed(record["layers"], record["loss"], known, cost, interval, share)
