"""Laws and reference values of the scores on excerpts: simulation, detection, fuzzing, agreement,
the table."""

from __future__ import annotations

import dataclasses
import math
import statistics
from itertools import pairwise, product

import numpy as np
import pytest

from interp_by_construction.corpus.windows import cut_windows
from interp_by_construction.scoring.blind import (
    content_words,
    same_text,
    shared_words,
    simulation_agreement,
    text_agreement,
)
from interp_by_construction.scoring.detection import (
    Item,
    balanced_accuracy,
    fit_on,
    fit_threshold,
    make_items,
    score_nodes,
    simulated_answers,
)
from interp_by_construction.scoring.excerpt_score import TITLES, excerpt_scores, own_and_others
from interp_by_construction.scoring.llm_judge import excerpt_text
from interp_by_construction.scoring.score_table import Row, RowSummary, per_node
from interp_by_construction.scoring.truth import roc_auc
from interp_by_construction.scoring.windows import active_and_inactive, peaks, top_and_random

ALL = np.ones((6, 64), dtype=bool)
WINDOWS = cut_windows(ALL, np.zeros((6, 64), dtype=np.int64), 16)


# Windows


def test_windows_hold_all_text_once_and_cross_nothing() -> None:
    rng = np.random.default_rng(0)
    document = np.sort(rng.integers(0, 9, (5, 60)), axis=1)
    is_text = rng.random((5, 60)) > 0.02
    windows = cut_windows(is_text, document, 8)
    seen = windows.tokens(np.arange(len(windows.starts)))
    assert len(np.unique(seen)) == len(seen)
    flat_document, flat_text = (
        (document + 100 * np.arange(5)[:, None]).reshape(-1),
        is_text.reshape(-1),
    )
    for start, stop in zip(windows.starts, windows.stops, strict=True):
        assert (
            len(set(flat_document[start:stop])) == 1
            and flat_text[start:stop].all()
            and 4 <= stop - start <= 12
        )
    # What is left out are runs of less than half a window.
    key = np.where(flat_text, flat_document, -1)
    edges = [0, *(np.flatnonzero(np.diff(key)) + 1), len(key)]
    long_runs = sum(b - a for a, b in pairwise(edges) if key[a] >= 0 and b - a >= 4)
    assert len(seen) == long_runs


def test_peaks_and_top_windows_are_the_highest() -> None:
    values = np.random.default_rng(1).normal(size=(384, 3))
    peak = peaks(values, WINDOWS)
    assert peak[5, 2] == max(values[t, 2] for t in range(WINDOWS.starts[5], WINDOWS.stops[5]))
    chosen = top_and_random(peak[:, 0], 4, 7, np.random.default_rng(0))
    assert min(peak[chosen["top"], 0]) >= max(np.delete(peak[:, 0], chosen["top"]))
    assert (
        set(chosen["combined"]) == {*chosen["top"], *chosen["random"]}
        and len(chosen["random"]) == 7
    )
    assert len(top_and_random(peak[:8, 0], 99, 99, np.random.default_rng(0))["top"]) == 2


def test_random_windows_do_not_depend_on_the_node() -> None:
    first, second = (
        top_and_random(np.random.default_rng(s).random(24), 4, 5, np.random.default_rng(7))
        for s in (1, 2)
    )
    np.testing.assert_array_equal(first["random"], second["random"])


# Simulation score


def test_a_perfect_simulation_scores_one_on_all_variants_and_an_independent_one_nothing() -> None:
    rng = np.random.default_rng(2)
    real = rng.gamma(0.3, size=(384, 60))
    scores = excerpt_scores(real, 3 * real + 1, WINDOWS, 5, 5, (0,))
    unrelated = excerpt_scores(real, rng.gamma(0.3, size=real.shape), WINDOWS, 5, 5, (0,))
    assert set(scores) == set(TITLES)
    for variant in TITLES:
        np.testing.assert_allclose(own_and_others(scores[variant])[0], 1)
        assert abs(own_and_others(unrelated[variant])[0].mean()) < 0.05


