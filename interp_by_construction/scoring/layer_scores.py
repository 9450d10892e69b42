"""Correlations of one layer's nodes with what their labels say, on held-out text: by the simulator
of the targets, by another one, and by the rule that a label may be read as."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.parts import Part
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.scoring.simulated import SimulatedLayer
from interp_by_construction.stats.correlation import columnwise_correlation
from interp_by_construction.stats.undefined import means_defined
from interp_by_construction.truth.language import is_rule, truth_on

N_SHUFFLES = 20
SECOND = ("second", "second_before", "second_shuffled")
"""Scores by the second simulator."""
BY_RULES = ("rules", "rules_before", "rules_shuffled")
"""Scores by rules."""

Moments = Mapping[str, NDArray[Any]]
"""before, after, final -> activations times poles where there is text, [token, node]."""


def simulation_scores(
    simulated: SimulatedLayer, real: Mapping[str, Moments], part: Part, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Kind -> r per node, [node]. real: of the text `score` and of `part`, on which nodes are
    scored."""
    on_exact, on_own = real["score"], real[part]
    use = simulated.passage("score").is_text.reshape(-1)
    exact = simulated.on("score")[use]
    raw, dense = (simulated.values[name][use] for name in ("score", "score_dense"))
    passage = simulated.passage(part)
    own = _said(simulated, part)
    held_out = passage.held_out[passage.is_text]
    compared = {
        "exact": (on_exact["final"], exact),
        "exact_before": (on_exact["before"], exact),
        "final_raw": (on_exact["final"], raw),
        "dense_before": (on_exact["before"], dense),
        "dense_final": (on_exact["final"], dense),
        "before": (on_own["before"], own),
        "after": (on_own["after"], own),
        "final": (on_own["final"], own),
        "final_held_out": (on_own["final"][held_out], own[held_out]),
    }
    shuffled = {
        "exact_shuffled": shuffled_scores(on_exact["final"], exact, seed),
        "shuffled": shuffled_scores(on_own["final"], own, seed),
    }
    if "second" in simulated.values:
        second = simulated.values["second"][passage.is_text.reshape(-1)]
        compared["second"] = on_own["final"], second
        compared["second_before"] = on_own["before"], second
        shuffled["second_shuffled"] = shuffled_scores(on_own["final"], second, seed)
    return {kind: columnwise_correlation(*pair) for kind, pair in compared.items()} | shuffled


def trained_scores(
    simulated: SimulatedLayer, real: Moments, part: Part, columns: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """r of each node with the simulation that it was trained towards, [node]. columns: the node
    whose label that was, [node]."""
    said = _said(simulated, part)[:, columns]
    return {
        "trained": columnwise_correlation(real["final"], said),
        "trained_before": columnwise_correlation(real["before"], said),
    }


def rule_scores(
    labels: Sequence[str], passage: Passage, real: Moments, seed: int
) -> dict[str, NDArray[np.float64]]:
    """r of each node with the rule that its label is read as, [node]; NaN where it is read as
    none. A rule may look ahead here: it only scores."""
    found = {kind: np.full(len(labels), np.nan) for kind in BY_RULES}
    read = np.array([i for i, label in enumerate(labels) if is_rule(label)], dtype=np.int64)
    if len(read):
        truth = truth_on(passage.tokens, [labels[i] for i in read])[passage.is_text.reshape(-1)]
        final, before = real["final"][:, read], real["before"][:, read]
        found["rules"][read] = columnwise_correlation(final, truth)
        found["rules_before"][read] = columnwise_correlation(before, truth)
        found["rules_shuffled"][read] = shuffled_scores(final, truth, seed)
    return found


def _said(simulated: SimulatedLayer, part: Part) -> NDArray[Any]:
    """Simulations of a part where there is text, [token, node]."""
    return simulated.on(part)[simulated.passage(part).is_text.reshape(-1)]


def shuffled_scores(real: NDArray[Any], simulated: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Mean r of each node with the simulations of other nodes' labels, [node]. NaN if undefined."""
    n = real.shape[1]
    if n < 2:
        return np.full(n, math.nan)
    rng = np.random.default_rng(seed)
    shifts = rng.choice(np.arange(1, n), size=min(N_SHUFFLES, n - 1), replace=False)
    order = rng.permutation(n)
    results = np.empty((len(shifts), n))
    for i, shift in enumerate(shifts):
        other = np.empty(n, dtype=np.int64)
        other[order] = np.roll(order, int(shift))
        results[i] = columnwise_correlation(real, simulated[:, other])
    return means_defined(results, axis=0)
