"""Clamping: what the language model loses when a node is held to its label, or against it, where
the label applies and elsewhere.

1. A label applies to a token where its simulation is above a threshold: the one that divides the
   simulations of the simulate split best into two groups (Otsu 1979,
   https://doi.org/10.1109/TSMC.1979.4310076). No activation takes part.
2. A node is set to its calibrated simulation everywhere; to its largest activation of the simulate
   split where the label applies (with the label) or elsewhere (against it); to 0 where the label
   applies (against it) or elsewhere (with it).
3. The loss changes on the predictions that are made at the tokens where the label applies, and on
   those made elsewhere; an effect on later predictions counts where those stand.

All aligned nodes at once (a prediction is `on` where any label applies), and a seeded sample of
nodes one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from interp_by_construction.corpus import load_blocks
from interp_by_construction.engine.progress import track
from interp_by_construction.scoring.calibration import Calibration
from interp_by_construction.subject.intervene import (
    SimulatedBlocks,
    batches,
    block_activations,
    replaced,
    rows,
    token_nats,
)

KINDS = ("simulated", "high_on", "zero_on", "high_off", "zero_off")
"""What a node is set to, and where (`on`: where its label applies)."""
N_BINS = 256


class Clamping(NamedTuple):
    """What the nodes are clamped to, [node] each."""

    threshold: NDArray[np.float64]
    """Of the simulation; NaN where it is constant: such a label applies nowhere in particular."""
    high: NDArray[np.float64]
    """Largest activation times pole."""


class Changes(NamedTuple):
    """Loss change of one group of nodes, nats per predicted token; NaN where there is no such
    token."""

    on: dict[str, float]
    """Kind -> change on the predictions made where a label of the group applies."""
    off: dict[str, float]
    n_on: int
    n_off: int


def fit(
    model: nn.Module,
    corpus: Path,
    text: SimulatedBlocks,
    layer: int,
    nodes: NDArray[np.int64],
    poles: NDArray[np.int64],
    batch_size: int,
    device: Any,
    description: str = "",
) -> Clamping:
    """Thresholds from the simulations and the largest activations, on the text that is calibrated
    on."""
    high = np.full(len(nodes), -np.inf)
    place = (corpus, text.split, text.blocks, text.mask.shape[1], layer)
    for at, values in block_activations(
        model, *place, batch_size, device, f"largest activations {description}"
    ):
        real = values[text.mask[at]][:, nodes] * poles
        high = np.maximum(high, real.max(axis=0, initial=-np.inf))
    simulated = np.asarray(text.values, dtype=np.float64)[text.mask]
    threshold = np.array([otsu(simulated[:, node]) for node in range(len(nodes))])
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
    # Every place in an empty stretch between two groups divides them equally well: its middle is
    # farthest from both.
    return float(edges[1:-1][between >= between.max() * (1 - 1e-12)].mean())


def losses(
    model: nn.Module,
    corpus: Path,
    text: SimulatedBlocks,
    layer: int,
    nodes: NDArray[np.int64],
    poles: NDArray[np.int64],
    own: Calibration,
    clamping: Clamping,
    groups: Sequence[Sequence[int]],
    batch_size: int,
    device: Any,
    description: str = "",
) -> list[Changes]:
    """Loss changes of each group of nodes (places in `nodes`), whose nodes are clamped together."""
    dataset, length = load_blocks(corpus, text.split), text.mask.shape[1]
    total = np.zeros((len(groups), len(KINDS) + 1, 2))
    count = np.zeros((len(groups), 2), dtype=np.int64)
    for at in track(batches(len(text.blocks), batch_size), f"clamp {description}".strip()):
        ids = torch.as_tensor(rows(dataset, "input_ids", text.blocks[at], length), device=device)
        shape = (len(ids), length - 1)
        untouched = token_nats(model, ids).reshape(shape)
        simulated, is_text = np.asarray(text.values[at], dtype=np.float64), text.mask[at]
        for index, group in enumerate(groups):
            chosen = np.asarray(group, dtype=np.int64)
            applies: NDArray[np.bool_] = (
                simulated[..., chosen] > clamping.threshold[chosen]
            ) & is_text[..., None]
            any_on = np.any(applies, axis=-1, keepdims=True)[:, :-1, 0]
            sides = (any_on, ~any_on & is_text[:, :-1])
            count[index] += [int(side.sum()) for side in sides]
            total[index, -1] += [untouched[side].sum() for side in sides]
            for kind, name in enumerate(KINDS):
                values, where = _clamped(
                    name, simulated[..., chosen], applies, is_text, own, clamping, chosen
                )
                set_to = torch.as_tensor((values * poles[chosen]).astype(np.float32), device=device)
                target = torch.as_tensor(nodes[chosen], device=device)
                with replaced(model, layer, target, set_to, torch.tensor(where, device=device)):
                    nats = token_nats(model, ids).reshape(shape)
                total[index, kind] += [nats[side].sum() for side in sides]
    changes = (total[:, :-1] - total[:, -1:]) / np.where(count > 0, count, np.nan)[:, None]
    results = []
    for index in range(len(groups)):
        on, off = (
            {name: float(changes[index, k, side]) for k, name in enumerate(KINDS)}
            for side in (0, 1)
        )
        results.append(Changes(on, off, int(count[index, 0]), int(count[index, 1])))
    return results


def _clamped(
    kind: str,
    simulated: NDArray,
    applies: NDArray[np.bool_],
    is_text: NDArray[np.bool_],
    own: Calibration,
    clamping: Clamping,
    chosen: NDArray[np.int64],
) -> tuple[NDArray, NDArray[np.bool_]]:
    """Values before poles and where they are set, [batch, pos, node] both."""
    everywhere = np.broadcast_to(is_text[..., None], applies.shape)
    if kind == "simulated":
        return own.scale[chosen] * simulated + own.offset[chosen], everywhere
    level = clamping.high[chosen] if kind.startswith("high") else np.zeros(len(chosen))
    return np.broadcast_to(level, applies.shape), applies if kind.endswith(
        "_on"
    ) else everywhere & ~applies


def run(
    model: nn.Module,
    corpus: Path,
    fitted: SimulatedBlocks,
    tested: SimulatedBlocks,
    layer: int,
    nodes: NDArray[np.int64],
    poles: NDArray[np.int64],
    own: Calibration,
    n_single: int,
    n_tokens: int,
    batch_size: int,
    seed: int,
    device: Any,
    moment: str,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record of one model, and one of each node that was clamped alone. n_tokens: how many of
    the tested tokens are read."""
    clamping = fit(model, corpus, fitted, layer, nodes, poles, batch_size, device, moment)
    defined = np.flatnonzero(~np.isnan(clamping.threshold) & ~np.isnan(clamping.high))
    chosen = np.sort(np.random.default_rng([seed, layer]).permutation(defined)[:n_single])
    text = _first(tested, n_tokens)
    groups = [[int(i)] for i in chosen] + ([defined.tolist()] if len(defined) else [])
    changes = (
        losses(
            model,
            corpus,
            text,
            layer,
            nodes,
            poles,
            own,
            clamping,
            groups,
            batch_size,
            device,
            moment,
        )
        if groups
        else []
    )
    single = changes[: len(chosen)]
    records = [
        {
            "moment": moment,
            "node": int(nodes[i]),
            "threshold": float(clamping.threshold[i]),
            "high": float(clamping.high[i]),
        }
        | _as_record(change)
        for i, change in zip(chosen, single, strict=True)
    ]
    record = {
        "n_tokens": int(text.mask.sum()),
        "n_undefined": len(nodes) - len(defined),
        "n_single": len(single),
        "n_single_without_tokens": sum(change.n_on == 0 or change.n_off == 0 for change in single),
        "single": {
            side: {kind: _mean(getattr(change, side)[kind] for change in single) for kind in KINDS}
            for side in ("on", "off")
        },
        "all": _as_record(changes[-1]) if len(defined) else None,
    }
    return record, records


def _first(text: SimulatedBlocks, n_tokens: int) -> SimulatedBlocks:
    """Evenly spaced blocks of about `n_tokens` tokens together."""
    n = min(len(text.blocks), max(1, n_tokens // text.mask.shape[1]))
    kept = np.linspace(0, len(text.blocks) - 1, n).round().astype(np.int64)
    return SimulatedBlocks(text.split, text.blocks[kept], text.values[kept], text.mask[kept])


def _as_record(change: Changes) -> dict[str, Any]:
    sides = {
        side: {kind: _or_null(value) for kind, value in getattr(change, side).items()}
        for side in ("on", "off")
    }
    return {"n_on": change.n_on, "n_off": change.n_off, **sides}


def _mean(values: Any) -> float | None:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else None


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value
