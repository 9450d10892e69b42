"""How much of a node is a lookup by token id? All of it in a word detector, less if the node reads
context.

Means per token id are fitted on one half of the tokens and explain the other, so that rare tokens
do not explain themselves. On text that a label is scored on, the same table, fitted elsewhere, is
what the label's simulation competes with: a label that says no more than which token stands there
does not beat it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.stats.undefined import mean_defined
from interp_by_construction.subject.losses import N_COUNTED, count_values
from interp_by_construction.subject.nodes import AlignedNodes
from interp_by_construction.subject.reading import read_activations


class LookupTable:
    """Per-token-id means of one half of the tokens, and how much of the other half's variance they
    explain."""

    def __init__(self, fit_ids: NDArray[np.int64], width: int, measures: bool = True) -> None:
        """fit_ids: the token ids of the fitted half, sorted and distinct, [id]. measures: False
        leaves the other half alone, and takes half of the memory."""
        self.measures = measures
        n_halves = 2 if measures else 1
        self.ids = torch.from_numpy(np.ascontiguousarray(fit_ids))
        self.shift: Tensor | None = None
        # First row: the fitted half, second: the measured one.
        self.total = torch.zeros((n_halves, len(fit_ids), width), dtype=torch.float64)
        self.count = torch.zeros((n_halves, len(fit_ids)), dtype=torch.float64)
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
        for half, use in enumerate((fit & seen, ~fit & seen)[: len(self.total)]):
            self.total[half].index_add_(0, row[use], shifted[use])
            self.count[half].index_add_(
                0, row[use], torch.ones(int(use.sum()), dtype=torch.float64)
            )
        measured = shifted[~fit & seen]
        if self.measures and len(measured):
            self.square += measured.square().sum(0)
            self.low = torch.minimum(self.low, measured.amin(0))
            self.high = torch.maximum(self.high, measured.amax(0))

    def means(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the fitted half says of tokens [token]: the mean of the id, or that of all tokens
        for an id that does not occur there, [token, node]; NaN where nothing was fitted."""
        if self.shift is None or not len(self.ids):
            return np.full((len(ids), self.total.shape[2]), np.nan)
        tokens = torch.from_numpy(np.ascontiguousarray(ids))
        row = torch.searchsorted(self.ids, tokens).clamp(max=len(self.ids) - 1)
        count, n = self.count[0], self.count[0].sum()
        every = self.total[0].sum(0) / n
        means = torch.where(
            (self.ids[row] == tokens)[:, None], self.total[0][row] / count[row, None], every
        )
        return (means + self.shift).numpy()

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
    """What the token alone says of some nodes."""

    r2: NDArray[np.float64]
    """[node], NaN where undefined."""
    n_measured: int
    """Tokens of the measured half whose id occurs in the fitted half."""
    n_unseen: int
    """Tokens of the measured half whose id does not."""
    elsewhere: LookupTable
    """Fitted on all text of the passage but some blocks."""


def lookup_of(
    model: nn.Module,
    passage: Passage,
    aligned: AlignedNodes,
    batch_size: int,
    description: str = "",
    apart: Passage | None = None,
) -> Lookup:
    """R2 of some nodes from per-token-id means: fitted on every other document of the passage,
    measured on the rest. Activations are taken as they are, without poles. apart: the blocks that
    `elsewhere` is not fitted on."""
    layer, nodes, _ = aligned
    documents, _ = count_values(part.documents for part in passage.slices(N_COUNTED))
    same = apart is not None and apart.source.name == passage.source.name
    left_out = apart.blocks if apart is not None and same else np.zeros(0, np.int64)

    def halves(part: Passage) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        outside = np.broadcast_to(~np.isin(part.blocks, left_out)[:, None], part.shape)
        return np.searchsorted(documents, part.documents) % 2 == 0, outside

    tables = []
    for half in range(2):
        fit_ids = np.zeros(0, np.int64)
        for part in passage.slices(N_COUNTED):
            fit_ids = np.union1d(fit_ids, part.ids[halves(part)[half] & part.is_text])
        tables.append(LookupTable(fit_ids, len(nodes), measures=half == 0))
    title = f"lookup {description}"
    for at, values in read_activations(model, passage, layer, nodes, batch_size, title):
        part = passage.part(at)
        for table, fitted in zip(tables, halves(part), strict=True):
            text = (each[part.is_text] for each in (part.ids, values, fitted))
            table.update(*map(torch.from_numpy, text))
    halved, elsewhere = tables
    return Lookup(halved.r2(), int(halved.count[1].sum()), halved.n_unseen, elsewhere)


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


CONTEXTUAL = 0.05
"""By so much r a contextual label beats the node's own table per token."""


@dataclass(frozen=True)
class ContextSummary:
    """Labels against the tables per token of their own nodes, on the text of the scores. Over the
    nodes where both have an r; null where there are none."""

    share: float | None
    """Of labels whose simulation beats the table by at least `CONTEXTUAL`."""
    label_r_mean: float | None
    table_r_mean: float | None
    n: int
    n_undefined: int


def context_summary(label_r: NDArray[Any], table_r: NDArray[Any]) -> ContextSummary:
    """label_r, table_r: r of simulation and of table with the node, [node], NaN where undefined."""
    defined = ~np.isnan(label_r) & ~np.isnan(table_r)
    label, table = label_r[defined], table_r[defined]
    share = mean_defined((label - table >= CONTEXTUAL).astype(float))
    n = int(defined.sum())
    return ContextSummary(share, mean_defined(label), mean_defined(table), n, len(defined) - n)
