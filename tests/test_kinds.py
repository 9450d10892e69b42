"""Scores by kind of label: every label is of one kind, and the kinds make up the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interp_by_construction.report.facts import kind_rows
from interp_by_construction.results.kinds import KINDS, kind_of, scores_by_kind

LABELS = {
    "the word 'with'": "one word",
    "pronouns": "another rule",
    "nouns after a comma": "another rule",
    "the words 'his' and 'her'": "another rule",
    "a feeling of dread": "no rule",
}


def rows(seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    labelled = [
        {
            "status": "aligned",
            "label": label,
            "score_before": None if i == 1 else float(rng.normal()),
            "score_final": float(rng.normal()),
            "table_r": float(rng.normal()),
            "contextual": None if i == 0 else bool(i % 2),
        }
        for i, label in enumerate(LABELS)
    ]
    return [*labelled, {"status": "free", "label": None}, {"status": "failed", "label": None}]


def test_every_label_is_of_one_kind() -> None:
    assert {label: kind_of(label) for label in LABELS} == LABELS


def test_the_kinds_make_up_the_whole() -> None:
    table, found = rows(), scores_by_kind(rows())
    assert list(found) == list(KINDS) and sum(each["n"] for each in found.values()) == len(LABELS)
    for name, n in (("score_final", 5), ("table_r", 5)):
        whole = sum(each["n"] * each[name] for each in found.values()) / n
        assert whole == pytest.approx(np.mean([row[name] for row in table[:5]]))
    # An undefined score is left out of its mean.
    known = [table[i]["score_before"] for i in (2, 3)]
    assert found["another rule"]["score_before"] == pytest.approx(np.mean(known))
    assert [each["n_contextual"] for each in found.values()] == [None, 2, 0]
    assert scores_by_kind(table[5:]) == {}


def test_columns_without_a_value_are_not_shown() -> None:
    heads, shown = kind_rows({"kinds": scores_by_kind(rows())})
    assert heads == ["labels", "before", "final", "own table per token", "contextual"]
    assert [kind for kind, _ in shown] == list(KINDS)
    assert kind_rows({}) == ([], [])
