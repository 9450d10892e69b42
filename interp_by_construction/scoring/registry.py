"""The scorers of the judge stage. To add one, write its file and add it here."""

from __future__ import annotations

from interp_by_construction.scoring import blind, detect, excerpt_score
from interp_by_construction.scoring.scorer import Scorer

SCORERS: tuple[Scorer, ...] = (excerpt_score.score, detect.score, blind.score)
"""In the order in which tables show them."""
