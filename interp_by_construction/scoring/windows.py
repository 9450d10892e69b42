"""Which windows of a text each node is scored on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.windows import Windows


def peaks(values: NDArray[Any], windows: Windows) -> NDArray[np.float64]:
    """Highest value inside each window. values: [token, node], on the flat text -> [window,
    node]."""
    if not len(windows.starts):
        return np.zeros((0, values.shape[1]))
    return np.stack(
        [values[a:b].max(axis=0) for a, b in zip(windows.starts, windows.stops, strict=True)]
    ).astype(np.float64)


def top_and_random(
    peak: NDArray[np.float64], n_top: int, n_random: int, rng: np.random.Generator
) -> dict[str, NDArray[np.int64]]:
    """The windows that the simulation score of one node is computed on (Bills et al. 2023,
    "Scoring"); peak: [window].

    `top`: highest peaks, at most a quarter of all windows, so that there are others on a short
    text; `random`: drawn from all windows; `combined`: both, none twice.
    """
    top = np.argsort(-peak, kind="stable")[: min(n_top, max(1, len(peak) // 4))]
    drawn = rng.permutation(len(peak))[:n_random]
    return {"top": np.sort(top), "random": np.sort(drawn), "combined": np.union1d(top, drawn)}


class Contrast(NamedTuple):
    """Windows in which one node is active, and in which it is not."""

    active: NDArray[np.int64]
    inactive: NDArray[np.int64]
    level: float
    """Activation from which a token counts as activating."""


def active_and_inactive(
    values: NDArray[np.float64], peak: NDArray[np.float64], n: int, rng: np.random.Generator
) -> Contrast | None:
    """Up to `n` windows of each kind, drawn at random; None where one kind is missing, as for a
    constant node.

    values: activations of one node on all tokens of the text; peak: its highest value in each
    window. A window is active if its peak lies in the upper half of the range from the median
    activation to the mean of the `n` highest peaks. So a node that fires on one word in a thousand
    has active windows, and so has a node that is never silent. Inactive is the lower half of the
    windows by peak, without those that are active.
    """
    if not len(peak):
        return None
    rest, highest = float(np.median(values)), float(np.sort(peak)[-n:].mean())
    level = (rest + highest) / 2
    active = np.flatnonzero(peak >= level)
    order = np.argsort(peak, kind="stable")[: len(peak) // 2]
    inactive = order[peak[order] < level]
    if highest <= rest or not len(active) or not len(inactive):
        return None
    return Contrast(
        np.sort(rng.permutation(active)[:n]), np.sort(rng.permutation(inactive)[:n]), level
    )
