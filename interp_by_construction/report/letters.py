"""Letters as a terminal can show them."""

from __future__ import annotations

import unicodedata

JOINERS = "\u200c\u200d"
"""Marks without a width inside words of Persian and Hindi, and inside emoji."""
REPLACEMENT = "\ufffd"
_SHOWN = {"Zs": " ", "Zl": "⏎", "Zp": "⏎", "Cf": ""}
"""Unicode category of a letter that is not printable -> what stands for it."""


def visible(text: str) -> str:
    """The text without what could move the terminal's cursor.

    Control characters become a replacement character. Spaces of any width become a space. Marks
    without a shape are left out, but for those that join letters, as in Persian words and emoji.
    """
    return "".join(_visible(letter) for letter in text)


def _visible(letter: str) -> str:
    if letter.isprintable() or letter in JOINERS:
        return letter
    return _SHOWN.get(unicodedata.category(letter), REPLACEMENT)
