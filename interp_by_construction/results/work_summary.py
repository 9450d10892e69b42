"""For the summary: ablations beside what the layer's MLP is worth and the tax as a share of that,
and planted triggers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp_by_construction.engine.store import Artifact
    from interp_by_construction.schedules.workshop import Layer

Paired = Callable[["Artifact", "Artifact"], list[float] | None]
"""95 % interval of the difference of two models' losses; null with one test document."""


def work_of_layer(
    layers: list[Layer], position: int, together: bool, paired: Paired
) -> dict[str, Any] | None:
    """Of one layer alone: metrics of `work`, `tax`, which is what its turn added, and `removed`
    (null where that stage is off).

    Layers that were aligned `together` (schedule=joint) have no turns: their tax is the run's, null
    for each unless it is the only one, and what a layer is worth is measured against the whole of
    the control's training.
    """
    artifacts = layers[position].artifacts
    if "work" not in artifacts:
        return None
    before = _tax(layers[position - 1]) if position else 0.0
    after = _tax(layers[position])
    no_turns = together and len(layers) > 1
    tax = None if no_turns or before is None or after is None else after - before
    removed, compared = artifacts.get("removed"), layers[-1 if together else position]
    worth = removed and _removed(removed, compared.artifacts["losses_control"], tax, paired)
    return artifacts["work"].metrics | {"tax": tax, "removed": worth}


def work_of_run(
    shared: dict[str, Artifact], layers: list[Layer], paired: Paired
) -> dict[str, Any] | None:
    """Of all layers done at once, beside the tax of the run."""
    if "work" not in shared:
        return None
    removed, control = shared.get("removed"), layers[-1].artifacts["losses_control"]
    tax = _tax(layers[-1])
    return shared["work"].metrics | {
        "tax": tax,
        "removed": removed and _removed(removed, control, tax, paired),
    }


def trigger_of_run(shared: dict[str, Artifact]) -> dict[str, Any] | None:
    """Metrics of `trigger`, and how many training documents hold it; null where nothing was
    planted."""
    return (
        shared["trigger"].metrics | shared["subject"].metrics["planted"]
        if "trigger" in shared
        else None
    )


def _tax(layer: Layer) -> float | None:
    """Up to and including this layer's turn; null where its turn ends in no model of its own."""
    losses = [layer.artifacts.get(f"losses_{stage}") for stage in ("continue", "control")]
    final, control = (None if each is None else each.metrics["loss"] for each in losses)
    return None if final is None or control is None else final - control


def _removed(
    removed: Artifact, control: Artifact, tax: float | None, paired: Paired
) -> dict[str, Any]:
    """`cost`: test loss without the MLPs minus the control's, both trained alike, nats per token.
    `tax_share`: tax / cost, null where it is not certain that the MLPs are needed (a lower end of
    the interval of 0 or less)."""
    metrics, interval = removed.metrics, paired(removed, control)
    cost = metrics["loss"] - control.metrics["loss"]
    certain = interval is not None and interval[0] > 0
    return {
        "layers": metrics["layers"],
        "loss": metrics["loss"],
        "control": control.metrics["loss"],
        "cost": cost,
        "cost_ci95": interval,
        "tax_share": tax / cost if certain and tax is not None else None,
    }
