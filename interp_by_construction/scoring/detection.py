"""Detection and fuzzing: does a judge who knows the label tell where the node is active?

The two tasks of Paulo et al. 2024, "Automatically Interpreting Millions of Features in Large
Language Models" (https://arxiv.org/abs/2410.13928, section "Scoring"): detection asks whether an
excerpt activates the node, fuzzing whether the marked tokens of an excerpt are those that do.
Scored by balanced accuracy, the mean of the true positive and the true negative rate. Beside it
stand the area under the ROC curve and the balanced accuracy at a threshold fitted on other text:
a small judge may say yes to everything or to nothing whatever the label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.windows import Windows
from interp_by_construction.scoring.truth import roc_auc
from interp_by_construction.scoring.windows import active_and_inactive

Task = Literal["detection", "fuzzing"]
TASKS: tuple[Task, ...] = ("detection", "fuzzing")


class Item(NamedTuple):
    """One question about one node."""

    task: Task
    row: int
    """Row of the node in the caller's tables."""
    tokens: NDArray[np.int64]
    """Positions of the excerpt's tokens in the flat text."""
    marked: NDArray[np.int64]
    """Positions of the marked tokens (fuzzing); all tokens of the excerpt for detection."""
    truth: bool
    """Whether the excerpt, or the marked tokens, activate the node."""


def make_items(
    values: NDArray[np.float64],
    peak: NDArray[np.float64],
    windows: Windows,
    row: int,
    n_excerpts: int,
    rng: np.random.Generator,
) -> list[Item]:
    """The questions about one node: up to `n_excerpts` for each task, half of them true. Empty for
    a node without contrast.

    values: [token] of one node; peak: [window]. Fuzzing shows every active excerpt twice, once with
    the activating tokens marked and once with as many others. So the excerpt itself does not reveal
    the answer. An excerpt that has too few others is left out.
    """
    contrast = active_and_inactive(values, peak, n_excerpts // 2, rng)
    if contrast is None:
        return []
    items = []
    for chosen, truth in ((contrast.active, True), (contrast.inactive, False)):
        for window in chosen:
            tokens = np.arange(windows.starts[window], windows.stops[window])
            items.append(Item("detection", row, tokens, tokens, truth))
    for window in contrast.active:
        tokens = np.arange(windows.starts[window], windows.stops[window])
        fires = values[tokens] >= contrast.level
        others = tokens[~fires]
        if len(others) < fires.sum():
            continue
        items.append(Item("fuzzing", row, tokens, tokens[fires], True))
        items.append(
            Item("fuzzing", row, tokens, np.sort(rng.permutation(others)[: fires.sum()]), False)
        )
    return items


def balanced_accuracy(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Mean of true positive and true negative rate; NaN where a class is missing. predicted, truth:
    [item]."""
    if truth.all() or not truth.any():
        return math.nan
    return float((predicted[truth].mean() + (~predicted[~truth]).mean()) / 2)


def fit_threshold(values: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """The threshold whose `values > threshold` has the highest balanced accuracy; NaN where a class
    is missing.

    Candidates are the midpoints between neighbouring values and minus infinity; of equally good
    ones the middle one is taken.
    """
    if truth.all() or not truth.any():
        return math.nan
    levels = np.unique(values.astype(np.float64))
    candidates = np.concatenate([[-math.inf], (levels[1:] + levels[:-1]) / 2])
    accuracies = np.array(
        [balanced_accuracy(values > candidate, truth) for candidate in candidates]
    )
    best = candidates[accuracies >= accuracies.max() - 1e-12]
    return float(best[len(best) // 2])


class NodeScores(NamedTuple):
    """One task of one judge, [node] each; NaN where a node has no questions of both kinds."""

    accuracy: NDArray[np.float64]
    """Balanced accuracy at the judge's own threshold."""
    fitted: NDArray[np.float64]
    """Balanced accuracy at the fitted threshold; NaN everywhere where none could be fitted."""
    auc: NDArray[np.float64]


def score_nodes(
    items: Sequence[Item],
    values: NDArray[Any],
    task: Task,
    n_nodes: int,
    own_threshold: float,
    fitted_threshold: float,
) -> NodeScores:
    """values: the judge's answer to each item, higher for yes, [item]."""
    scores = NodeScores(*(np.full(n_nodes, math.nan) for _ in NodeScores._fields))
    rows = np.array([item.row if item.task == task else -1 for item in items], dtype=np.int64)
    truth = np.array([item.truth for item in items], dtype=np.bool_)
    for row in range(n_nodes):
        own = rows == row
        if not own.any():
            continue
        if not math.isnan(own_threshold):
            scores.accuracy[row] = balanced_accuracy(values[own] > own_threshold, truth[own])
        if not math.isnan(fitted_threshold):
            scores.fitted[row] = balanced_accuracy(values[own] > fitted_threshold, truth[own])
        scores.auc[row] = roc_auc(values[own], truth[own])
    return scores


def fit_on(items: Sequence[Item], values: NDArray[Any], task: Task) -> float:
    """The threshold of one task from the questions of all nodes together."""
    use = np.array([item.task == task for item in items], dtype=np.bool_)
    truth = np.array([item.truth for item in items], dtype=np.bool_)
    return fit_threshold(values[use], truth[use])


def simulated_answers(
    items: Sequence[Item], simulated: NDArray[Any], column: NDArray[np.int64]
) -> NDArray[np.float64]:
    """A simulator as judge: its highest value over the excerpt, or over the marked tokens, [item].

    simulated: [token, label] on the flat text; column: label of each node that is asked about.
    """
    return np.array(
        [simulated[item.marked, column[item.row]].max() for item in items], dtype=np.float64
    )
