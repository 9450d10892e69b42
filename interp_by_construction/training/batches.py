"""Blocks of token ids, with targets or without, and the batches that a phase reads of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp_by_construction.corpus import load_blocks
from interp_by_construction.training.phases import Phase, Reading
from interp_by_construction.training.targets import LayerTargets


class TokenBlocks:
    """Blocks of a split: `dataset[indices]["input_ids"]` gives [batch, pos]. Only the first `limit`
    blocks, if given."""

    def __init__(self, dataset: Any, limit: int | None = None) -> None:
        self.dataset, self.n_blocks = dataset, min(len(dataset), limit or len(dataset))

    def __len__(self) -> int:
        return self.n_blocks

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """input_ids, int64 [batch, pos]."""
        input_ids = np.asarray(self.dataset[indices.tolist()]["input_ids"], dtype=np.int64)
        return {"input_ids": torch.from_numpy(input_ids)}


class TargetBlocks(TokenBlocks):
    """Blocks with `targets_<layer>` [block, pos, node] and `mask_<layer>` [block, pos] of every
    layer that has aligned nodes.

    Raises ValueError where the targets of a layer do not cover exactly these blocks: the run and
    its control would then read different text.
    """

    def __init__(
        self, dataset: Any, layers: Sequence[LayerTargets], limit: int | None = None
    ) -> None:
        super().__init__(dataset, limit)
        if any(len(layer.values) != len(self) for layer in layers):
            covered = [len(layer.values) for layer in layers]
            raise ValueError(f"targets must cover the {len(self)} blocks, but cover {covered}")
        self.layers = [layer for layer in layers if layer.nodes]

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        where, batch = torch.from_numpy(indices), super().batch(indices)
        for each in self.layers:
            batch[f"targets_{each.layer}"] = each.values[where].float()
            batch[f"mask_{each.layer}"] = each.mask[where].bool()
        return batch


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, n_blocks: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(n_blocks)


def batch_indices(seed: int, n_blocks: int, batch_size: int, step: int) -> np.ndarray:
    """Block indices [batch_size] of one step. Every epoch is a fresh permutation; a batch may cross
    its end."""
    position = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = position // n_blocks
    parts = [
        _permutation(seed, n_blocks, int(epoch))[position[epochs == epoch] % n_blocks]
        for epoch in np.unique(epochs)
    ]
    return np.concatenate(parts)


def by_step(blocks: TokenBlocks, seed: int, batch_size: int) -> Callable[[int], dict[str, Tensor]]:
    """The batch of each step, in the order of `batch_indices`."""
    return lambda step: blocks.batch(batch_indices(seed, len(blocks), batch_size, step))


class Stream:
    """The batches of a phase. Each depends on its step alone, so training can resume anywhere.

    If the phase reads two splits, the batches of the first are spread over the stream as evenly as
    whole steps allow. All others are of the second.
    """

    def __init__(self, phase: Phase, corpus: Path, aligned: Sequence[LayerTargets] = ()) -> None:
        self.phase = phase
        self.blocks = [_blocks(each, corpus, aligned) for each in phase.reads]
        self._by_step = [
            by_step(blocks, text.seed, text.batch_size)
            for blocks, text in zip(self.blocks, phase.reads, strict=True)
        ]

    def at(self, step: int) -> dict[str, Tensor]:
        """The batch of a step of the phase, from 0."""
        place = self.phase.first + step
        n_first = self.phase.reads[0].n_batches
        n_all = sum(each.n_batches for each in self.phase.reads)
        before = place * n_first // n_all
        if (place + 1) * n_first // n_all > before:
            return self._by_step[0](before)
        return self._by_step[1](place - before)


def _blocks(text: Reading, corpus: Path, aligned: Sequence[LayerTargets]) -> TokenBlocks:
    blocks = load_blocks(corpus, text.split)
    if text.split == "align":
        return TargetBlocks(blocks, aligned, text.n_blocks)
    return TokenBlocks(blocks, text.n_blocks)
