"""What a layer does on a passage, a few blocks at a time.

Blocks are read whole. So the last bits of an activation do not depend on the length of a passage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from interp_by_construction.corpus.passage import Passage, batches
from interp_by_construction.engine.progress import track
from interp_by_construction.subject.hooks import activations, mlp_flow

BATCH = 16
"""Blocks per forward pass, if no setting says how many."""


def read_activations(
    model: nn.Module,
    passage: Passage,
    layer: int,
    nodes: NDArray[np.int64] | None = None,
    batch_size: int = BATCH,
    description: str = "",
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Blocks of each batch, and activations without poles, [batch, pos, node].

    nodes: ids [node]; None for the whole layer. description: of the progress bar; "" for none.
    """
    device = device_of(model)
    columns = slice(None) if nodes is None else torch.as_tensor(nodes, device=device)
    for at, ids in _passes(passage, batch_size, device, description):
        with torch.inference_mode():
            values = activations(model, layer, ids)[:, : passage.length, columns]
        yield at, values.float().cpu().numpy()


def activations_on(
    model: nn.Module,
    passage: Passage,
    layer: int,
    nodes: NDArray[np.int64],
    batch_size: int = BATCH,
    description: str = "",
) -> NDArray[np.float32]:
    """Activations of some nodes on the whole passage, [token, node], without poles."""
    read = read_activations(model, passage, layer, nodes, batch_size, description)
    flat = "batch pos node -> (batch pos) node"
    none = np.empty((0, len(nodes)), dtype=np.float32)
    return np.concatenate([none, *(rearrange(values, flat) for _, values in read)])


def mlp_inputs_on(model: nn.Module, passage: Passage, layer: int) -> NDArray[np.float32]:
    """What the layer's MLP reads on the whole passage, [token, d_model]."""
    pieces = []
    for _, ids in _passes(passage, BATCH, device_of(model), ""):
        read = rearrange(
            mlp_flow(model, layer, ids).read,
            "(batch pos) d_model -> batch pos d_model",
            batch=len(ids),
        )
        pieces.append(read[:, : passage.length].flatten(0, 1).float().cpu().numpy())
    return np.concatenate(pieces)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device


def _passes(
    passage: Passage, batch_size: int, device: torch.device, description: str
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks and input ids [batch, pos] of each pass over the passage's blocks, in full length."""
    whole = passage.whole()
    each: Iterable[slice] = batches(len(passage), batch_size)
    for at in track(each, description.strip()) if description else each:
        yield at, torch.as_tensor(whole.part(at).ids, device=device)
