"""Labels as words."""

from __future__ import annotations


def normalised(text: str) -> str:
    """A form of a label that is equal for labels which differ only in case, spacing or plural s."""
    words = "".join(c.lower() if c.isalnum() else " " for c in text).split()
    return " ".join(word.removesuffix("s") if len(word) > 3 else word for word in words)
