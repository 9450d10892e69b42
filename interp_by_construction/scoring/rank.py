"""Does a node's own label predict it better than the labels of its neighbours do?

The simulations must not be corrected for contrast, which makes the score with shuffled labels small
by construction. Uncorrected, a labeler that rates the same words high whatever the label gives all
labels the same r, since r is invariant to scale and offset of a simulation. Then the own label is
first by chance only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.stats.correlation import TIE, pairwise_correlation


class OwnLabelRanks(NamedTuple):
    """Ranks of one layer."""

    rank: NDArray[np.float64]
    """1 is best, [node]; NaN where the node or its own simulation is constant."""
    own_r: NDArray[np.float64]
    """Pearson's r with the own label's simulation, [node]; NaN likewise."""
    n_labels: int
    """Labels that compete: those whose simulation is not constant."""


def own_label_ranks(real: NDArray[Any], simulated: NDArray[Any]) -> OwnLabelRanks:
    """Rank of each node's own label among the labels of its layer, by signed r.

    real: [token, node], poles applied; simulated: [token, label], uncorrected for contrast; label i
    belongs to node i. Ties count against the own label, so that nodes which share a label are never
    first. A constant simulation competes with nobody.

    Raises:
        ValueError: shapes differ, or there are fewer than two tokens.
    """
    if real.shape != simulated.shape or real.ndim != 2:
        raise ValueError(
            f"real {real.shape} and simulated {simulated.shape} must both be [token, node]"
        )
    if len(real) < 2:
        raise ValueError(f"{len(real)} tokens have no correlation: give at least 2")
    r = pairwise_correlation(real, simulated)
    own = r.diagonal().copy()
    # NaN compares as False: an undefined competitor is not ahead.
    ahead = r >= own[:, None] - TIE
    np.fill_diagonal(ahead, False)
    rank = np.where(np.isnan(own), np.nan, 1.0 + ahead.sum(axis=1))
    return OwnLabelRanks(rank, own, int((simulated != simulated[:1]).any(axis=0).sum()))


@dataclass(frozen=True)
class RankSummary:
    """Over the nodes with a rank; null where there are none."""

    top1_rate: float | None
    median_rank: float | None
    chance_top1_rate: float | None
    n_labels: int
    """Labels that compete."""
    n: int
    n_undefined: int


def rank_summary(ranks: OwnLabelRanks) -> RankSummary:
    """How often the own label comes first, beside chance."""
    defined = ranks.rank[~np.isnan(ranks.rank)]
    return RankSummary(
        float((defined == 1).mean()) if len(defined) else None,
        float(np.median(defined)) if len(defined) else None,
        1 / ranks.n_labels if ranks.n_labels else None,
        ranks.n_labels,
        len(defined),
        len(ranks.rank) - len(defined),
    )
