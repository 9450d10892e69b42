"""The scorers of the judge stage. To add one, write its file and name it here."""

from __future__ import annotations

from pkgutil import resolve_name

from interp_by_construction.scoring.scorer import Scorer

SCORERS = {
    "excerpts": "interp_by_construction.scoring.excerpt_score:score",
    "detection": "interp_by_construction.scoring.detect:score",
    "blind": "interp_by_construction.scoring.blind:score",
}
"""Name -> its function, in the order in which tables show them. The stage hashes the names."""


def scorer(name: str) -> Scorer:
    """Raises KeyError for a name that is not in `SCORERS`."""
    found: Scorer = resolve_name(SCORERS[name])
    return found
