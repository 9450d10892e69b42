"""Ground truth from the lexicon: independent of activations where labels are read, exact where
scores are computed."""

from __future__ import annotations

import inspect
import itertools
import math

import numpy as np
import pytest

from interp_by_construction.corpus.lexicon import LEXICON, concept_mask
from interp_by_construction.scoring.truth import (
    ALIASES,
    CONCEPTS,
    Truth,
    membership,
    n_unread,
    nearest_concept,
    roc_auc,
    score_against,
    summarise,
)
from interp_by_construction.stats.correlation import columnwise_correlation, pairwise_correlation


def score_layer(real: np.ndarray, truth: np.ndarray, labels: list[str]) -> Truth:
    """Nodes against the concepts of their labels."""
    return score_against(real, truth, CONCEPTS, [nearest_concept(label) for label in labels])


def test_auc_is_the_chance_that_a_positive_beats_a_negative() -> None:
    """Against the definition, over all pairs, with many ties."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, positive = rng.integers(0, 5, 40).astype(float), rng.random(40) < 0.3
        pairs = list(itertools.product(values[positive], values[~positive]))
        wins = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs)
        assert roc_auc(values, positive) == pytest.approx(wins / len(pairs))


def test_auc_without_a_positive_or_a_negative_is_undefined() -> None:
    for positive in (np.zeros(4, dtype=bool), np.ones(4, dtype=bool)):
        assert math.isnan(roc_auc(np.arange(4.0), positive))


def test_pairwise_correlation_equals_columnwise() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 4))
    y[:, 1] = 2.0
    every = pairwise_correlation(x, y)
    for node, other in itertools.product(range(3), range(4)):
        np.testing.assert_allclose(
            every[node, other], columnwise_correlation(x[:, [node]], y[:, [other]])[0]
        )


@pytest.mark.parametrize("concept", CONCEPTS)
def test_every_concept_is_nearest_to_its_name_and_to_its_words(concept: str) -> None:
    assert nearest_concept(concept) == concept
    assert nearest_concept(f"Words about {concept.upper()}.") == concept
    assert nearest_concept(", ".join(sorted(LEXICON[concept])[:3])) == concept
    assert all(nearest_concept(name) == concept for name in ALIASES.get(concept, ()))


@pytest.mark.parametrize(
    "label", ["punctuation", "food and drinks", "feelings", "the word the", "!!"]
)
def test_a_label_of_no_concept_or_of_two_has_none(label: str) -> None:
    assert nearest_concept(label) is None


@pytest.mark.parametrize(
    "label",
    [
        "prepositions of place",
        "short words",
        "long periods of time",
        "words after a verb of speaking",
        "the first animal",
        "going into a place",
    ],
)
def test_a_label_about_grammar_or_position_names_no_concept(label: str) -> None:
    """It shares a word with a concept, and means something else."""
    assert nearest_concept(label) is None


def test_the_nearest_concept_is_read_from_text_alone() -> None:
    assert list(inspect.signature(nearest_concept).parameters) == ["label"]
    rng = np.random.default_rng(2)
    truth = rng.random((50, len(CONCEPTS))) < 0.2
    labels = ["animals", "colors", "punctuation"]
    # Nodes that do exactly what another label says are still judged by their own.
    real = truth[:, [CONCEPTS.index("colors"), CONCEPTS.index("animals"), 0]].astype(float)
    assert (
        score_layer(real, truth, labels).concepts
        == score_layer(-real, truth, labels).concepts
        == ["animals", "colors", None]
    )


def test_membership_is_the_mask_of_each_concept_over_all_excerpts() -> None:
    excerpts = [["The", " cat", " saw", " a", " red"], [" fox", "."]]
    member = membership(excerpts)
    for index, concept in enumerate(CONCEPTS):
        assert member[:, index].tolist() == [
            flag for tokens in excerpts for flag in concept_mask(tokens, concept)
        ]


def test_perfect_and_wrong_nodes_and_what_cannot_be_scored() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random((200, len(CONCEPTS))) < 0.2
    truth[:, CONCEPTS.index("days")] = False
    column = {
        concept: truth[:, CONCEPTS.index(concept)].astype(float)
        for concept in ("animals", "colors")
    }
    labels = ["animals", "colors", "punctuation", "days", "family"]
    real = np.stack(
        [column["animals"], column["animals"], column["colors"], column["colors"], np.ones(200)],
        axis=1,
    )
    final = score_layer(real, truth, labels)
    assert final.r[0] == pytest.approx(1.0) and final.auc[0] == pytest.approx(1.0)
    assert abs(final.r[1]) < 0.3 and final.best[1] == "animals"
    assert np.isnan(final.r[2:]).all() and np.isnan(final.auc[2:]).all()
    record = summarise(final, final, score_layer(real[:1], truth[:1], labels))
    assert (record.n, n_unread(final)) == (2, 1)
    assert record.n_undefined == record.n_undefined_held_out == 2
    assert record.n + n_unread(final) + record.n_undefined == len(labels)
    assert record.share_label_right == 0.5
    # An undefined score is null and counted, never zero.
    assert record.r_mean_held_out is None
    assert record.r_mean == pytest.approx(np.mean(final.r[:2]))


def test_shuffled_scores_a_node_with_the_concepts_of_the_others() -> None:
    rng = np.random.default_rng(4)
    truth = rng.random((100, len(CONCEPTS))) < 0.3
    real = rng.normal(size=(100, 3))
    labels = ["animals", "colors", "family"]
    result = score_layer(real, truth, labels)
    every = pairwise_correlation(real, truth)
    expected = np.mean([every[0, CONCEPTS.index(name)] for name in ("colors", "family")])
    assert result.shuffled[0] == pytest.approx(expected)
    assert math.isnan(score_layer(real[:, :1], truth, ["animals"]).shuffled[0])
