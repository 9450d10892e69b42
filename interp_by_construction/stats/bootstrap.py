"""Bootstrap intervals (percentile method, Efron 1979)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def mean_ci95(values: NDArray[Any], n_resamples: int, seed: int) -> tuple[float, float]:
    """95 % interval of the mean of `values` [n], resampling its entries. NaNs are not allowed; n
    must be positive."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (n_resamples, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def paired_difference_ci95(
    first: NDArray[Any], second: NDArray[Any], weights: NDArray[Any], n_resamples: int, seed: int
) -> tuple[float, float]:
    """95 % interval of the weighted mean of `first - second`, resampling documents.

    first, second: summed loss of each document, nats, [document]; weights: its predicted tokens,
    [document]. NaN for both ends with fewer than two documents.
    """
    if len(first) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(first), (n_resamples, len(first)))
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    means = difference[chosen].sum(axis=1) / weights[chosen].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
