"""How well simulated activations predict real ones, and how sure we are."""

from interp_by_construction.stats.bootstrap import mean_ci95, paired_difference_ci95
from interp_by_construction.stats.correlation import (
    columnwise_correlation,
    pairwise_correlation,
    simulation_score,
)

__all__ = [
    "columnwise_correlation",
    "mean_ci95",
    "paired_difference_ci95",
    "pairwise_correlation",
    "simulation_score",
]