def test_simulation_scores_equal_the_standard_library_on_the_chosen_tokens() -> None:
    rng = np.random.default_rng(3)
    real, simulated = rng.normal(size=(384, 4)), rng.normal(size=(384, 6))
    scores = excerpt_scores(real, simulated, WINDOWS, 3, 4, (5, 1))
    peak = peaks(real, WINDOWS)
    for node in range(4):
        chosen = top_and_random(peak[:, node], 3, 4, np.random.default_rng([5, 1, node]))
        for variant in TITLES:
            tokens = [
                t for w in chosen[variant] for t in range(WINDOWS.starts[w], WINDOWS.stops[w])
            ]
            for label in range(6):
                expected = statistics.correlation(
                    real[tokens, node].tolist(), simulated[tokens, label].tolist()
                )
                assert scores[variant][node, label] == pytest.approx(expected, abs=1e-9)
    own, others = own_and_others(scores["top"])
    assert own[1] == scores["top"][1, 1]
    assert others[1] == pytest.approx(np.mean([scores["top"][1, i] for i in (0, 2, 3)]))


def test_undefined_simulation_scores_stay_undefined() -> None:
    real = np.random.default_rng(4).normal(size=(384, 2))
    real[:, 0] = 1.0
    own, others = own_and_others(excerpt_scores(real, real, WINDOWS, 3, 3, (0,))["combined"])
    assert math.isnan(own[0]) and math.isnan(others[0]) and own[1] == pytest.approx(1)
    assert math.isnan(others[1])
    assert np.isnan(own_and_others(np.ones((1, 3)))[1]).all()


# Detection


def test_balanced_accuracy_equals_a_count_by_hand() -> None:
    for predicted in product((False, True), repeat=5):
        truth = np.array([True, True, True, False, False])
        hits = sum(predicted[:3]) / 3, sum(not p for p in predicted[3:]) / 2
        assert balanced_accuracy(np.array(predicted), truth) == pytest.approx(sum(hits) / 2)
    assert math.isnan(balanced_accuracy(np.ones(3, bool), np.ones(3, bool)))


def test_the_fitted_threshold_beats_every_other() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        truth = rng.random(15) < 0.4
        truth[:2] = True, False
        values = np.round(rng.normal(size=15) + truth, 1)
        best = balanced_accuracy(values > fit_threshold(values, truth), truth)
        assert best == pytest.approx(
            max(balanced_accuracy(values > t, truth) for t in [-99, *values])
        )
    assert math.isnan(fit_threshold(np.arange(3.0), np.ones(3, bool)))


def test_auc_equals_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(6)
    values, truth = rng.integers(0, 5, 20), rng.random(20) < 0.5
    pairs = [(a > b) + 0.5 * (a == b) for a, b in product(values[truth], values[~truth])]
    assert roc_auc(values, truth) == pytest.approx(np.mean(pairs))


def items_of_one(values: np.ndarray, n: int = 6, seed: int = 0) -> list[Item]:
    return make_items(
        values, peaks(values[:, None], WINDOWS)[:, 0], WINDOWS, 0, n, np.random.default_rng(seed)
    )


def test_questions_are_true_to_the_activations() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(size=384) * 0.01 + (rng.random(384) < 0.04)
    items = items_of_one(values)
    detection = [item for item in items if item.task == "detection"]
    fuzzing = [item for item in items if item.task == "fuzzing"]
    assert (
        sorted(item.truth for item in detection)
        == [False] * 3 + [True] * 3
        == sorted(item.truth for item in fuzzing)
    )
    for item in detection:
        assert (values[item.tokens].max() > 0.5) == item.truth
    for yes, no in zip(fuzzing[::2], fuzzing[1::2], strict=True):
        assert yes.truth and not no.truth and len(yes.marked) == len(no.marked)
        np.testing.assert_array_equal(yes.tokens, no.tokens)
        assert not set(yes.marked) & set(no.marked) and set(no.marked) <= set(no.tokens)
        assert values[yes.marked].min() > 0.5 > values[no.marked].max()


