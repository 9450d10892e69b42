"""Test losses of a run's models and their differences, in nats per token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from safetensors.numpy import load_file

from interp_by_construction.config.text import APART
from interp_by_construction.engine.store import Artifact
from interp_by_construction.results.finished import Artifacts, Finished
from interp_by_construction.stats.bootstrap import paired_difference_ci95

Interval = list[float]
"""Lower and upper end of a 95 % interval."""


@dataclass(frozen=True)
class Bootstrap:
    """Resampling of test documents."""

    n: int
    seed: int

    def difference(self, first: Artifact, second: Artifact, split: str = "test") -> Interval | None:
        """95 % interval of the loss of one model minus that of another, over the same documents;
        None where the text is one document."""
        a, b = (load_file(each.path / f"losses_{split}.safetensors") for each in (first, second))
        if (a["document"] != b["document"]).any() or (a["tokens"] != b["tokens"]).any():
            raise AssertionError("both models are measured on the same documents")
        low, high = paired_difference_ci95(a["nats"], b["nats"], a["tokens"], self.n, self.seed)
        return None if math.isnan(low) else [low, high]


@dataclass(frozen=True)
class ModelLosses:
    """The models of a run on one text. Names of fields are keys of the summary."""

    original: float
    """The subject before any layer was aligned."""
    control: float
    """Trained alike, nothing aligned, nothing frozen."""
    freeze_only: float
    """Trained alike, the same nodes frozen, nothing aligned."""
    final: float
    tax: float
    """final - control."""
    tax_ci95: Interval | None


@dataclass(frozen=True)
class RunLosses(ModelLosses):
    """On the test split."""

    freeze_cost: float
    """freeze_only - control."""
    freeze_cost_ci95: Interval | None
    over_original: float
    """final - original. Together with the next difference it shows whether the control learned more
    than the original or was harmed by its learning rate."""
    over_original_ci95: Interval | None
    over_freeze_only: float
    """final - freeze_only."""
    over_freeze_only_ci95: Interval | None
    n_test_tokens: int
    n_test_documents: int
    apart: ModelLosses | None
    """On text of another source; None where the corpus has none."""


def run_losses(found: Finished, bootstrap: Bootstrap) -> RunLosses:
    """Of the models after the highest layer."""
    made = {name: found.last[f"losses_{name}"] for name in ("continue", "control", "freeze_only")}
    made["original"] = found.shared["losses"]
    loss = {name: float(each.metrics["loss"]) for name, each in made.items()}
    final = made["continue"].metrics

    def over(first: str, second: str) -> tuple[float, Interval | None]:
        return loss[first] - loss[second], bootstrap.difference(made[first], made[second])

    return RunLosses(
        loss["original"],
        loss["control"],
        loss["freeze_only"],
        loss["continue"],
        *over("continue", "control"),
        *over("freeze_only", "control"),
        *over("continue", "original"),
        *over("continue", "freeze_only"),
        n_test_tokens=final["n_tokens"],
        n_test_documents=final["n_documents"],
        apart=_apart(made, bootstrap),
    )


def _apart(made: Artifacts, bootstrap: Bootstrap) -> ModelLosses | None:
    loss = {name: each.metrics["apart"] for name, each in made.items()}
    if None in loss.values():
        return None
    final, control = made["continue"], made["control"]
    return ModelLosses(
        loss["original"],
        loss["control"],
        loss["freeze_only"],
        loss["continue"],
        loss["continue"] - loss["control"],
        bootstrap.difference(final, control, APART),
    )


def tax_up_to(artifacts: Artifacts) -> float | None:
    """Tax of the models after a layer; None where its turn ends in no model of its own."""
    if not {"losses_continue", "losses_control"} <= artifacts.keys():
        return None
    final, control = (artifacts[f"losses_{name}"].metrics for name in ("continue", "control"))
    return float(final["loss"]) - float(control["loss"])


def dictionary_losses(found: Finished, layer: int, together: bool) -> dict[str, Any] | None:
    """Test loss without the layer's dictionary (`loss_before`) and with it (`loss`), before any
    further training; None for neurons.

    `control` describes the control's own dictionary, which layers that are aligned together share
    with it: the share of the MLP's variance that it leaves unexplained (`fvu`), the number of
    active features per token (`l0`) and of dead features (`n_dead`).

    together: the layers were aligned at once, so each dictionary was put in before any was trained.
    """
    artifacts, below = found.layers[layer], found.below(layer)
    if "dictionary" not in artifacts:
        return None
    model = "dictionary" if together else "continue"
    before = found.shared["losses"] if below is None else below[f"losses_{model}"]
    control = artifacts.get("dictionary_control", artifacts["dictionary"]).metrics
    return {
        "loss_before": before.metrics["loss"],
        "loss": artifacts["losses_dictionary"].metrics["loss"],
        "control": {key: control[key] for key in ("fvu", "l0", "n_dead")},
    }
