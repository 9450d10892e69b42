"""Scores against independently computed values, and what must never happen to a failure."""

from __future__ import annotations

import math
import statistics
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.scoring import simulation_score
from interp_by_construction.scoring.layer_scores import rule_scores, shuffled_scores
from interp_by_construction.simulators.ridge import fit_ridge
from interp_by_construction.stages.evaluate import Score
from interp_by_construction.stats.bootstrap import mean_ci95, paired_difference_ci95
from interp_by_construction.stats.correlation import columnwise_correlation


def test_simulation_score_equals_the_standard_library() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-150, 1.0, 1e150):
        x, y = rng.normal(size=50), rng.normal(size=50)
        assert simulation_score((x * scale).tolist(), tuple(y)) == pytest.approx(
            statistics.correlation(x, y), abs=1e-12
        )


def test_simulation_score_is_signed_and_bounded() -> None:
    x = [0.1, 0.2, 0.3]
    assert simulation_score(x, x) == pytest.approx(1.0)
    assert simulation_score(x, [-v for v in x]) == pytest.approx(-1.0)
    assert -1.0 <= simulation_score(np.float32(x), x) <= 1.0


@pytest.mark.parametrize(
    ("real", "simulated"),
    [([], []), ([1], [2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0.1, 0.1, 0.1])],
)
def test_undefined_scores_are_nan(real: list[float], simulated: list[float]) -> None:
    assert math.isnan(simulation_score(real, simulated))


def test_small_variance_is_not_zero_variance() -> None:
    assert simulation_score([1.0, 1.0 + 1e-9, 1.0 + 2e-9], [1, 2, 3]) == pytest.approx(1.0)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="equal in length"):
        simulation_score([1, 2, 3], [1, 2])


def test_columns_equal_single_scores() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 5))
    x[:, 2] = 7.0
    result = columnwise_correlation(x, y)
    for column in range(5):
        np.testing.assert_allclose(result[column], simulation_score(x[:, column], y[:, column]))


def test_undefined_is_counted_and_never_zero() -> None:
    record = Score.of(np.array([0.5, math.nan, 0.7]), "exact", True, 100, 0)
    assert record.mean == pytest.approx(0.6)
    assert (record.n, record.n_undefined) == (2, 1)
    assert Score.of(np.array([math.nan]), "exact", True, 100, 0).mean is None


def test_shuffled_never_pairs_a_node_with_its_own_label() -> None:
    values = np.eye(6)
    # Different columns of the identity correlate at -1/5; one own label would lift the mean.
    np.testing.assert_allclose(shuffled_scores(values, values, 0), -0.2)


def test_bootstrap_interval_covers_and_pairs() -> None:
    rng = np.random.default_rng(2)
    low, high = mean_ci95(rng.normal(3.0, 1.0, 400), 2000, 0)
    assert low < 3.0 < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    first = rng.normal(100, 50, 200)
    weights = np.full(200, 10)
    # A constant difference has no spread, however much the documents differ.
    assert paired_difference_ci95(first + 5, first, weights, 500, 0) == pytest.approx((0.5, 0.5))


def test_rules_score_the_labels_that_they_can_read() -> None:
    tokens = [["The", " dog", " ran", "."], [" A", " cat", " saw", " the", " dog"]]
    is_text = np.array([1, 1, 1, 1, 1, 1, 1, 0, 1], dtype=bool)
    passage = cast(Passage, SimpleNamespace(tokens=tokens, is_text=is_text))
    articles = np.array([1, 0, 0, 0, 1, 0, 0, 0], dtype=float)
    final = np.stack([articles, articles, 1 - articles], axis=1)
    real = {"final": final, "before": final[:, ::-1]}
    found = rule_scores(["articles", "what it is all about", "the word 'dog'"], passage, real, 0)
    assert found["rules"][0] == pytest.approx(1) and found["rules_before"][0] == pytest.approx(-1)
    assert math.isnan(found["rules"][1]) and not math.isnan(found["rules"][2])
    # Chance is with the rules of the other readable labels.
    assert found["rules_shuffled"][0] == pytest.approx(np.corrcoef(articles, is_dog())[0, 1])


