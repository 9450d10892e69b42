"""The table of scores: one row per method, judge and moment, with its value for every node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.stats.bootstrap import mean_ci95
from interp_by_construction.stats.undefined import mean_defined


@dataclass(frozen=True)
class RowName:
    """What a row is about."""

    method: str
    title: str
    """What tables call the method."""
    judge: str | None
    """Who scored; None if the method needs no judge."""
    self_judged: bool
    moment: str
    """`before` alignment or `final`. Baselines on the final model: `shuffled`, `empty_label`,
    `common_label`."""

    @property
    def key(self) -> str:
        """`method/judge/moment`."""
        return f"{self.method}/{self.judge or 'text'}/{self.moment}"


@dataclass(frozen=True)
class Row(RowName):
    """One row; all rows of a table are about the same nodes in the same order."""

    values: NDArray[np.float64]
    """[node]; NaN where undefined, and for nodes that the judge was not asked about."""
    n_not_asked: int = 0
    """How many nodes those are. They are no failures."""


@dataclass(frozen=True)
class RowSummary(RowName):
    """A row over the nodes where it is defined. `n`, `n_undefined` and `n_not_asked` add up to the
    number of nodes."""

    n_not_asked: int
    mean: float | None
    ci95: tuple[float, float] | None
    n: int
    n_undefined: int

    @classmethod
    def of(cls, row: Row, n_bootstrap: int, seed: int) -> RowSummary:
        """The interval is a bootstrap over nodes; null where no node is defined."""
        kept = {name: value for name, value in vars(row).items() if name != "values"}
        values = np.asarray(row.values, dtype=np.float64)
        defined = values[~np.isnan(values)]
        return cls(
            **kept,
            mean=mean_defined(values),
            ci95=mean_ci95(defined, n_bootstrap, seed) if len(defined) else None,
            n=len(defined),
            n_undefined=len(values) - len(defined) - row.n_not_asked,
        )


def per_node(rows: Iterable[Row]) -> dict[str, NDArray[np.float64]]:
    """Key of the row -> [node]. Raises ValueError for two rows of the same kind."""
    table: dict[str, NDArray[np.float64]] = {}
    for row in rows:
        if row.key in table:
            raise ValueError(f"{row.key} is in the table already")
        table[row.key] = np.ascontiguousarray(row.values, dtype=np.float64)
    return table
