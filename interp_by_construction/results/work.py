"""What the aligned layers' MLPs are worth in test loss, and the tax as a share of that."""

from __future__ import annotations

from dataclasses import dataclass

from interp_by_construction.engine.store import Artifact
from interp_by_construction.results.finished import Finished
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


@dataclass(frozen=True)
class Worth:
    """What the summary adds to the ablations of `work`."""

    tax: float | None
    removed: Removed | None
    """None where nothing was retrained without MLPs."""


def worth_of_layer(
    found: Finished, layer: int, together: bool, bootstrap: Bootstrap
) -> Worth | None:
    """Of one layer alone; `tax` is what its turn added. None where `work` is off.

    Layers that were aligned `together` (schedule=joint) have no turns. Their tax is the run's, so
    a layer has None unless it is the only one. Such a layer is compared with the control after its
    whole training.
    """
    artifacts, below = found.layers[layer], found.below(layer)
    if "work" not in artifacts:
        return None
    before = 0.0 if below is None else tax_up_to(below)
    after = tax_up_to(artifacts)
    no_turns = together and len(found.layers) > 1
    tax = None if no_turns or before is None or after is None else after - before
    compared = found.last if together else artifacts
    return _worth(artifacts.get("removed"), compared["losses_control"], tax, bootstrap)


def worth_of_run(found: Finished, bootstrap: Bootstrap) -> Worth | None:
    """Of all layers at once. None where `work` is off."""
    if "work" not in found.shared:
        return None
    control, tax = found.last["losses_control"], tax_up_to(found.last)
    return _worth(found.shared.get("removed"), control, tax, bootstrap)


def _worth(
    removed: Artifact | None, control: Artifact, tax: float | None, bootstrap: Bootstrap
) -> Worth:
    if removed is None:
        return Worth(tax, None)
    record, known = removed.metrics, control.metrics["loss"]
    interval = bootstrap.difference(removed, control)
    cost = record["loss"] - known
    certain = interval is not None and interval[0] > 0
    share = tax / cost if certain and tax is not None else None
    return Worth(tax, Removed(record["layers"], record["loss"], known, cost, interval, share))
