"""Short token windows: around one token, and all windows of a text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def window_around(
    position: int, width: int, low: int, high: int, before: int | None = None
) -> slice:
    """`width` of the tokens from `low` to `high`, `before` of them (None: 3/4) before `position`.

    A window that would stick out at one side is moved to the other.
    """
    before = (3 * width) // 4 if before is None else before
    start = max(low, min(position - before, high - width))
    return slice(start, min(start + width, high))


class Windows(NamedTuple):
    """Runs of tokens of one document, as positions in the flat text, [window]."""

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def tokens(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of all tokens of some windows."""
        parts = [np.arange(self.starts[i], self.stops[i]) for i in chosen]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def cut_windows(is_text: NDArray[np.bool_], document: NDArray[np.int64], window: int) -> Windows:
    """Cuts the text into windows of nearly equal size: 2/3 to 3/2 of `window` tokens.

    is_text, document: [block, pos]. No window crosses a document, a block or an end-of-text token.
    Runs of less than half a window are left out.
    """
    n_blocks, length = is_text.shape
    starts: list[int] = []
    stops: list[int] = []
    for block in range(n_blocks):
        key = np.where(is_text[block], document[block], -1)
        edges = np.flatnonzero(np.diff(key)) + 1
        for start, stop in zip([0, *edges], [*edges, length], strict=True):
            if key[start] < 0 or 2 * (stop - start) < window:
                continue
            n = max(1, round((stop - start) / window))
            bounds = np.linspace(start, stop, n + 1).round().astype(np.int64) + block * length
            starts += bounds[:-1].tolist()
            stops += bounds[1:].tolist()
    return Windows(np.array(starts, dtype=np.int64), np.array(stops, dtype=np.int64))
