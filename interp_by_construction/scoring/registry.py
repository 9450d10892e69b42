"""The scorers of the judge stage. To add one, write its file and add it here."""

from __future__ import annotations

from interp_by_construction.scoring.blind import BlindRelabelling
from interp_by_construction.scoring.detect import DetectionAndFuzzing
from interp_by_construction.scoring.excerpt_score import ExcerptSimulation
from interp_by_construction.scoring.scorer import Scorer

SCORERS: tuple[Scorer, ...] = (ExcerptSimulation(), DetectionAndFuzzing(), BlindRelabelling())
"""In the order in which tables show them."""
