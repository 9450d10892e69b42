"""Statistics of `collect`, one batch at a time, in a state of fixed size."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from interp_by_construction.config import CollectConfig

Picks = list[tuple[int, int]]
"""(block, position) of the tokens that excerpts are cut around."""


class _TopK:
    """Running k largest values of each node, at most one per block: [k, node]."""

    def __init__(self, k: int, width: int) -> None:
        self.k = k
        self.value = torch.full((0, width), -torch.inf)
        self.block = torch.zeros((0, width), dtype=torch.long)
        self.position = torch.zeros((0, width), dtype=torch.long)

    def update(self, blocks: Tensor, values: Tensor) -> None:
        """Merges the largest value of each block. values: [batch, pos, node]; -inf is left out."""
        peak, position = values.max(dim=1)
        candidates = torch.cat([self.value, peak])
        block = torch.cat([self.block, blocks[:, None].expand_as(position)])
        position = torch.cat([self.position, position])
        # A stable sort keeps the earlier block on ties, whatever the batch size.
        order = torch.argsort(candidates, dim=0, descending=True, stable=True)[: self.k]
        self.value = candidates.gather(0, order)
        self.block, self.position = block.gather(0, order), position.gather(0, order)

    def picks(self, node: int) -> Picks:
        known = torch.isfinite(self.value[:, node])
        block, position = self.block[known, node], self.position[known, node]
        return list(zip(block.tolist(), position.tolist(), strict=True))

    def tokens(self) -> set[tuple[int, int]]:
        """(block, position) of all tokens, of all nodes."""
        block, position = self.block.flatten(), self.position.flatten()
        return set(zip(block.tolist(), position.tolist(), strict=True))


class FirstPass:
    """Moments, extremes, top k of both poles, and a uniform sample of tokens."""

    def __init__(self, width: int, top_k: int, reservoir: int, seed: int) -> None:
        self.count = 0
        self.total = torch.zeros(width, dtype=torch.float64)
        self.total_square = torch.zeros(width, dtype=torch.float64)
        self.shift: Tensor | None = None
        self.low = torch.full((width,), torch.inf)
        self.high = torch.full((width,), -torch.inf)
        self.top = {1: _TopK(top_k, width), -1: _TopK(top_k, width)}
        self.top_tokens: dict[tuple[int, int], int] = {}
        self.reservoir = reservoir
        self.rng = np.random.default_rng(seed)
        self.keys = torch.zeros(0, dtype=torch.float64)
        self.pool = torch.zeros((0, width))
        self.pool_at = torch.zeros((0, 2), dtype=torch.long)

    def update(self, blocks: Tensor, input_ids: Tensor, values: Tensor) -> None:
        """blocks [batch], input_ids [batch, pos], values [batch, pos, node]."""
        flat = rearrange(values, "batch pos node -> (batch pos) node").double()
        if self.shift is None:
            # Sums about a typical value do not cancel as sums about 0 would.
            self.shift = flat.mean(0)
        self.count += len(flat)
        self.total += (flat - self.shift).sum(0)
        self.total_square += (flat - self.shift).square().sum(0)
        self.low = torch.minimum(self.low, values.amin((0, 1)))
        self.high = torch.maximum(self.high, values.amax((0, 1)))
        for pole, top in self.top.items():
            top.update(blocks, values * pole)
        self._remember_tokens(blocks, input_ids)
        self._fill_pool(blocks, values)

    def _remember_tokens(self, blocks: Tensor, input_ids: Tensor) -> None:
        rows = {int(block): row for row, block in enumerate(blocks)}
        live: dict[tuple[int, int], int] = {}
        for block, position in self.top[1].tokens() | self.top[-1].tokens():
            known = self.top_tokens.get((block, position))
            token = int(input_ids[rows[block], position]) if known is None else known
            live[block, position] = token
        self.top_tokens = live

    def _fill_pool(self, blocks: Tensor, values: Tensor) -> None:
        batch, length, _ = values.shape
        # The tokens with the largest random keys of all so far are a uniform sample.
        keys = torch.cat([self.keys, torch.from_numpy(self.rng.random(batch * length))])
        kept = torch.topk(keys, min(self.reservoir, len(keys))).indices
        old, new = kept[kept < len(self.keys)], kept[kept >= len(self.keys)] - len(self.keys)
        row, position = new // length, new % length
        keys = keys[torch.cat([old, new + len(self.keys)])]
        # In key order, so that the order of equal activations does not depend on the batch size.
        order = torch.argsort(keys, descending=True)
        added = torch.stack([blocks[row], position], dim=1)
        self.pool = torch.cat([self.pool[old], values[row, position]])[order]
        self.pool_at = torch.cat([self.pool_at[old], added])[order]
        self.keys = keys[order]

    @property
    def mean(self) -> Tensor:
        """float64 [node]."""
        assert self.shift is not None
        return self.shift + self.total / self.count

    @property
    def variance(self) -> Tensor:
        """Population variance, float64 [node]; exactly 0 for a constant node."""
        spread = self.total_square / self.count - (self.total / self.count).square()
        return torch.where(self.high > self.low, spread.clamp(min=0.0), 0.0)

    def poles(self) -> Tensor:
        """The sign with the larger mean of top activations, 1 or -1; 1 if none is negative."""
        strength = {pole: top.value.mean(0) for pole, top in self.top.items()}
        return torch.where((self.low < 0) & (strength[-1] > strength[1]), -1, 1)

    def picks(self, node: int, pole: int, cfg: CollectConfig, seed: int) -> dict[str, Picks]:
        """Top tokens, samples of each quantile band, lowest first, and a sample of all tokens."""
        order = torch.argsort(self.pool[:, node] * pole, stable=True).numpy()
        rng = np.random.default_rng([seed, node])
        sampled: list[int] = []
        for band in np.array_split(order, cfg.n_quantiles):
            sampled += sorted(rng.permutation(band)[: cfg.per_quantile].tolist())
        # The same tokens for both poles.
        drawn = np.random.default_rng([seed, node, 1]).permutation(len(self.pool_at))
        return {
            "top": self.top[pole].picks(node),
            "quantiles": self._at(sampled),
            "random": self._at(drawn[: cfg.n_random]),
        }

    def _at(self, indices: np.ndarray | list[int]) -> Picks:
        return [(int(block), int(position)) for block, position in self.pool_at[indices].tolist()]


class SecondPass:
    """Histogram and near misses of the chosen nodes."""

    def __init__(
        self,
        first: FirstPass,
        nodes: np.ndarray,
        poles: Tensor,
        cfg: CollectConfig,
    ) -> None:
        self.poles = poles
        low, high = first.low[nodes], first.high[nodes]
        self.low, self.width = low, torch.where(high > low, (high - low) / cfg.n_bins, 1.0)
        self.edges = low[:, None] + self.width[:, None] * torch.arange(cfg.n_bins + 1)
        self.histogram = torch.zeros((len(nodes), cfg.n_bins), dtype=torch.long)
        self.n_bins = cfg.n_bins
        self.limit = torch.zeros(len(nodes))
        pairs: list[tuple[int, int]] = []
        for column, node in enumerate(nodes):
            top = first.top[int(poles[column])]
            pairs += [(first.top_tokens[pick], column) for pick in top.picks(int(node))]
            # Low means below half of the weakest top excerpt, measured from the mean.
            mean = float(first.mean[node]) * float(poles[column])
            self.limit[column] = mean + 0.5 * (float(top.value[:, node].min()) - mean)
        # Pairs rather than a table of the vocabulary: a layer has few top tokens per node.
        self.top_token, self.top_column = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
        self.lowest = _TopK(cfg.n_near_misses, len(nodes))

    def update(self, blocks: Tensor, input_ids: Tensor, values: Tensor) -> None:
        """blocks [batch], input_ids [batch, pos], values [batch, pos, chosen node]."""
        bins = ((values - self.low) / self.width).long().clamp(0, self.n_bins - 1)
        flat = rearrange(bins, "batch pos node -> node (batch pos)")
        self.histogram.scatter_add_(1, flat, torch.ones_like(flat))
        poled = values * self.poles
        miss = self._is_top(input_ids) & (poled < self.limit)
        self.lowest.update(blocks, torch.where(miss, -poled, -torch.inf))

    def _is_top(self, input_ids: Tensor) -> Tensor:
        """Whether a token is one of a node's top tokens. [batch, pos] -> [batch, pos, chosen
        node]."""
        tokens, row = input_ids.unique(return_inverse=True)
        place = torch.searchsorted(tokens, self.top_token).clamp(max=len(tokens) - 1)
        here = tokens[place] == self.top_token
        table = torch.zeros((len(tokens), len(self.limit)), dtype=torch.bool)
        table[place[here], self.top_column[here]] = True
        return table[row]

    def near_misses(self, column: int) -> Picks:
        return self.lowest.picks(column)