def is_dog() -> list[int]:
    return [0, 1, 0, 0, 0, 0, 0, 1]


def test_ridge_recovers_a_linear_simulator_and_reports_held_out_fidelity() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(400, 30)).astype(np.float32)
    weights = rng.normal(size=(30, 3))
    targets = features @ weights + 2.0
    targets[:, 2] = rng.normal(size=400)
    ridge = fit_ridge(features, targets, np.repeat(np.arange(20), 20))
    fresh = rng.normal(size=(200, 30)).astype(np.float32)
    assert (
        columnwise_correlation(fresh @ weights[:, :2], ridge.of_encoded(fresh)[:, :2]) > 0.99
    ).all()
    assert (ridge.fidelity[:2] > 0.98).all()
    # Noise cannot be predicted on excerpts that were not fitted.
    assert abs(ridge.fidelity[2]) < 0.25


def planted_layers(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of three layers of 40 [token, 120], and targets of four labels that the second layer
    holds, with noise, per excerpt of 20 tokens."""
    features = rng.normal(size=(n, 120)).astype(np.float32)
    weights = np.random.default_rng(7).normal(size=(40, 4))
    return features, features[:, 40:80] @ weights + rng.normal(size=(n, 4))


def test_ridge_reads_the_layer_that_predicts() -> None:
    rng = np.random.default_rng(5)
    features, targets = planted_layers(rng, 400)
    fresh, expected = planted_layers(rng, 400)
    excerpts = np.repeat(np.arange(20), 20)
    chosen = fit_ridge(features, targets, excerpts, n_layers=3)
    assert chosen.layers == (1,) and chosen.columns.tolist() == list(range(40, 80))
    every = fit_ridge(features, targets, excerpts)
    assert every.layers == (0,) and len(every.columns) == 120
    r = columnwise_correlation(expected, chosen.of_encoded(fresh))
    assert (r > columnwise_correlation(expected, every.of_encoded(fresh))).all()
    # What was cross-validated holds on text that was never seen.
    np.testing.assert_allclose(chosen.fidelity, r, atol=0.05)


def test_ridge_reads_two_layers_where_each_holds_a_part() -> None:
    rng = np.random.default_rng(6)
    features = rng.normal(size=(400, 90))
    targets = features[:, [0, 70]] @ np.array([[1.0, 2.0], [1.0, -1.0]])
    assert fit_ridge(features, targets, np.repeat(np.arange(20), 20), n_layers=3).layers == (0, 2)


def test_ridge_is_the_closed_form_of_the_primal() -> None:
    rng = np.random.default_rng(8)
    features, targets = rng.normal(size=(60, 8)) * 3 + 1, rng.normal(size=(60, 2))
    ridge = fit_ridge(features, targets, np.repeat(np.arange(12), 5), n_layers=1)
    x = (features - features.mean(axis=0)) / features.std(axis=0)
    for label, lam in enumerate(ridge.lambdas):
        penalty = lam * np.trace(x @ x.T) / len(x)
        expected = np.linalg.solve(
            x.T @ x + penalty * np.eye(8), x.T @ (targets[:, label] - targets[:, label].mean())
        )
        np.testing.assert_allclose(ridge.weights[:, label], expected, rtol=1e-4)


def test_a_constant_target_has_an_undefined_fidelity_and_chooses_nothing() -> None:
    rng = np.random.default_rng(9)
    features, targets = planted_layers(rng, 200)
    targets[:, 0] = 1.5
    ridge = fit_ridge(features, targets, np.repeat(np.arange(10), 20), n_layers=3)
    assert np.isnan(ridge.fidelity[0]) and ridge.layers == (1,)
    np.testing.assert_allclose(ridge.of_encoded(features)[:, 0], 1.5, atol=1e-5)


def test_a_paired_interval_over_one_document_is_undefined() -> None:
    """It would be a point: resampling one document always gives the same."""
    one = np.array([2.0])
    assert all(np.isnan(paired_difference_ci95(one, one + 1, np.array([10]), 100, 0)))
