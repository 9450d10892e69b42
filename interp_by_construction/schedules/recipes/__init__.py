"""What each artifact of a run is computed from, and how: its config, its parents, the identity of
models and data.

A fingerprint covers exactly what a method lists here, so a field that is missing is a stale result,
and one too many a needless recomputation. The stages hold the science.
"""

from interp_by_construction.schedules.recipes.labels import LabelRecipes
from interp_by_construction.schedules.recipes.scores import ScoreRecipes
from interp_by_construction.schedules.recipes.training import TrainingRecipes


class Recipes(LabelRecipes, TrainingRecipes, ScoreRecipes):
    """One method per kind of artifact."""


__all__ = ["Recipes"]
