"""Activations of some nodes, or what the MLP reads, on some blocks of a split, a few blocks at a
time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 16
"""Blocks per forward pass."""


def activation_chunks(
    model_dir: Path,
    corpus: Path,
    split: str,
    blocks: NDArray[np.int64],
    length: int,
    layer: int,
    nodes: NDArray,
    device: Any,
) -> Iterator[NDArray[np.float64]]:
    """Yields [token, node] for `BATCH` blocks after the other: their first `length` tokens, the
    given nodes, without poles."""
    import torch

    from interp_by_construction.subject.hooks import activations

    columns = torch.as_tensor(nodes, device=device)
    for model, ids in _passes(model_dir, corpus, split, blocks, device):
        with torch.inference_mode():
            values = activations(model, layer, ids)[:, :length, columns]
        yield values.flatten(0, 1).double().cpu().numpy()


def input_chunks(
    model_dir: Path,
    corpus: Path,
    split: str,
    blocks: NDArray[np.int64],
    length: int,
    layer: int,
    device: Any,
) -> Iterator[NDArray[np.float32]]:
    """The same for the input of the layer's MLP: yields [token, d_model]."""
    from einops import rearrange

    from interp_by_construction.subject.hooks import mlp_flow

    for model, ids in _passes(model_dir, corpus, split, blocks, device):
        read = rearrange(
            mlp_flow(model, layer, ids).read,
            "(batch pos) d_model -> batch pos d_model",
            batch=len(ids),
        )
        yield read[:, :length].flatten(0, 1).float().cpu().numpy()


def _passes(
    model_dir: Path, corpus: Path, split: str, blocks: NDArray[np.int64], device: Any
) -> Iterator[tuple[Any, Any]]:
    """The model and input ids [batch, pos] of each pass."""
    import torch

    from interp_by_construction.corpus import load_blocks
    from interp_by_construction.subject.load import load_subject

    model, dataset = load_subject(model_dir).to(device), load_blocks(corpus, split)
    for start in range(0, len(blocks), BATCH):
        yield (
            model,
            torch.as_tensor(
                np.asarray(dataset[blocks[start : start + BATCH]]["input_ids"]), device=device
            ),
        )
