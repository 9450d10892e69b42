"""Simulated activations from label and text alone: exact (the LLM reads both) and dense
(distilled)."""
