"""Detection and fuzzing of one layer: who is asked what, and what the answers are worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.windows import Windows
from interp_by_construction.scoring.baselines import other_labels
from interp_by_construction.scoring.detection import (
    TASKS,
    Item,
    Task,
    fit_on,
    make_items,
    score_nodes,
    simulated_answers,
)
from interp_by_construction.scoring.llm_judge import OWN_THRESHOLD, Question, ask, excerpt_text
from interp_by_construction.scoring.windows import peaks

if TYPE_CHECKING:
    from interp_by_construction.llm.client import Labeler

FIT_NODES = 12
"""Nodes whose questions on the select split fit the thresholds of a language model: one for all
nodes needs no more."""


class Answers(NamedTuple):
    """What one judge said."""

    asked: dict[str, list[Item]]
    """Moment -> questions."""
    values: dict[str, NDArray]
    """Moment -> answers, higher for yes, [item]."""
    own_threshold: float
    """NaN where the judge has none."""
    threshold: dict[Task, float]
    """Task -> threshold fitted on the select split; NaN where none could be fitted."""
    questions: dict[str, list[Question]]
    """Moment -> what a language model was shown."""
    n_not_asked: int
    """Nodes that were left out."""

    def scores(self, n_nodes: int) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
        """(method, moment, [node])."""
        for moment, items in self.asked.items():
            for task in TASKS:
                fitted = self.threshold[task]
                result = score_nodes(
                    items, self.values[moment], task, n_nodes, self.own_threshold, fitted
                )
                if not math.isnan(self.own_threshold):
                    yield task, moment, result.accuracy
                yield f"{task}_fitted", moment, result.fitted
                yield f"{task}_auc", moment, result.auc


def items_of(
    real: NDArray[np.float64], windows: Windows, n_excerpts: int, seed: Sequence[int]
) -> list[Item]:
    """The questions about all nodes on a text. real: activations times poles [token, node]."""
    peak = peaks(real, windows)
    items: list[Item] = []
    for row in range(real.shape[1]):
        rng = np.random.default_rng([*seed, row])
        items += make_items(real[:, row], peak[:, row], windows, row, n_excerpts, rng)
    return items


def ask_judge(
    labeler: Labeler,
    labels: Sequence[str],
    tokens: Sequence[str],
    items: Mapping[str, list[Item]],
    select: Sequence[str],
    fit_items: list[Item],
    n_asked: int | None,
    per_prompt: int,
    seed: int,
) -> Answers:
    """tokens, select: the flat texts. items: moment (before, final) -> questions on `tokens`, of
    which those about `n_asked` nodes are asked (None: all); fit_items: questions on `select`, of
    which those about `FIT_NODES` nodes are asked."""
    own = np.arange(len(labels))
    rows = _spread(len(labels), n_asked)
    asked = {
        moment: [item for item in every if item.row in rows] for moment, every in items.items()
    }
    columns = dict.fromkeys(items, own)
    if len(labels) > 1:
        asked["shuffled"], columns["shuffled"] = asked["final"], other_labels(len(labels), seed)
    questions = {
        moment: _questions(asked[moment], labels, columns[moment], tokens) for moment in asked
    }
    fit_rows = _spread(len(labels), FIT_NODES)
    fit_items = [item for item in fit_items if item.row in fit_rows]
    every = [
        *(q for own_questions in questions.values() for q in own_questions),
        *_questions(fit_items, labels, own, select),
    ]
    # In random order, so that the place in a prompt says nothing about the answer.
    order = np.random.default_rng(seed).permutation(len(every))
    logits = np.zeros(len(every), dtype=np.float32)
    logits[order] = ask(labeler, [every[i] for i in order], per_prompt, "detection and fuzzing")
    values, start = {}, 0
    for moment, own_questions in questions.items():
        values[moment] = logits[start : start + len(own_questions)]
        start += len(own_questions)
    threshold = {task: fit_on(fit_items, logits[start:], task) for task in TASKS}
    return Answers(asked, values, OWN_THRESHOLD, threshold, questions, len(labels) - len(rows))


def ask_simulator(
    simulated: NDArray,
    items: Mapping[str, list[Item]],
    on_select: NDArray,
    fit_items: list[Item],
    common: int,
    seed: int,
) -> Answers:
    """A simulator as judge. simulated, on_select: the nodes' own labels and in the last column the
    empty one, [token, label], on the text of `items` and of `fit_items`; common: column of the
    common label."""
    n_labels = simulated.shape[1] - 1
    own = np.arange(n_labels)
    columns = dict.fromkeys(items, own)
    columns |= {
        "empty_label": np.full(n_labels, n_labels),
        "common_label": np.full(n_labels, common),
    }
    if n_labels > 1:
        columns["shuffled"] = other_labels(n_labels, seed)
    asked = {moment: items.get(moment, items["final"]) for moment in columns}
    values = {
        moment: simulated_answers(asked[moment], simulated, column)
        for moment, column in columns.items()
    }
    on_fit = simulated_answers(fit_items, on_select, own)
    threshold = {task: fit_on(fit_items, on_fit, task) for task in TASKS}
    return Answers(asked, values, math.nan, threshold, {}, 0)


def _spread(n_nodes: int, n: int | None) -> set[int]:
    """Rows of `n` nodes, evenly spread."""
    return set(
        np.linspace(0, n_nodes - 1, n_nodes if n is None else min(n, n_nodes))
        .round()
        .astype(int)
        .tolist()
    )


def _questions(
    items: Sequence[Item], labels: Sequence[str], column: NDArray[np.int64], text: Sequence[str]
) -> list[Question]:
    questions = []
    for item in items:
        tokens = [text[i] for i in item.tokens]
        marked = np.isin(item.tokens, item.marked).tolist() if item.task == "fuzzing" else None
        questions.append(
            Question(item.task, labels[column[item.row]], excerpt_text(tokens, marked))
        )
    return questions
