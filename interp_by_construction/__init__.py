"""Interpretability by construction: language models whose neurons do what their labels say."""

__version__ = "0.1.0"
