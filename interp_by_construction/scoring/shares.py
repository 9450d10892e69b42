"""How an increase of the loss divides between two parts, with a bootstrap interval over
documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Share:
    """A share with its interval, null where undefined."""

    value: float | None
    ci95: tuple[float, float] | None


def share_of_increase(part: NDArray[Any], rest: NDArray[Any], n_resamples: int, seed: int) -> Share:
    """part, rest: extra loss of each document without the one and without the other, nats,
    [document].

    `value` = increase of part / (increase of part + increase of rest). A negative increase counts
    as 0, so that the share stays between 0 and 1. It is null where neither removal raises the loss.
    `ci95` resamples documents (percentile method). It is null with fewer than two documents, or
    where a resample has no defined share.
    """
    part, rest = np.asarray(part, np.float64), np.asarray(rest, np.float64)
    value = _share(part.sum(), rest.sum())
    if np.isnan(value):
        return Share(None, None)
    ci95 = None
    if len(part) >= 2:
        chosen = np.random.default_rng(seed).integers(0, len(part), (n_resamples, len(part)))
        low, high = np.percentile(
            _share(part[chosen].sum(axis=1), rest[chosen].sum(axis=1)), [2.5, 97.5]
        )
        ci95 = None if np.isnan(low) or np.isnan(high) else (float(low), float(high))
    return Share(float(value), ci95)


def _share(part: Any, rest: Any) -> Any:
    part, rest = np.maximum(part, 0.0), np.maximum(rest, 0.0)
    total = part + rest
    return np.divide(part, total, out=np.full(np.shape(total), np.nan), where=total > 0)
