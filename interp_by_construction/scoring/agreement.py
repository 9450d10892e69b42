"""Do two labels of the same node agree? By text, and by what a simulator makes of them; always
against other nodes' labels."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.words import normalised
from interp_by_construction.stats.correlation import pairwise_correlation

FUNCTION_WORDS = frozenset(
    "a an and any are as at be by for from in into is it its no not of on or other some such than that the their then these this "
    "those to with word words token tokens name names related thing things kind kinds".split()
)
"""Say nothing about which label it is: `words of colors` and `words of animals` share none but
these."""


def same_text(own: str, blind: str) -> float:
    """1 where the labels are the same but for case, spacing and a plural s (see `normalised`), else
    0."""
    return float(normalised(own) == normalised(blind))


def shared_words(own: str, blind: str) -> float:
    """Content words that both labels have, as a share of all they have (Jaccard), 0 to 1; NaN where
    neither has one."""
    first, second = content_words(own), content_words(blind)
    return len(first & second) / len(first | second) if first | second else math.nan


def content_words(label: str) -> set[str]:
    """Words without function words and without a plural s."""
    return {
        normalised(word)
        for word in re.findall(r"[^\W_]+", label.lower())
        if word not in FUNCTION_WORDS
    }


def text_agreement(
    own: Sequence[str], blind: Sequence[str | None]
) -> dict[str, NDArray[np.float64]]:
    """own, blind: labels of the same nodes, in order; None where the blind labelling failed.

    `same_text` and `shared_words`, [blind node, own label]; a failed node's row is NaN.
    """
    return {
        name: np.array(
            [[math.nan if b is None else measure(o, b) for o in own] for b in blind]
        ).reshape(len(blind), len(own))
        for name, measure in (("same_text", same_text), ("shared_words", shared_words))
    }


def simulation_agreement(
    own: NDArray[Any], blind: NDArray[Any], has_blind: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Pearson's r of the simulations of all pairs, [blind node, own label]; NaN where undefined or
    where there is no blind label.

    own: [token, node]; blind: [token, node with a blind label]; has_blind: which nodes those are,
    [node].
    """
    r = np.full((len(has_blind), own.shape[1]), math.nan)
    if has_blind.any():
        r[has_blind] = pairwise_correlation(blind, own)
    return r
