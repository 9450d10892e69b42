"""The table of scores: one row per method, judge and moment, with its value for every node."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.stats.bootstrap import mean_ci95

MOMENTS = ("before", "final", "shuffled", "empty_label", "common_label")


class ScoreTable:
    """Collects rows; each covers the same nodes in the same order."""

    def __init__(self, n_bootstrap: int, seed: int) -> None:
        self._n_bootstrap, self._seed = n_bootstrap, seed
        self._rows: list[tuple[dict[str, Any], NDArray[np.float64]]] = []

    def add(
        self,
        method: str,
        judge: str | None,
        self_judged: bool,
        moment: str,
        values: NDArray[np.float64],
        n_not_asked: int = 0,
    ) -> None:
        """values: [node], NaN where undefined, and for the `n_not_asked` nodes that the judge was
        not asked about, which are no failure; judge: who scored, None where nobody had to. Raises
        ValueError for a second row of the same kind."""
        row = {"method": method, "judge": judge, "self_judged": self_judged, "moment": moment}
        if any(_key(known) == _key(row) for known, _ in self._rows):
            raise ValueError(f"{_key(row)} is in the table already")
        self._rows.append(
            (row | {"n_not_asked": n_not_asked}, np.asarray(values, dtype=np.float64))
        )

    def records(self) -> list[dict[str, Any]]:
        """method, judge, self_judged, moment, and over the nodes where it is defined the mean with
        its bootstrap interval, both null where there is none; `n`, `n_undefined` and `n_not_asked`
        add up to the nodes."""
        return [row | self._mean(values, row["n_not_asked"]) for row, values in self._rows]

    def per_node(self) -> dict[str, NDArray[np.float64]]:
        """`method/judge/moment` -> [node]."""
        return {_key(row): np.ascontiguousarray(values) for row, values in self._rows}

    def _mean(self, values: NDArray[np.float64], n_not_asked: int) -> dict[str, Any]:
        defined = values[~np.isnan(values)]
        return {
            "mean": float(defined.mean()) if len(defined) else None,
            "ci95": list(mean_ci95(defined, self._n_bootstrap, self._seed))
            if len(defined)
            else None,
            "n": len(defined),
            "n_undefined": len(values) - len(defined) - n_not_asked,
        }


def _key(row: dict[str, Any]) -> str:
    return f"{row['method']}/{row['judge'] or 'text'}/{row['moment']}"
