"""Aligned nodes start as trained neurons: they do what their labels say as far as the layer's input
allows.

A ReLU neuron that is silent where its label applies gets no gradient there and never learns. On the
tiny subject that is about one node in sixty. So the input weights of such nodes, or of all aligned
nodes, are replaced by those of a neuron trained on the target (`training.readout`), if that neuron
correlates better than the node does. The neuron is scaled to the node's standard deviation and the
output weights stay, so that the layers above are disturbed little. The text is the align split.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp_by_construction.subject.families import layer_family, mixes_nodes, mlp_in
from interp_by_construction.subject.hooks import activations, mlp_flow
from interp_by_construction.training.batches import TokenBlocks
from interp_by_construction.training.losses import pearson_columns
from interp_by_construction.training.readout import train_gated_readout, train_readout
from interp_by_construction.training.targets import LayerTargets

Start = Literal["silent", "node", "readout"]

_log = logging.getLogger(__name__)

N_BLOCKS = 128
"""Blocks of the align split that the neurons are trained on."""
BATCH = 16
"""Blocks per forward pass."""
SILENT_BELOW = 0.1
"""A node that fires on a smaller share of its target counts as silent where its label applies."""


@dataclass(frozen=True)
class StartRecord:
    """What `align.start` did to a layer's nodes; null where nothing was measured."""

    n_replaced: int
    n_silent: int | None = None
    r_before: float | None = None
    """Mean r with the targets over the nodes where it is defined, on the text that the neurons were
    trained on."""
    n_undefined_before: int | None = None
    r_after: float | None = None
    n_undefined_after: int | None = None


def warm_start(
    model: Any, aligned: LayerTargets, blocks: TokenBlocks, seed: int, start: Start
) -> StartRecord:
    """Replaces input weights of a layer's aligned nodes in place; blocks: those of the align split.

    `start`: `silent` replaces nodes that are silent where their label applies, `readout` all,
    `node` none.

    Some nodes stay as they are:
    - those of a gated MLP with `silent`, since a gate lets gradients through on both sides;
    - those aligned with the negative pole in an MLP without gates, which cannot have that sign;
    - all, if weights cannot be a node's own (no bias and no gate, or an activation function that
      runs over all nodes). With `readout` a warning says so.
    """
    layer, nodes, mask = aligned.layer, aligned.nodes, aligned.mask[:N_BLOCKS]
    modules: list[Any] = mlp_in(model, layer)
    gated = len(modules) > 1
    if not nodes or not _can_start(model, layer, modules, start):
        return StartRecord(0)
    device = modules[0].weight.device
    kept = mask.flatten()
    wanted = aligned.values[:N_BLOCKS].flatten(0, 1)[kept].float().to(device)
    signs = torch.tensor(aligned.poles, device=device)
    with torch.no_grad():
        read, real = (each[kept] for each in _read(model, layer, nodes, blocks, len(mask)))
        r = pearson_columns(real * signs, wanted)
        silent = firing_share(real * signs, wanted) < SILENT_BELOW
        before = int(silent.sum()), *_mean(r)
        chosen = torch.nonzero(
            ((signs > 0) | gated) & (silent if start == "silent" else True)
        ).flatten()
    if not len(chosen):
        return StartRecord(0, *before, *_mean(r))
    fresh = _fresh(read, wanted[:, chosen], signs[chosen], _spread(real)[chosen], gated, seed)
    with torch.no_grad():
        at = torch.tensor(nodes, device=device)[chosen]
        own, new = [], []
        for module, (rows, bias) in zip(modules, fresh, strict=True):
            own.append(module.weight.T if layer_family(model, layer).conv1d else module.weight)
            new.append(rows)
            if getattr(module, "bias", None) is not None:
                own.append(module.bias)
                new.append(bias)
        old = [each[at].clone() for each in own]
        for each, value in zip(own, new, strict=True):
            each[at] = value.to(each)
        # Measured through the layer's own activation function, which may not be homogeneous.
        changed = _read(model, layer, at.tolist(), blocks, len(mask))[1][kept]
        after = pearson_columns(changed * signs[chosen], wanted[:, chosen])
        # Any r is better than none.
        better = after.nan_to_num(-1.0) > r[chosen].nan_to_num(-1.0)
        for each, was in zip(own, old, strict=True):
            each[at] = torch.where(better.view(-1, *[1] * (each.ndim - 1)), each[at], was)
        r[chosen] = torch.where(better, after, r[chosen])
    return StartRecord(int(better.sum()), *before, *_mean(r))


def _can_start(model: Any, layer: int, modules: list[Any], start: str) -> bool:
    """Whether the layer's nodes may be given the weights of trained neurons."""
    gated = len(modules) > 1
    if start == "node" or (gated and start == "silent"):
        return False
    own = gated or getattr(modules[0], "bias", None) is not None
    if mixes_nodes(model, layer) or not own:
        if start == "readout":
            _log.warning(
                "align.start=readout: the nodes of layer %d are no neurons with weights of their "
                "own; they stay",
                layer,
            )
        return False
    return True


def _mean(r: Tensor) -> tuple[float | None, int]:
    """Mean over the nodes for which r is defined, None if there are none, and the number of the
    others."""
    undefined = r.isnan()
    return None if undefined.all() else float(r.nanmean()), int(undefined.sum())


def _fresh(
    read: Tensor, wanted: Tensor, signs: Tensor, spread: Tensor, gated: bool, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Rows [node, d_model] and biases [node] of every input projection of trained neurons with the
    given deviations."""
    if gated:
        neurons = train_gated_readout(read, wanted, seed)
        scale = signs * spread / neurons.activations(read).std(0).clamp(min=1e-6)
        return [
            (neurons.gate.T, torch.zeros_like(scale)),
            ((neurons.up * scale).T, torch.zeros_like(scale)),
        ]
    weight, bias = train_readout(read, wanted, seed)
    scale = spread / torch.relu(read @ weight + bias).std(0).clamp(min=1e-6)
    return [((weight * scale).T, bias * scale)]


def _spread(real: Tensor) -> Tensor:
    """Deviation of each node [node]; a silent node has no scale and takes the layer's."""
    spread = real.std(0)
    return torch.where(spread > 0.01 * spread.median(), spread, spread.median())


def firing_share(real: Tensor, wanted: Tensor) -> Tensor:
    """Share of each target's excess over its mean that falls on tokens where the node is above 0; 0
    for a constant target.

    real, wanted: [token, node]. Returns [node].
    """
    excess = (wanted - wanted.mean(0)).clamp(min=0)
    return (excess * (real > 0)).sum(0) / excess.sum(0).clamp(min=1e-12)


def _read(
    model: Any, layer: int, nodes: list[int], blocks: TokenBlocks, n_blocks: int
) -> tuple[Tensor, Tensor]:
    """What the MLP reads [token, d_model], and the nodes' activations [token, node], on the first
    blocks."""
    device = next(model.parameters()).device
    read, real = [], []
    for start in range(0, n_blocks, BATCH):
        ids = blocks.batch(np.arange(start, min(start + BATCH, n_blocks)))["input_ids"].to(device)
        read.append(mlp_flow(model, layer, ids).read.float())
        real.append(activations(model, layer, ids)[..., nodes].flatten(0, 1).float())
    return torch.cat(read), torch.cat(real)
