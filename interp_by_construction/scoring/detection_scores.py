"""Average precision and F1 of labels, before and after alignment, and with other nodes' labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.stats.detection import (
    average_precision,
    best_threshold,
    f1_score,
    strong_above,
)

DETECTION = ("auprc", "f1")
"""Scores that are no correlation, each of the final model, `_before` alignment and `_shuffled`."""


def detection_scores(
    real: Mapping[str, NDArray[Any]],
    said: NDArray[Any],
    real_select: Mapping[str, NDArray[Any]],
    said_select: NDArray[Any],
    other: NDArray[np.int64] | None,
) -> dict[str, NDArray[np.float64]]:
    """`auprc`, `f1`, and each with `_before` and `_shuffled` -> [node].

    real: moment (before, final) -> activations times poles on the scored text, [token, node]; said:
    simulations there. The same of the select split, where it is set what is strong and where F1
    draws its line. other: another node for each, [node]; None where there is none, and no chance.
    """
    found: dict[str, NDArray[np.float64]] = {}
    own = np.arange(said.shape[1])
    for name, moment, order in (
        ("", "final", own),
        ("_before", "before", own),
        ("_shuffled", "final", other),
    ):
        if order is None:
            found |= {f"{each}{name}": np.full(len(own), np.nan) for each in DETECTION}
            continue
        level = strong_above(real_select[moment])
        strong = real[moment] > level
        threshold = best_threshold(said_select[:, order], real_select[moment] > level)
        found[f"auprc{name}"] = average_precision(said[:, order], strong)
        found[f"f1{name}"] = f1_score(said[:, order], strong, threshold)
    return found
