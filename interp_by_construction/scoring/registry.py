"""The scorers of the judge stage. To add one, write its file and add it here."""

from __future__ import annotations

from collections.abc import Mapping

from interp_by_construction.scoring import blind, detect, excerpt_score
from interp_by_construction.scoring.scorer import Scorer

SCORERS: Mapping[str, Scorer] = {
    "excerpts": excerpt_score.score,
    "detection": detect.score,
    "blind": blind.score,
}
"""In the order in which tables show them. The stage hashes the names."""
