"""Activations of some nodes on some blocks of a split, a few blocks at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 16
"""Blocks per forward pass."""


def activation_chunks(
    model_dir: Path, corpus: Path, split: str, blocks: NDArray[np.int64], length: int, layer: int, nodes: NDArray, device: Any
) -> Iterator[NDArray[np.float64]]:
    """Yields [token, node] for `BATCH` blocks after the other: their first `length` tokens, the given nodes, without poles."""
    import torch

    from interp_by_construction.corpus import load_blocks
    from interp_by_construction.subject.hooks import activations
    from interp_by_construction.subject.load import load_subject

    model = load_subject(model_dir).to(device)
    dataset, columns = load_blocks(corpus, split), torch.as_tensor(nodes, device=device)
    for start in range(0, len(blocks), BATCH):
        ids = torch.as_tensor(np.asarray(dataset[blocks[start : start + BATCH]]["input_ids"]), device=device)
        with torch.inference_mode():
            values = activations(model, layer, ids)[:, :length, columns]
        yield values.flatten(0, 1).double().cpu().numpy()
