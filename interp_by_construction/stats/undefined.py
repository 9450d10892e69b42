"""Numbers that may be undefined: NaN in arrays, None in records."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def or_none(value: float) -> float | None:
    """None for NaN."""
    return None if math.isnan(value) else float(value)


def mean_defined(values: NDArray[Any]) -> float | None:
    """Mean of the values that are not NaN; None where there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def means_defined(values: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """`mean_defined` along one axis of a table; NaN where there are none."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=axis)
    total = np.where(defined, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(len(count), math.nan), where=count > 0)
