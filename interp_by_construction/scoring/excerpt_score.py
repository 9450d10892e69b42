"""Simulation score on chosen excerpts: Bills et al. 2023, section "Scoring".

Correlation over top-activating and random excerpts together ("top-and-random"), their random-only
variant, and top only. Top excerpts alone favour broad labels, random ones alone are noisy for rare
nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.windows import Windows
from interp_by_construction.scoring.windows import peaks, top_and_random
from interp_by_construction.stats.correlation import pairwise_correlation

VARIANTS = ("top", "random", "combined")


def excerpt_scores(
    real: NDArray,
    simulated: NDArray,
    windows: Windows,
    n_top: int,
    n_random: int,
    seed: Sequence[int],
) -> dict[str, NDArray[np.float64]]:
    """Variant -> r of each node on its own excerpts with every simulation, [node, label], NaN where
    undefined.

    real: activations times poles [token, node]; simulated: [token, label], whose first columns are
    the nodes' own labels in order and may be followed by others; both on the flat text that
    `windows` cuts.

    The random excerpts of a node depend on the seed and its row alone, so they are the same before
    and after alignment.
    """
    peak = peaks(real, windows)
    r = {variant: np.full((real.shape[1], simulated.shape[1]), math.nan) for variant in VARIANTS}
    for node in range(real.shape[1]):
        rng = np.random.default_rng([*seed, node])
        for variant, chosen in top_and_random(peak[:, node], n_top, n_random, rng).items():
            tokens = windows.tokens(chosen)
            if len(tokens) >= 2:
                r[variant][node] = pairwise_correlation(
                    real[tokens, node : node + 1], simulated[tokens]
                )[0]
    return r


def own_and_others(r: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The score of each node with its own label, and its mean with the labels of the other nodes
    (chance), [node] each.

    r: [node, label], label i belongs to node i; further labels are ignored. NaN where undefined,
    and without another node.
    """
    n = len(r)
    own = r[:, :n].diagonal().copy()
    others = r[:, :n].copy()
    np.fill_diagonal(others, math.nan)
    defined = ~np.isnan(others)
    count = defined.sum(axis=1)
    total = np.where(defined, others, 0.0).sum(axis=1)
    return own, np.divide(total, count, out=np.full(n, math.nan), where=count > 0)
