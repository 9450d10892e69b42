"""Labels as words."""

from __future__ import annotations


def normalised(text: str) -> str:
    """Two labels are the same if they differ in case, spacing or a final plural s only."""
    words = "".join(c.lower() if c.isalnum() else " " for c in text).split()
    return " ".join(word.removesuffix("s") if len(word) > 3 else word for word in words)