def test_a_node_that_is_never_silent_has_two_kinds_of_windows_and_a_constant_one_none() -> None:
    values = np.random.default_rng(8).normal(size=384)
    peak = peaks(values[:, None], WINDOWS)[:, 0]
    found = active_and_inactive(values, peak, 3, np.random.default_rng(0))
    assert found is not None and peak[found.active].min() > peak[found.inactive].max()
    assert items_of_one(np.full(384, 2.0)) == []


def test_an_oracle_is_always_right_a_constant_judge_half_the_time_and_the_unasked_undefined() -> (
    None
):
    values = np.random.default_rng(9).random(384) ** 9
    items = items_of_one(values)
    truth = np.array([float(item.truth) for item in items])
    for task in ("detection", "fuzzing"):
        oracle = score_nodes(items, truth, task, 2, 0.5, fit_on(items, truth, task))
        assert (oracle.accuracy[0], oracle.fitted[0], oracle.auc[0]) == (1, 1, 1)
        for answer in (-1.0, 3.0):
            constant = score_nodes(items, np.full(len(items), answer), task, 2, 0.0, 0.0)
            assert (constant.accuracy[0], constant.fitted[0], constant.auc[0]) == (0.5, 0.5, 0.5)
        assert np.isnan([scores[1] for scores in oracle]).all()
        assert np.isnan(score_nodes(items, truth, task, 1, math.nan, math.nan).accuracy).all()


def test_the_node_itself_is_a_perfect_detector() -> None:
    values = np.random.default_rng(10).random(384) ** 9
    items = items_of_one(values)
    answers = simulated_answers(items, values[:, None], np.array([0]))
    for task in ("detection", "fuzzing"):
        assert (
            score_nodes(items, answers, task, 1, math.nan, fit_on(items, answers, task)).fitted[0]
            == 1
        )


def test_excerpts_are_marked_outside_their_spaces_and_the_text_cannot_mark() -> None:
    tokens = [" the", " old", "er", "\n", " <<fox>>", " ran"]
    assert excerpt_text(tokens) == "the older <fox> ran"
    assert (
        excerpt_text(tokens, [False, True, True, False, False, True])
        == "the <<older>> <fox> <<ran>>"
    )


# Agreement


def test_agreement_of_texts() -> None:
    assert same_text("Red  animals", "red animal") == 1 and same_text("animals", "plants") == 0
    assert content_words("words related to the Animals") == {"animal"}
    assert shared_words("red animals", "animals of the sea") == pytest.approx(1 / 3)
    assert math.isnan(shared_words("the word", "of"))
    pairs = text_agreement(["a dog", "cats"], ["dog", None])
    np.testing.assert_array_equal(pairs["shared_words"], [[1, 0], [np.nan, np.nan]])


def test_agreement_of_simulations_keeps_failures() -> None:
    own = np.random.default_rng(11).normal(size=(50, 3))
    r = simulation_agreement(own, 2 * own[:, [0, 2]], np.array([True, False, True]))
    np.testing.assert_allclose(own_and_others(r)[0], [1, np.nan, 1])
    assert np.isnan(simulation_agreement(own, own[:, :0], np.zeros(3, bool))).all()


# Table


def test_the_table_counts_what_is_undefined() -> None:
    first = Row("m", "title", "j", True, "final", np.array([0.5, math.nan, 0.7]))
    second = Row("m", "title", None, False, "final", np.array([math.nan]))
    summary = RowSummary.of(first, 50, 0)
    assert summary.mean == pytest.approx(0.6) and summary.self_judged
    assert (summary.n, summary.n_undefined) == (2, 1)
    assert summary.ci95 is not None and summary.ci95[0] <= 0.6 <= summary.ci95[1]
    nothing = RowSummary.of(second, 50, 0)
    assert (nothing.mean, nothing.ci95, nothing.n, nothing.n_undefined) == (None, None, 0, 1)
    assert set(per_node([first, second])) == {"m/j/final", "m/text/final"}
    with pytest.raises(ValueError, match="already"):
        per_node([first, dataclasses.replace(first, self_judged=False)])
