"""Detection and fuzzing of one layer: who is asked what, and what the answers are worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.passage import spaced
from interp_by_construction.corpus.windows import Windows
from interp_by_construction.llm.client import Labeler
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
from interp_by_construction.scoring.score_table import Row
from interp_by_construction.scoring.scorer import Case, Scored, SimulatedTexts
from interp_by_construction.scoring.windows import peaks
from interp_by_construction.stats.baselines import other_labels

TITLES = {
    f"{task}{suffix}": f"{task}, {how}"
    for task in TASKS
    for suffix, how in (("", "p > 0.5"), ("_fitted", "fitted threshold"), ("_auc", "AUC"))
}
"""Method -> what tables call it."""

FIT_NODES = 12
"""Nodes whose questions on the select split fit the thresholds of a language model. All nodes share
one threshold, which needs no more."""


class Answers(NamedTuple):
    """What one judge said."""

    asked: dict[str, list[Item]]
    """Moment -> questions."""
    values: dict[str, NDArray[Any]]
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
                thresholds = self.own_threshold, self.threshold[task]
                result = score_nodes(items, self.values[moment], task, n_nodes, *thresholds)
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


class Questions(NamedTuple):
    """Everything that one judge is asked about the nodes of a layer."""

    labels: Sequence[str]
    items: Mapping[str, list[Item]]
    """Moment (before, final) -> questions on the scored text."""
    fit_items: list[Item]
    """Questions on the select split, which thresholds are fitted on."""
    seed: int

    def at(self, moment: str) -> list[Item]:
        """Questions of a moment; a baseline has those of the final model."""
        return self.items.get(moment, self.items["final"])

    @property
    def other(self) -> NDArray[np.int64] | None:
        """For each node the column of another node's label; None with a single node."""
        return other_labels(len(self.labels), self.seed) if len(self.labels) > 1 else None


class Texts(NamedTuple):
    """Decoded tokens, [token]."""

    score: Sequence[str]
    select: Sequence[str]


def ask_judge(
    labeler: Labeler, questions: Questions, texts: Texts, n_asked: int | None, per_prompt: int
) -> Answers:
    """Asks about `n_asked` nodes (None: all), and about `FIT_NODES` to fit the thresholds."""
    labels, other = questions.labels, questions.other
    own = np.arange(len(labels))
    rows = _spread(len(labels), n_asked)
    columns = dict.fromkeys(questions.items, own)
    if other is not None:
        columns["shuffled"] = other
    asked = {
        moment: [item for item in questions.at(moment) if item.row in rows] for moment in columns
    }
    shown = {
        moment: _questions(asked[moment], labels, column, texts.score)
        for moment, column in columns.items()
    }
    fit_rows = _spread(len(labels), FIT_NODES)
    fit_items = [item for item in questions.fit_items if item.row in fit_rows]
    every = [question for of_moment in shown.values() for question in of_moment]
    every += _questions(fit_items, labels, own, texts.select)
    # In random order, so that the place in a prompt says nothing about the answer.
    order = np.random.default_rng(questions.seed).permutation(len(every))
    logits = np.zeros(len(every), dtype=np.float32)
    logits[order] = ask(labeler, [every[i] for i in order], per_prompt, "detection and fuzzing")
    ends = np.cumsum([len(of_moment) for of_moment in shown.values()])
    *by_moment, on_fit = np.split(logits, ends)
    values = dict(zip(shown, by_moment, strict=True))
    threshold = {task: fit_on(fit_items, on_fit, task) for task in TASKS}
    return Answers(asked, values, OWN_THRESHOLD, threshold, shown, len(labels) - len(rows))


def ask_simulator(questions: Questions, said: SimulatedTexts, common: int) -> Answers:
    """A simulator as judge of all nodes; common: column of the common label."""
    n_labels, other = len(questions.labels), questions.other
    own = np.arange(n_labels)
    columns = dict.fromkeys(questions.items, own)
    columns |= {
        "empty_label": np.full(n_labels, n_labels),
        "common_label": np.full(n_labels, common),
    }
    if other is not None:
        columns["shuffled"] = other
    asked = {moment: questions.at(moment) for moment in columns}
    values = {
        moment: simulated_answers(asked[moment], said.on_score, column)
        for moment, column in columns.items()
    }
    on_fit = simulated_answers(questions.fit_items, said.on_select, own)
    threshold = {task: fit_on(questions.fit_items, on_fit, task) for task in TASKS}
    return Answers(asked, values, math.nan, threshold, {}, 0)


def score(case: Case) -> Scored:
    """By the last of the language models that judge, read through its digit logits, and by the
    run's simulator if it reads any text. The former has other nodes' labels as baseline, the latter
    has all baselines.

    Writes `answers.jsonl`: every question about the scored text, with the language model's answer.
    """
    text, select = case.simulated.passage("head_score"), case.select
    window, n = case.cfg.window, case.cfg.detection_excerpts
    windows = text.windows(window)
    items = {
        moment: items_of(case.real(moment, text), windows, n, case.draw)
        for moment in ("before", "final")
    }
    fit = items_of(case.real("final", select), select.windows(window), n, case.draw)
    questions = Questions(case.labels, items, fit, case.seed)
    judge, texts = case.judges[-1], Texts(text.flat_tokens, select.flat_tokens)
    asked, per_prompt = case.cfg.detection_nodes, case.cfg.questions_per_prompt
    by_judge = ask_judge(judge.labeler, questions, texts, asked, per_prompt)
    results = [(judge.name, judge.self_judged, by_judge)]
    if case.simulator is not None and case.by_simulator is not None:
        answers = ask_simulator(questions, case.by_simulator, case.common)
        results.append((case.simulator.name, case.simulator.self_judged, answers))
    return Scored(
        [
            Row(method, TITLES[method], name, own, moment, values, answers.n_not_asked)
            for name, own, answers in results
            for method, moment, values in answers.scores(len(case.labels))
        ],
        {
            name: {task: _finite(answers.threshold[task]) for task in TASKS}
            for name, _, answers in results
        },
        {"answers.jsonl": _records(case, by_judge)},
    )


def _records(case: Case, answers: Answers) -> list[dict[str, Any]]:
    return [
        {
            "node": int(case.simulated.aligned.nodes[item.row]),
            "task": item.task,
            "moment": moment,
            "label": question.label,
            "text": question.text,
            "truth": item.truth,
            "logit": float(value),
        }
        for moment, asked in answers.asked.items()
        for item, question, value in zip(
            asked, answers.questions[moment], answers.values[moment], strict=True
        )
    ]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _spread(n_nodes: int, n: int | None) -> set[int]:
    """Rows of `n` nodes, evenly spread."""
    return set(spaced(n_nodes, n_nodes if n is None else min(n, n_nodes)).tolist())


def _questions(
    items: Sequence[Item], labels: Sequence[str], column: NDArray[np.int64], text: Sequence[str]
) -> list[Question]:
    questions = []
    for item in items:
        tokens = [text[i] for i in item.tokens]
        marked = np.isin(item.tokens, item.marked).tolist() if item.task == "fuzzing" else None
        label = labels[column[item.row]]
        questions.append(Question(item.task, label, excerpt_text(tokens, marked)))
    return questions
