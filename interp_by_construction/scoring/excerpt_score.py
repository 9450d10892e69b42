"""Simulation score on chosen excerpts: Bills et al. 2023, section "Scoring".

Correlation over top-activating and random excerpts together ("top-and-random"), over random ones
only, and over top ones only. Top excerpts alone favour broad labels. Random ones alone are noisy
for rare nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.windows import Windows
from interp_by_construction.scoring.score_table import Row
from interp_by_construction.scoring.scorer import Case, Scored
from interp_by_construction.scoring.windows import peaks, top_and_random
from interp_by_construction.simulators.exact import REFERENCE_LABELS, contrasted, simulate_packed
from interp_by_construction.stats.correlation import pairwise_correlation
from interp_by_construction.stats.undefined import means_defined

TITLES = {
    "top": "simulation r, top excerpts",
    "random": "simulation r, random excerpts",
    "combined": "simulation r, top and random",
}
"""Variant -> what tables call its score."""


def score(case: Case) -> Scored:
    """All moments and baselines, by every simulator: the run's own if it reads any text, the
    labeler's exact simulation, and that of a separate judge."""
    rows: list[Row] = []
    for said in _simulated(case):
        windows = said.text.windows(case.cfg.window)
        amounts = case.cfg.n_top, case.cfg.n_random
        for moment in ("before", "final"):
            real = case.real(moment, said.text)
            scores = excerpt_scores(real, said.values, windows, *amounts, case.draw)
            for variant, r in scores.items():
                of = (f"simulation_{variant}", TITLES[variant], said.judge, said.self_judged)
                own, others = own_and_others(r)
                rows.append(Row(*of, moment, own))
                if moment == "final":
                    rows.append(Row(*of, "shuffled", others))
                    rows.append(Row(*of, "empty_label", r[:, -1]))
                    rows.append(Row(*of, "common_label", r[:, case.common]))
    return Scored(rows)


class _Simulated(NamedTuple):
    text: Passage
    values: NDArray[np.float32]
    """[token, label]: the nodes' own labels, then the empty one."""
    judge: str
    self_judged: bool


def _simulated(case: Case) -> Iterator[_Simulated]:
    own = case.simulator
    if own is not None and case.by_simulator is not None:
        text = case.simulated.passage("head_score")
        yield _Simulated(text, case.by_simulator.on_score, own.name, own.self_judged)
    text, contrast = case.simulated.passage("score"), case.simulated.contrast
    for judge in case.judges:
        if judge is case.judges[0]:
            known, reference = (case.simulated.values[k] for k in ("score", "score_reference"))
            empty = simulate_packed(
                judge.labeler, [""], text.tokens, "simulate the empty label", allow_empty=True
            )
            every = np.concatenate([known, empty], axis=1)
        else:
            n, asked = len(case.labels) + 1, [*case.labels, "", *REFERENCE_LABELS]
            every = simulate_packed(
                judge.labeler, asked, text.tokens, "simulate by the judge", allow_empty=True
            )
            every, reference = every[:, :n], every[:, n:].mean(axis=1)
        values = contrasted(every, reference, contrast)
        yield _Simulated(text, values, judge.name, judge.self_judged)


def excerpt_scores(
    real: NDArray[Any],
    simulated: NDArray[Any],
    windows: Windows,
    n_top: int,
    n_random: int,
    seed: Sequence[int],
) -> dict[str, NDArray[np.float64]]:
    """Variant -> r of each node on its own excerpts with every simulation, [node, label], NaN where
    undefined.

    real: activations times poles [token, node]; simulated: [token, label]; both on the flat text
    that `windows` cuts. The random excerpts of a node depend on the seed and its row alone, so they
    are the same before and after alignment.
    """
    peak = peaks(real, windows)
    r = {variant: np.full((real.shape[1], simulated.shape[1]), math.nan) for variant in TITLES}
    for node in range(real.shape[1]):
        rng = np.random.default_rng([*seed, node])
        for variant, chosen in top_and_random(peak[:, node], n_top, n_random, rng).items():
            tokens = windows.tokens(chosen)
            if len(tokens) >= 2:
                r[variant][node] = pairwise_correlation(
                    real[tokens, node : node + 1], simulated[tokens]
                )[0]
    return r


def own_and_others(r: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The score of each node with its own label, and its mean with the labels of the other nodes
    (chance), [node] each.

    r: [node, label]; label i belongs to node i, further labels are ignored. NaN where undefined.
    """
    others = r[:, : len(r)].copy()
    own = others.diagonal().copy()
    np.fill_diagonal(others, math.nan)
    return own, means_defined(others, axis=1)
