"""The table of scores: one row per method, judge and moment, with its value for every node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.stats.bootstrap import mean_ci95

MOMENTS = ("before", "final", "shuffled", "empty_label", "common_label")


class Row(NamedTuple):
    """One row; all rows of a table are about the same nodes in the same order."""

    method: str
    title: str
    """What tables call the method."""
    judge: str | None
    """Who scored; None where nobody had to."""
    self_judged: bool
    moment: str
    """One of `MOMENTS`: before alignment, the final model, and baselines on the final model."""
    values: NDArray[np.float64]
    """[node], NaN where undefined, and for the nodes that the judge was not asked about."""
    n_not_asked: int = 0
    """Those are no failure."""

    @property
    def key(self) -> str:
        """`method/judge/moment`."""
        return f"{self.method}/{self.judge or 'text'}/{self.moment}"


@dataclass(frozen=True)
class RowSummary:
    """A row over the nodes where it is defined; `n`, `n_undefined` and `n_not_asked` add up to the
    nodes."""

    method: str
    title: str
    judge: str | None
    self_judged: bool
    moment: str
    n_not_asked: int
    mean: float | None
    ci95: tuple[float, float] | None
    n: int
    n_undefined: int

    @classmethod
    def of(cls, row: Row, n_bootstrap: int, seed: int) -> RowSummary:
        """The interval is a bootstrap over nodes; null where no node is defined."""
        values = np.asarray(row.values, dtype=np.float64)
        defined = values[~np.isnan(values)]
        return cls(
            row.method,
            row.title,
            row.judge,
            row.self_judged,
            row.moment,
            row.n_not_asked,
            float(defined.mean()) if len(defined) else None,
            mean_ci95(defined, n_bootstrap, seed) if len(defined) else None,
            len(defined),
            len(values) - len(defined) - row.n_not_asked,
        )

    @property
    def key(self) -> str:
        """As that of its row."""
        return f"{self.method}/{self.judge or 'text'}/{self.moment}"


def per_node(rows: Iterable[Row]) -> dict[str, NDArray[np.float64]]:
    """Key of the row -> [node]. Raises ValueError for two rows of the same kind."""
    table: dict[str, NDArray[np.float64]] = {}
    for row in rows:
        if row.key in table:
            raise ValueError(f"{row.key} is in the table already")
        table[row.key] = np.ascontiguousarray(row.values, dtype=np.float64)
    return table
