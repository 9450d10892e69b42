"""Substitution and ablation: the aligned nodes of one or several layers are set to what their
labels say, to their mean, and to 0.

1. Calibrate: one line per node from its simulation to its activation, on text that no loss is
   measured on. Beside it the same with another node's label, and the mean of every node.
2. Interventions of a layer: mean and zero ablation of the aligned and of the free nodes, and
   substitution by own and by other nodes' labels.
3. Losses by document (`subject.losses`), summarised with intervals that are paired over documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from interp_by_construction.scoring.calibration import Calibration, LineFit
from interp_by_construction.stats.baselines import other_labels
from interp_by_construction.stats.bootstrap import paired_difference_ci95
from interp_by_construction.subject.families import d_mlp
from interp_by_construction.subject.interventions import Intervention, Simulated, constant
from interp_by_construction.subject.losses import Losses
from interp_by_construction.subject.nodes import AlignedNodes
from interp_by_construction.subject.reading import read_activations

SUBSTITUTIONS = ("own_labels", "other_labels")
ABLATIONS = ("aligned_mean", "aligned_zero", "free_mean", "free_zero")


class AlignedLayer(NamedTuple):
    """The aligned nodes of one layer, and what their labels say; node columns in their order."""

    nodes: AlignedNodes
    rank: Simulated
    """Uncorrected for contrast, on text that nothing was fitted on."""
    calibrate: Simulated
    """By the simulator of `test`; scale, offset and means are fitted here."""
    test: Simulated
    """Losses are measured here."""


class Calibrated(NamedTuple):
    """What the interventions on a layer are made from."""

    mean: NDArray[np.float64]
    """Activation of every node of the layer, [d_mlp]."""
    own: Calibration
    """From own simulations to pole * activation."""
    other: Calibration
    """From other nodes' simulations to pole * activation."""


def calibrate(
    model: nn.Module,
    aligned: AlignedNodes,
    simulated: Simulated,
    batch_size: int,
    seed: int,
    description: str = "",
) -> Calibrated:
    """Means and lines on the text that is calibrated on. seed: of the other labels."""
    layer, title = aligned.layer, f"calibrate {description}"
    total, count = np.zeros(d_mlp(model, layer)), 0
    own, other = LineFit(len(aligned.nodes)), LineFit(len(aligned.nodes))
    shuffled = other_labels(len(aligned.nodes), seed)
    for at, values in read_activations(model, simulated.passage, layer, None, batch_size, title):
        part = simulated.part(at)
        real = values[part.passage.is_text].astype(np.float64)
        total, count = total + real.sum(axis=0), count + len(real)
        said, poled = part.on_text(), real[:, aligned.nodes] * aligned.poles
        own.update(said, poled)
        other.update(said[:, shuffled], poled)
    return Calibrated(total / max(count, 1), own.result(), other.result())


def ablations(
    layer: int, nodes: NDArray[np.int64], mean: NDArray[np.float64]
) -> dict[str, Intervention]:
    """Mean and zero ablation of the aligned nodes, of the free ones, and of all; mean: [d_mlp]."""
    free = np.setdiff1d(np.arange(len(mean)), nodes)
    groups = {"aligned": nodes, "free": free, "all": np.concatenate([nodes, free])}
    return {
        f"{group}_{kind}": constant(layer, chosen, mean[chosen] if kind == "mean" else 0.0)
        for group, chosen in groups.items()
        for kind in ("mean", "zero")
    }


def substitutions(
    aligned: AlignedNodes, simulated: Simulated, fitted: Calibrated, seed: int
) -> dict[str, Intervention]:
    """Substitution by own and by other nodes' labels; `seed` as for `calibrate`."""
    shuffled = other_labels(len(aligned.nodes), seed)

    def said(at: slice, columns: NDArray[np.int64], line: Calibration) -> NDArray[np.float64]:
        values = np.asarray(simulated.values[at], dtype=np.float64)[..., columns]
        return aligned.poles * (line.scale * values + line.offset)

    order = np.arange(len(aligned.nodes))
    own = Intervention(aligned.layer, aligned.nodes, lambda at: said(at, order, fitted.own))
    other = Intervention(aligned.layer, aligned.nodes, lambda at: said(at, shuffled, fitted.other))
    # A single node has no other label.
    return {"own_labels": own} | ({"other_labels": other} if len(aligned.nodes) > 1 else {})


def layer_interventions(
    model: nn.Module, each: AlignedLayer, batch_size: int, seed: int, description: str
) -> dict[str, Intervention]:
    """All of one layer, calibrated on the untouched model."""
    fitted = calibrate(model, each.nodes, each.calibrate, batch_size, seed, description)
    return ablations(each.nodes.layer, each.nodes.nodes, fitted.mean) | substitutions(
        each.nodes, each.test, fitted, seed
    )


@dataclass(frozen=True)
class Increase:
    """Rise of the loss against the untouched model, nats per token."""

    loss_increase: float
    ci95: tuple[float, float] | None
    """Paired over documents; null with one document."""

    @property
    def certain(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.ci95 is not None and self.ci95[0] > 0


@dataclass(frozen=True)
class Substituted(Increase):
    """A substitution, and the share of each ablation's rise that it takes back. Null where that
    rise is not certain, since there is nothing to recover then."""

    recovered_from_mean: float | None
    recovered_from_zero: float | None


@dataclass(frozen=True)
class LossSummary:
    """Losses on one passage; see `summarise`."""

    loss: float
    """Of the untouched model, nats per token."""
    n_tokens: int
    n_documents: int
    ablation: dict[str, Increase]
    substitution: dict[str, Substituted | None]
    """`own_labels` and `other_labels`; null where not measured, as `other_labels` with a single
    node."""


def summarise(losses: Losses, ablations: Sequence[str], n_bootstrap: int, seed: int) -> LossSummary:
    """ablations: the names that get a record, `aligned_mean` and `aligned_zero` among them."""
    n_tokens = int(losses.tokens.sum())
    mean = {name: float(nats.sum()) / n_tokens for name, nats in losses.nats.items()}

    def increase(name: str) -> Increase:
        low, high = paired_difference_ci95(
            losses.nats[name], losses.nats["none"], losses.tokens, n_bootstrap, seed
        )
        return Increase(mean[name] - mean["none"], None if math.isnan(low) else (low, high))

    ablated = {name: increase(name) for name in ablations}

    def recovered(name: str, ablation: str) -> float | None:
        if not ablated[ablation].certain:
            return None
        return (mean[ablation] - mean[name]) / (mean[ablation] - mean["none"])

    substituted = {
        name: Substituted(
            **vars(increase(name)),
            recovered_from_mean=recovered(name, "aligned_mean"),
            recovered_from_zero=recovered(name, "aligned_zero"),
        )
        if name in mean
        else None
        for name in SUBSTITUTIONS
    }
    return LossSummary(mean["none"], n_tokens, len(losses.document), ablated, substituted)
