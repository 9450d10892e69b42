"""What the nodes of a layer are trained towards (align.target): their labels, or the targets of a
control.

`label`: each node's own simulation. `shuffled`: the simulation of another node's label of the same
layer, so that the targets are as learnable as before and only the pairing is wrong. `random`: the
node's own simulation, moved around the text in a circle (time-shifted surrogates, Lancaster et al.
2018, https://doi.org/10.1016/j.physrep.2018.06.001): the same values in the same order, so mean,
variance, sparsity and circular autocorrelation are exactly those of the label's target, and no
relation to the text is left. What a model learns of random targets it learns by heart.

All are functions of the targets, the seed and the layer alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from interp_by_construction.errors import ConfigError
from interp_by_construction.training.losses import pearson_columns

Target = Literal["label", "shuffled", "random"]

_SHUFFLED, _RANDOM = 11, 12
"""Streams of random numbers of their own: the scores draw other nodes' labels from the same seed
and must not draw these."""

MARGIN = 0.1
"""A random target is moved by at least this share of the text, either way."""


@dataclass(frozen=True)
class LayerTargets:
    """What one layer's nodes are trained towards, on the first blocks of the align split."""

    layer: int
    nodes: list[int]
    poles: list[int]
    """1 or -1: the sign with which an activation is compared with its target."""
    values: Tensor
    """float16 [block, pos, node]."""
    mask: Tensor
    """bool [block, pos]: where a target is defined."""

    @classmethod
    def read(cls, simulated: Path, layer: int) -> LayerTargets:
        """Each node's own label, as `simulated`, a simulate artifact, holds it."""
        read = load_file(simulated / "targets.safetensors")
        nodes, poles = read["nodes"].tolist(), read["poles"].tolist()
        return cls(layer, nodes, poles, read["values"], read["mask"].bool())

    def towards(self, target: Target, seed: int) -> LayerTargets:
        """The same nodes with what `align.target` says."""
        values = trained_targets(target, self.values, self.mask, seed, self.layer)
        return replace(self, values=values)


def trained_targets(target: Target, values: Tensor, mask: Tensor, seed: int, layer: int) -> Tensor:
    """Targets [block, pos, node] to train towards; values: those of the nodes' own labels; mask
    [block, pos]: where defined.

    Raises ConfigError for `shuffled` with a single node.
    """
    if target == "label":
        return values
    return (
        values[..., other_nodes(values.shape[-1], seed, layer)]
        if target == "shuffled"
        else shifted(values, mask, seed, layer)
    )


def other_nodes(n: int, seed: int, layer: int) -> NDArray[np.int64]:
    """For each node the column of the node whose label it is trained towards, [node]: a seeded
    permutation in one cycle.

    Raises ConfigError for n = 1: there is no other label.
    """
    if n == 1:
        fix = "give more nodes, or align.target=random"
        raise ConfigError(
            f"align.target=shuffled: layer {layer} has one node with a label, so there is no other label; {fix}"
        )
    order = np.random.default_rng([seed, layer, _SHUFFLED]).permutation(n)
    other = np.empty(n, dtype=np.int64)
    other[order] = np.roll(order, 1)
    return other


def shifted(values: Tensor, mask: Tensor, seed: int, layer: int) -> Tensor:
    """Each node's targets on the tokens of `mask`, moved in a circle by an offset of its own; other
    tokens stay as they are.

    Offsets are uniform between MARGIN and 1 - MARGIN of the text, so that also the relations
    between nodes are lost.
    """
    kept = mask.bool()
    stream = values[kept]
    n_tokens, n_nodes = stream.shape
    low = max(1, round(MARGIN * n_tokens))
    offsets = np.random.default_rng([seed, layer, _RANDOM]).integers(
        low, max(low, n_tokens - low) + 1, n_nodes
    )
    moved = torch.empty_like(stream)
    for node, offset in enumerate(offsets.tolist()):
        moved[:, node] = stream[:, node].roll(offset)
    result = values.clone()
    result[kept] = moved
    return result


def resemblance(values: Tensor, trained: Tensor, mask: Tensor) -> float | None:
    """Mean r between the targets trained towards and those of the nodes' own labels: what a control
    that was trained perfectly would still score against the labels. None where it is defined for no
    node."""
    r = pearson_columns(values[mask.bool()], trained[mask.bool()])
    return float(r.nanmean()) if bool((~r.isnan()).any()) else None
