"""What a score is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def other_labels(n: int, seed: int | Sequence[int]) -> NDArray[np.int64]:
    """For each node the column of another node's label, [node]: a seeded permutation in one cycle
    (for n = 1 the own one)."""
    order = np.random.default_rng(seed).permutation(n)
    other = np.empty(n, dtype=np.int64)
    other[order] = np.roll(order, 1)
    return other
