"""How well simulated activations predict real ones, and how sure we are."""

from interp_by_construction.stats.correlation import simulation_score

__all__ = ["simulation_score"]
