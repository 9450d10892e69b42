"""Pearson correlation between real and simulated activations, the simulation score of Bills et al.
(2023), https://openaipublic.blob.core.windows.net/neuron-explainer/paper/index.html."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

TIE = 1e-12
"""Correlations that differ by less are equal: a matrix product may sum equal columns in different
orders, so that their r differ in the last bits."""


def simulation_score(real: ArrayLike, simulated: ArrayLike) -> float:
    """Pearson's r of two sequences of equal length, in float64, between -1 and 1.

    NaN only where either has zero variance or fewer than two values. Raises ValueError for unequal
    lengths.
    """
    x, y = _flat(real), _flat(simulated)
    if x.shape != y.shape:
        raise ValueError(
            f"real has {x.size} values, simulated {y.size}: they must be equal in length"
        )
    return float(columnwise_correlation(x[:, None], y[:, None])[0])


def columnwise_correlation(real: NDArray[Any], simulated: NDArray[Any]) -> NDArray[np.float64]:
    """Pearson's r of each column. real, simulated: [token, node]; returns float64 [node], NaN where
    undefined."""
    if real.shape != simulated.shape:
        raise ValueError(f"shapes differ: {real.shape} and {simulated.shape}")
    if real.shape[0] < 2:
        return np.full(real.shape[1], math.nan)
    x, y = _standardised(real), _standardised(simulated)
    return np.clip(np.einsum("tn,tn->n", x, y), -1.0, 1.0)


def pairwise_correlation(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Pearson's r of every column with every column. [token, a] and [token, b] -> float64 [a, b],
    NaN where undefined."""
    if len(first) != len(second):
        raise ValueError(f"shapes differ: {first.shape} and {second.shape}")
    if len(first) < 2:
        return np.full((first.shape[1], second.shape[1]), math.nan)
    return np.clip(np.einsum("ta,tb->ab", _standardised(first), _standardised(second)), -1.0, 1.0)


def _standardised(values: NDArray[Any]) -> NDArray[np.float64]:
    """Columns with mean 0 and unit norm; NaN for constant ones. Scaling first keeps huge and tiny
    values exact enough."""
    x = np.asarray(values, dtype=np.float64)
    constant = (x == x[:1]).all(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.abs(x).max(axis=0)
        x = x / np.where(scale > 0, scale, 1.0)
        x = x - x.mean(axis=0)
        x = x / np.sqrt(np.einsum("tn,tn->n", x, x))
    x[:, constant] = math.nan
    return x


def _flat(values: ArrayLike) -> NDArray[np.float64]:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values, dtype=np.float64).reshape(-1)
