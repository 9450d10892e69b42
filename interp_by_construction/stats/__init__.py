"""Plain statistics: correlations, and bootstrap intervals. Knows nothing of models."""
