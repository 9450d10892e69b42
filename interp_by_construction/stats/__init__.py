"""Plain statistics: correlations, bootstrap intervals, baselines. Knows nothing of models."""
