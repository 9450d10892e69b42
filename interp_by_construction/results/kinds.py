"""Scores of a layer's labels by kind of label, so that a mean over many names of single words does
not stand for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from interp_by_construction.labelling.sources import names_one_word
from interp_by_construction.truth.language import is_rule

KINDS = ("one word", "another rule", "no rule")
"""A label that names one word; one that rules can read otherwise; one that they cannot read."""
MEANS = ("score_before", "score_final", "score_second", "score_rules", "table_r")
"""Columns of the node table whose means are given."""


def kind_of(label: str) -> str:
    """One of `KINDS`."""
    if names_one_word(label):
        return KINDS[0]
    return KINDS[1] if is_rule(label) else KINDS[2]


def scores_by_kind(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """rows: of the node table, of one layer.

    Kind -> `n` labels, how many are contextual (None where that was not measured), and means over
    the nodes on which a score is defined (None where it is on none). Kinds without labels are left
    out.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in KINDS}
    for row in rows:
        if row["status"] == "aligned":
            groups[kind_of(row["label"])].append(row)
    return {kind: _means(group) for kind, group in groups.items() if group}


def _means(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    contextual = [row["contextual"] for row in rows if row.get("contextual") is not None]
    found: dict[str, Any] = {
        "n": len(rows),
        "n_contextual": sum(contextual) if contextual else None,
    }
    for name in MEANS:
        values = [row[name] for row in rows if row.get(name) is not None]
        found[name] = sum(values) / len(values) if values else None
    return found
