"""How much of a node is a lookup by token id? All of it in a word detector, less if the node reads
context.

Means per token id are fitted on one half of the tokens and explain the other, so that rare tokens
do not explain themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.stats.undefined import mean_defined
from interp_by_construction.subject.losses import N_COUNTED, count_values
from interp_by_construction.subject.reading import read_activations


class LookupTable:
    """Per-token-id means of one half of the tokens, and how much of the other half's variance they
    explain."""

    def __init__(self, fit_ids: NDArray[np.int64], width: int) -> None:
        """fit_ids: the token ids of the fitted half, sorted and distinct, [id]."""
        self.ids = torch.from_numpy(np.ascontiguousarray(fit_ids))
        self.shift: Tensor | None = None
        # First row: the fitted half, second: the measured one.
        self.total = torch.zeros((2, len(fit_ids), width), dtype=torch.float64)
        self.count = torch.zeros((2, len(fit_ids)), dtype=torch.float64)
        self.square = torch.zeros(width, dtype=torch.float64)
        self.low = torch.full((width,), torch.inf, dtype=torch.float64)
        self.high = -self.low
        self.n_unseen = 0

    def update(self, ids: Tensor, values: Tensor, fit: Tensor) -> None:
        """ids: long [token]; values: [token, node]; fit: bool [token], whether the token belongs to
        the fitted half."""
        if not len(ids):
            return
        if self.shift is None:
            # Sums about an activation that occurs do not cancel as sums about 0 would.
            self.shift = values[0].double()
        row = torch.searchsorted(self.ids, ids).clamp(max=max(len(self.ids) - 1, 0))
        seen = self.ids[row] == ids if len(self.ids) else torch.zeros_like(fit)
        self.n_unseen += int((~seen & ~fit).sum())
        shifted = values.double() - self.shift
        for half, use in enumerate((fit & seen, ~fit & seen)):
            self.total[half].index_add_(0, row[use], shifted[use])
            self.count[half].index_add_(
                0, row[use], torch.ones(int(use.sum()), dtype=torch.float64)
            )
        measured = shifted[~fit & seen]
        if len(measured):
            self.square += measured.square().sum(0)
            self.low = torch.minimum(self.low, measured.amin(0))
            self.high = torch.maximum(self.high, measured.amax(0))

    def r2(self) -> NDArray[np.float64]:
        """1 - residual / total sum of squares over the measured tokens whose id was fitted, [node].

        NaN for nodes that are constant there. Below 0 where a constant would predict better. Unseen
        ids are left out and counted (`n_unseen`): they say nothing about whether a node is a
        lookup.
        """
        n = self.count[1].sum()
        mean = self.total[0] / self.count[0].clamp(min=1)[:, None]
        residual = (
            self.square
            - 2 * (mean * self.total[1]).sum(0)
            + (self.count[1][:, None] * mean.square()).sum(0)
        )
        spread = self.square - self.total[1].sum(0).square() / n
        return torch.where(self.high > self.low, 1 - residual / spread, torch.nan).numpy()


class Lookup(NamedTuple):
    """Lookup R2 of some nodes on a split."""

    r2: NDArray[np.float64]
    """[node], NaN where undefined."""
    n_measured: int
    """Tokens of the measured half whose id occurs in the fitted half."""
    n_unseen: int
    """Tokens of the measured half whose id does not."""


def lookup_r2_of(
    model: nn.Module,
    passage: Passage,
    layer: int,
    nodes: NDArray[np.int64],
    batch_size: int,
    description: str = "",
) -> Lookup:
    """R2 of some nodes from per-token-id means: fitted on every other document of the passage,
    measured on the rest."""
    documents, _ = count_values(part.documents for part in passage.slices(N_COUNTED))

    def fitted(part: Passage) -> NDArray[np.bool_]:
        return np.searchsorted(documents, part.documents) % 2 == 0

    fit_ids = np.zeros(0, np.int64)
    for part in passage.slices(N_COUNTED):
        fit_ids = np.union1d(fit_ids, part.ids[fitted(part) & part.is_text])
    table = LookupTable(fit_ids, len(nodes))
    title = f"lookup {description}"
    for at, values in read_activations(model, passage, layer, nodes, batch_size, title):
        part = passage.part(at)
        text = (each[part.is_text] for each in (part.ids, values, fitted(part)))
        table.update(*map(torch.from_numpy, text))
    return Lookup(table.r2(), int(table.count[1].sum()), table.n_unseen)


@dataclass(frozen=True)
class LookupSummary:
    """Over the nodes with a defined R2; null where there are none."""

    mean: float | None
    median: float | None
    n: int
    n_undefined: int
    n_measured_tokens: int
    n_unseen_tokens: int


def lookup_summary(lookup: Lookup) -> LookupSummary:
    """Mean and median over nodes."""
    defined = lookup.r2[~np.isnan(lookup.r2)]
    return LookupSummary(
        mean_defined(lookup.r2),
        float(np.median(defined)) if len(defined) else None,
        len(defined),
        len(lookup.r2) - len(defined),
        lookup.n_measured,
        lookup.n_unseen,
    )
