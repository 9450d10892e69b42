"""Clamping: what the language model loses when a node is held to its label, or against it, where
the label applies and elsewhere.

1. A label applies to a token where its simulation is above a threshold: the one that divides the
   simulations of the simulate split best into two groups (Otsu 1979,
   https://doi.org/10.1109/TSMC.1979.4310076). No activation takes part.
2. A node is set to its calibrated simulation everywhere; to its largest activation of the simulate
   split where the label applies (with the label) or elsewhere (against it); to 0 where the label
   applies (against it) or elsewhere (with it).
3. The change of the loss is measured on the predictions made at tokens where the label applies, and
   on those made elsewhere. An effect on a later prediction counts at that prediction's token.

This is done for all aligned nodes at once (a prediction is `on` where any label applies), and for a
seeded sample of nodes one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from interp_by_construction.corpus.passage import spaced
from interp_by_construction.scoring.calibration import Calibration
from interp_by_construction.scoring.substitution import AlignedLayer
from interp_by_construction.stats.undefined import or_none
from interp_by_construction.subject.interventions import Intervention, Simulated
from interp_by_construction.subject.losses import token_losses
from interp_by_construction.subject.nodes import AlignedNodes
from interp_by_construction.subject.reading import read_activations

KINDS = ("simulated", "high_on", "zero_on", "high_off", "zero_off")
"""What a node is set to, and where (`on`: where its label applies)."""
N_BINS = 256


class Clamping(NamedTuple):
    """What nodes are clamped to, [node] each."""

    threshold: NDArray[np.float64]
    """Of the simulation; NaN where it is constant: such a label applies nowhere in particular."""
    high: NDArray[np.float64]
    """Largest activation times pole."""


@dataclass(frozen=True)
class GroupChanges:
    """Loss change of one group of nodes, nats per predicted token; null where there is no such
    token."""

    n_on: int
    n_off: int
    on: dict[str, float | None]
    """Kind -> change on the predictions made where a label of the group applies."""
    off: dict[str, float | None]


def fit(
    model: nn.Module, aligned: AlignedNodes, simulated: Simulated, batch_size: int, moment: str
) -> Clamping:
    """Thresholds from the simulations, and the largest activations, on one text."""
    layer, nodes, poles = aligned
    passage, title = simulated.passage, f"largest activations {moment}"
    high = np.full(len(nodes), -np.inf)
    for at, values in read_activations(model, passage, layer, nodes, batch_size, title):
        real = values[passage.is_text[at]] * poles
        high = np.maximum(high, real.max(axis=0, initial=-np.inf))
    said = simulated.on_text().astype(np.float64)
    threshold = np.array([otsu(column) for column in said.T])
    return Clamping(threshold, np.where(np.isfinite(high), high, np.nan))


def otsu(values: NDArray[np.float64]) -> float:
    """The threshold with the largest variance between what lies above and below it; NaN for
    constant values."""
    if not len(values) or values.min() == values.max():
        return math.nan
    counts, edges = np.histogram(values, bins=N_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(counts)[:-1], counts.sum()
    first = np.cumsum(counts * centres)[:-1]
    above = total - below
    between = below * above * (first / below - ((counts * centres).sum() - first) / above) ** 2
    # All thresholds in an empty stretch between two groups divide them equally well. The middle is
    # farthest from both.
    return float(edges[1:-1][between >= between.max() * (1 - 1e-12)].mean())


def losses(
    model: nn.Module,
    clamped: Clamped,
    groups: Sequence[Sequence[int]],
    batch_size: int,
    description: str = "",
) -> list[GroupChanges]:
    """Loss changes of each group of nodes (columns), whose nodes are clamped together."""
    passage = clamped.simulated.passage
    total = np.zeros((len(groups), len(KINDS) + 1, 2))
    count = np.zeros((len(groups), 2), dtype=np.int64)
    chosen = [np.asarray(group, dtype=np.int64) for group in groups]
    interventions = {
        f"{index} {kind}": [clamped.intervention(kind, columns)]
        for index, columns in enumerate(chosen)
        for kind in KINDS
    }
    for at, nats in token_losses(model, passage, interventions, batch_size, f"clamp {description}"):
        for index, columns in enumerate(chosen):
            any_on = np.any(clamped.applies(at, columns), axis=-1)[:, :-1]
            sides = (any_on, ~any_on & passage.is_text[at, :-1])
            count[index] += [int(side.sum()) for side in sides]
            total[index, -1] += [nats["none"][side].sum() for side in sides]
            for place, kind in enumerate(KINDS):
                total[index, place] += [nats[f"{index} {kind}"][side].sum() for side in sides]
    changes = (total[:, :-1] - total[:, -1:]) / np.where(count > 0, count, np.nan)[:, None]
    results = []
    for index in range(len(groups)):
        on, off = (
            {kind: or_none(changes[index, k, side]) for k, kind in enumerate(KINDS)}
            for side in (0, 1)
        )
        results.append(GroupChanges(int(count[index, 0]), int(count[index, 1]), on, off))
    return results


class Clamped(NamedTuple):
    """Nodes of one layer, what their labels say on a passage, and what they are clamped to."""

    nodes: AlignedNodes
    simulated: Simulated
    own: Calibration
    clamping: Clamping

    def applies(self, at: slice, columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Where each node's label applies in some blocks, [batch, pos, node]."""
        is_text = self.simulated.passage.is_text[at, :, None]
        return (self._said(at, columns) > self.clamping.threshold[columns]) & is_text

    def intervention(self, kind: str, columns: NDArray[np.int64]) -> Intervention:
        """One of `KINDS`, on some nodes."""
        layer, nodes, poles = self.nodes
        if kind == "simulated":
            line = self.own
            return Intervention(
                layer,
                nodes[columns],
                lambda at: (
                    (line.scale[columns] * self._said(at, columns) + line.offset[columns])
                    * poles[columns]
                ),
            )
        high = self.clamping.high[columns] if kind.startswith("high") else np.zeros(len(columns))

        def places(at: slice) -> NDArray[np.bool_]:
            on = self.applies(at, columns)
            return on if kind.endswith("_on") else ~on & self.simulated.passage.is_text[at, :, None]

        return Intervention(layer, nodes[columns], lambda _: high * poles[columns], places)

    def _said(self, at: slice, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(self.simulated.values[at], dtype=np.float64)[..., columns]


class Budget(NamedTuple):
    """How much is clamped."""

    n_single: int
    """Nodes that are clamped one by one."""
    n_tokens: int
    """How many of the tested tokens are read."""
    batch_size: int
    seed: int


@dataclass(frozen=True)
class ClampRecord:
    """One model."""

    n_tokens: int
    n_undefined: int
    """Nodes without a threshold or a largest activation."""
    n_single: int
    n_single_without_tokens: int
    single: dict[str, dict[str, float | None]]
    """on, off -> kind -> mean change over the nodes that were clamped alone."""
    all: GroupChanges | None
    """All nodes clamped together; null where there is none."""


def measure_clamping(
    model: nn.Module, layer: AlignedLayer, own: Calibration, budget: Budget, moment: str
) -> tuple[ClampRecord, list[dict[str, Any]]]:
    """The record of one model, and one of each node that was clamped alone."""
    aligned, tested = layer.nodes, layer.test
    clamping = fit(model, aligned, layer.calibrate, budget.batch_size, moment)
    defined = np.flatnonzero(~np.isnan(clamping.threshold) & ~np.isnan(clamping.high))
    drawn = np.random.default_rng([budget.seed, aligned.layer]).permutation(defined)
    chosen = np.sort(drawn[: budget.n_single])
    n_blocks = min(len(tested.passage), max(1, budget.n_tokens // tested.passage.length))
    text = tested.part(spaced(len(tested.passage), n_blocks))
    groups = [[int(i)] for i in chosen] + ([defined.tolist()] if len(defined) else [])
    clamped = Clamped(aligned, text, own, clamping)
    changes = losses(model, clamped, groups, budget.batch_size, moment) if groups else []
    single = changes[: len(chosen)]
    records = [
        {
            "moment": moment,
            "node": int(aligned.nodes[i]),
            "threshold": float(clamping.threshold[i]),
            "high": float(clamping.high[i]),
        }
        | vars(change)
        for i, change in zip(chosen, single, strict=True)
    ]
    record = ClampRecord(
        n_tokens=int(text.passage.is_text.sum()),
        n_undefined=len(aligned.nodes) - len(defined),
        n_single=len(single),
        n_single_without_tokens=sum(each.n_on == 0 or each.n_off == 0 for each in single),
        single={
            "on": _means([change.on for change in single]),
            "off": _means([change.off for change in single]),
        },
        all=changes[-1] if len(defined) else None,
    )
    return record, records


def _means(changes: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Kind -> mean over the nodes for which it is defined."""
    defined = {
        kind: [value for change in changes if (value := change[kind]) is not None] for kind in KINDS
    }
    return {kind: float(np.mean(each)) if each else None for kind, each in defined.items()}
