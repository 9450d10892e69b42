"""From the scale of simulations to that of activations: one least-squares line per node, fitted
batch by batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Calibration(NamedTuple):
    """Least-squares line from simulation to activation, with a slope of at least 0, [node] each."""

    scale: NDArray[np.float64]
    """0 where the simulation is constant or the fitted slope is negative: a label that says the
    opposite gains nothing."""
    offset: NDArray[np.float64]
    """The mean activation where the scale is 0, so that such a node is mean-ablated."""
    constant: NDArray[np.bool_]
    """The simulation never varies: no slope is defined."""
    negative: NDArray[np.bool_]
    """The unconstrained slope is negative."""


class LineFit:
    """Streaming least squares of each column of y on the same column of x, without large
    cancellations."""

    def __init__(self, width: int) -> None:
        self.n = 0
        self.first: tuple[NDArray[Any], NDArray[Any]] | None = None
        self.sums = np.zeros((4, width))
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)

    def update(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """x, y: [token, node]."""
        if not len(x):
            return
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if self.first is None:
            self.first = x[0].copy(), y[0].copy()
        self.low = np.minimum(self.low, x.min(axis=0))
        self.high = np.maximum(self.high, x.max(axis=0))
        x, y = x - self.first[0], y - self.first[1]
        self.n += len(x)
        self.sums += np.stack(
            [x.sum(axis=0), y.sum(axis=0), (x * x).sum(axis=0), (x * y).sum(axis=0)]
        )

    def result(self) -> Calibration:
        """Raises ValueError if no token was given."""
        if self.first is None:
            raise ValueError("no text to calibrate on: every position is masked")
        x, y, xx, xy = self.sums / self.n
        constant = self.high == self.low
        slope = np.divide(xy - x * y, xx - x * x, out=np.zeros_like(x), where=~constant)
        scale = np.maximum(slope, 0.0)
        return Calibration(
            scale, self.first[1] + y - scale * (self.first[0] + x), constant, slope < 0
        )
