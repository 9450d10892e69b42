"""Aligned nodes start as neurons that do what their labels say already, as far as the layer's input tells it.

A ReLU neuron that is silent where its label applies gets no gradient there, and never learns: on the tiny subject about one node
in sixty. So each aligned node's input weights are replaced by those of a neuron trained on its target (`training.readout`), where
that one correlates better than the node itself. It is as active as the node was, so that what reads the node is disturbed little;
the output weights stay. The text is that of alignment (the align split).
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp_by_construction.subject.families import layer_family, mixes_nodes, mlp_in
from interp_by_construction.subject.hooks import activations, mlp_flow
from interp_by_construction.training.fit import TokenBlocks
from interp_by_construction.training.losses import pearson_columns
from interp_by_construction.training.readout import train_readout

_log = logging.getLogger(__name__)

N_BLOCKS = 128
"""Blocks of the align split that the neurons are trained on."""
BATCH = 16
"""Blocks per forward pass."""


def warm_start(
    model: Any, layer: int, nodes: list[int], poles: list[int], values: Tensor, mask: Tensor, blocks: TokenBlocks, seed: int
) -> dict[str, Any]:
    """Replaces input weights of a layer's `nodes` in place; values, mask: targets [block, pos, node] and where they are defined.

    Returns how many were replaced and the mean r with the targets before and after, on the text they were trained on. A node
    that is aligned with its negative pole stays as it is, and so does one without a weight row and a bias of its own (of a gated
    MLP, or where the activation function runs over all nodes): then `n_replaced` is 0, which is logged.
    """
    module: Any = mlp_in(model, layer)[0]
    if len(mlp_in(model, layer)) > 1 or mixes_nodes(model, layer) or getattr(module, "bias", None) is None:
        _log.warning("align.start=readout: the nodes of layer %d are no neurons with a weight row and a bias; they stay", layer)
        return {"n_replaced": 0}
    device = module.weight.device
    kept = mask[:N_BLOCKS].flatten()
    wanted = values[:N_BLOCKS].flatten(0, 1)[kept].float().to(device)
    signs = torch.tensor(poles, device=device)
    with torch.no_grad():
        read, real = (each[kept] for each in _read(model, layer, nodes, blocks, len(mask[:N_BLOCKS])))
    readout = train_readout(read, wanted, seed)
    with torch.no_grad():
        spread = real.std(0)
        # A silent node has no scale: it takes the layer's.
        spread = torch.where(spread > 0.01 * spread.median(), spread, spread.median())
        scale = spread / torch.relu(read @ readout.weight + readout.bias).std(0).clamp(min=1e-6)
        rows = module.weight.T if layer_family(model, layer).conv1d else module.weight
        old = rows[nodes].clone(), module.bias[nodes].clone()
        rows[nodes], module.bias[nodes] = (readout.weight * scale).T.to(rows), (readout.bias * scale).to(module.bias)
        # Measured through the layer's own activation function, which may not be homogeneous.
        fresh = _read(model, layer, nodes, blocks, len(mask[:N_BLOCKS]))[1][kept]
        before, after = (pearson_columns(each * signs, wanted).nan_to_num(-1.0) for each in (real, fresh))
        better = (after > before) & (signs > 0)
        rows[nodes] = torch.where(better[:, None], rows[nodes], old[0])
        module.bias[nodes] = torch.where(better, module.bias[nodes], old[1])
    reached = torch.where(better, after, before)
    return {"n_replaced": int(better.sum()), "r_before": float(before.mean()), "r_after": float(reached.mean())}


def _read(model: Any, layer: int, nodes: list[int], blocks: TokenBlocks, n_blocks: int) -> tuple[Tensor, Tensor]:
    """What the MLP reads [token, d_model], and the nodes' activations [token, node], on the first blocks."""
    device = next(model.parameters()).device
    read, real = [], []
    for start in range(0, n_blocks, BATCH):
        ids = blocks.batch(np.arange(start, min(start + BATCH, n_blocks)))["input_ids"].to(device)
        read.append(mlp_flow(model, layer, ids).read.float())
        real.append(activations(model, layer, ids)[..., nodes].flatten(0, 1).float())
    return torch.cat(read), torch.cat(real)
