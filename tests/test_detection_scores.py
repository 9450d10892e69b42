"""Average precision and F1 of a simulation: their values by definition, and the sanity tests for
scores of explanations (https://arxiv.org/abs/2506.05774)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from interp_by_construction.scoring.detection_scores import DETECTION, detection_scores
from interp_by_construction.scoring.truth import roc_auc
from interp_by_construction.stats.correlation import simulation_score
from interp_by_construction.stats.detection import (
    average_precision,
    best_threshold,
    f1_score,
    strong_above,
)


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)[:, None]


def test_average_precision_is_the_mean_precision_at_the_strong_tokens() -> None:
    strong = column(1, 0, 1, 0, 0) > 0
    # Strong tokens are first and third: precision 1 and 2/3.
    (found,) = average_precision(column(5, 4, 3, 2, 1), strong)
    assert found == pytest.approx((1 + 2 / 3) / 2)
    # Tokens of one value cannot be told apart: a constant has the share of strong tokens.
    assert average_precision(column(1, 1, 1, 1, 1), strong)[0] == pytest.approx(2 / 5)
    assert average_precision(column(5, 1, 4, 2, 3), strong)[0] == 1
    for all_or_none in (strong | True, strong & False):
        assert math.isnan(average_precision(column(5, 4, 3, 2, 1), all_or_none)[0])


def test_ties_do_not_depend_on_the_order_of_tokens() -> None:
    rng = np.random.default_rng(0)
    said, strong = rng.integers(0, 4, (200, 3)), rng.random((200, 3)) < 0.1
    order = rng.permutation(200)
    np.testing.assert_allclose(
        average_precision(said, strong), average_precision(said[order], strong[order])
    )


def test_f1_is_that_of_the_threshold_which_select_chose() -> None:
    strong = column(1, 0, 1, 0, 0) > 0
    said = column(5, 4, 3, 2, 1)
    threshold = best_threshold(said, strong)
    assert threshold.tolist() == [3] and f1_score(said, strong, threshold)[0] == pytest.approx(0.8)
    # On other text the line stays where it is.
    other = column(2, 3, 0, 0, 9)
    assert f1_score(other, strong, threshold)[0] == 0
    assert math.isnan(f1_score(other, strong, np.array([math.nan]))[0])
    assert math.isnan(f1_score(other, strong & False, threshold)[0])


def test_what_is_strong_is_set_on_select() -> None:
    select = np.arange(101.0)[:, None]
    assert strong_above(select).tolist() == [95]
    said = np.arange(101.0)[::-1][:, None] * -1
    real = {"final": select * 2, "before": select}
    at = detection_scores(real, said, {"final": select, "before": select}, said, None)
    assert set(at) == {
        f"{name}{more}" for name in DETECTION for more in ("", "_before", "_shuffled")
    }
    # Twice as strong, more than half of the tokens are above the line that select drew.
    assert [at["auprc"][0], at["auprc_before"][0]] == pytest.approx([1, 1])
    assert at["f1_before"][0] == 1 and at["f1"][0] < 0.3
    assert math.isnan(at["auprc_shuffled"][0]) and math.isnan(at["f1_shuffled"][0])


@pytest.mark.parametrize("damage", ["missing", "extra"])
def test_missing_and_extra_labels_cost(damage: str) -> None:
    rng = np.random.default_rng(1)
    strong = rng.random((40000, 1)) < 0.01
    said = strong.astype(np.float64)
    worse = said.copy()
    if damage == "missing":
        worse[strong & (rng.random(strong.shape) < 0.5)] = 0
    else:
        worse[(rng.random(strong.shape) < 0.01) & ~strong] = 1
    threshold = np.array([0.5])

    def lost(score: float, after: float) -> float:
        return (score - after) / score

    ap = lost(average_precision(said, strong)[0], average_precision(worse, strong)[0])
    f1 = lost(f1_score(said, strong, threshold)[0], f1_score(worse, strong, threshold)[0])
    r = lost(1.0, simulation_score(strong[:, 0], worse[:, 0]))
    assert min(ap, f1, r) > 0.2
    if damage == "extra":
        # As many false alarms as hits hardly move the area under the ROC curve.
        assert lost(1.0, roc_auc(worse[:, 0], strong[:, 0])) < 0.01
