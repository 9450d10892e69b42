"""How well a simulation finds the tokens on which a node is strongly active: average precision and
F1. Like Pearson's r they pass the sanity tests for such scores (missing and extra labels must cost,
https://arxiv.org/abs/2506.05774). Balanced accuracy and the area under the ROC curve do not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STRONG = 95.0
"""Percentile of a node's activations above which it is strongly active."""


def strong_above(real: NDArray[Any]) -> NDArray[np.float64]:
    """The `STRONG` percentile of each node, [node]. real: [token, node]."""
    return np.asarray(np.percentile(real, STRONG, axis=0), dtype=np.float64)


def average_precision(simulated: NDArray[Any], strong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Area under the curve of precision over recall, [node], as the sum of precision times the gain
    in recall; tokens of one value count together. simulated, strong: [token, node].

    NaN where no token is strong, or all are. A constant simulation gets the share of strong tokens.
    """
    found = np.full(simulated.shape[1], np.nan)
    for node in range(simulated.shape[1]):
        precision, recall, _ = _curve(simulated[:, node], strong[:, node])
        if len(precision):
            found[node] = float(np.sum(precision * np.diff(recall, prepend=0.0)))
    return found


def best_threshold(simulated: NDArray[Any], strong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The value at or above which a simulation calls a token strong so that F1 is largest, [node];
    NaN as for `average_precision`."""
    found = np.full(simulated.shape[1], np.nan)
    for node in range(simulated.shape[1]):
        precision, recall, values = _curve(simulated[:, node], strong[:, node])
        if len(precision):
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            found[node] = values[int(np.argmax(f1))]
    return found


def f1_score(
    simulated: NDArray[Any], strong: NDArray[np.bool_], threshold: NDArray[np.float64]
) -> NDArray[np.float64]:
    """F1 of the tokens simulated at or above the threshold of each node, [node]; NaN where no token
    is strong, all are, or there is no threshold."""
    called = simulated >= threshold
    hits = (called & strong).sum(axis=0)
    n_strong = strong.sum(axis=0)
    defined = (n_strong > 0) & (n_strong < len(strong)) & ~np.isnan(threshold)
    f1 = 2 * hits / np.maximum(called.sum(axis=0) + n_strong, 1)
    return np.where(defined, f1, np.nan)


def _curve(
    simulated: NDArray[Any], strong: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any]]:
    """Precision and recall of calling every token strong that is simulated at or above each of the
    values, from the largest down; all empty where recall or precision says nothing."""
    n_strong = int(strong.sum())
    if n_strong in (0, len(strong)):
        return np.empty(0), np.empty(0), np.empty(0)
    values, inverse = np.unique(-simulated, return_inverse=True)
    n_called = np.cumsum(np.bincount(inverse))
    hits = np.cumsum(np.bincount(inverse, weights=strong))
    return hits / n_called, hits / n_strong, -values
