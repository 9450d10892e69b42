"""What the nodes of a layer are trained towards (align.target): their labels, or the targets of a
control.

`label`: each node's own simulation.

`shuffled`: the simulation of another node's label of the same layer. The targets are as learnable
as before; only the pairing is wrong.

`random`: the node's own simulation, moved around the text in a circle (time-shifted surrogates,
Lancaster et al. 2018, https://doi.org/10.1016/j.physrep.2018.06.001). The values keep their order,
so mean, variance, sparsity and circular autocorrelation are exactly those of the label's target.
Their relation to the text is lost: a model can only memorise such targets.

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
from interp_by_construction.stats.baselines import other_labels
from interp_by_construction.training.losses import pearson_columns

Target = Literal["label", "shuffled", "random"]

_SHUFFLED, _RANDOM = 11, 12
"""Part of the seeds. The scores draw other nodes' labels from the same seed and must not draw
these."""

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
        """The same nodes with what `align.target` says. Raises ConfigError for `shuffled` with a
        single node."""
        if target == "label":
            return self
        if target == "shuffled":
            values = self.values[..., other_nodes(self.values.shape[-1], seed, self.layer)]
        else:
            values = shifted(self.values, self.mask, seed, self.layer)
        return replace(self, values=values)


def other_nodes(n: int, seed: int, layer: int) -> NDArray[np.int64]:
    """For each node the column of the node whose label it is trained towards, [node]; see
    `stats.baselines`.

    Raises ConfigError for n = 1: there is no other label.
    """
    if n == 1:
        fix = "give more nodes, or align.target=random"
        raise ConfigError(
            f"align.target=shuffled: layer {layer} has one node with a label, so there is no other label; {fix}"
        )
    return other_labels(n, [seed, layer, _SHUFFLED])


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
    """Mean r between the targets trained towards and those of the nodes' own labels. A control that
    was trained perfectly would still score that much against the labels. None where r is defined
    for no node."""
    r = pearson_columns(values[mask.bool()], trained[mask.bool()])
    return float(r.nanmean()) if bool((~r.isnan()).any()) else None
