"""The scorers of the judge stage. To add one, write its file and add it here."""

from __future__ import annotations

from pkgutil import resolve_name

from interp_by_construction.scoring.scorer import Scorer

SCORERS = (
    "interp_by_construction.scoring.excerpt_score:ExcerptSimulation",
    "interp_by_construction.scoring.detect:DetectionAndFuzzing",
    "interp_by_construction.scoring.blind:BlindRelabelling",
)
"""In the order in which tables show them."""


def all_scorers() -> list[Scorer]:
    """One of each."""
    return [resolve_name(name)() for name in SCORERS]
