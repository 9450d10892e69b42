"""Words of a text, in scripts with and without spaces, and labels as words."""

from __future__ import annotations

import re
import unicodedata

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
    "\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese, with their punctuation."""
UNSPACED = re.compile(f"[{_UNSPACED}]")
"""A letter of a script that is written without spaces between words."""
WORD = re.compile(rf"[{_UNSPACED}]{{1,2}}|[^\s{_UNSPACED}]{{1,40}}")
"""What counts as a word where documents are measured: a run of letters between spaces. Two letters
of a script without spaces count as one, and so do 40 of any other run without a space."""
WRAPPED = re.compile(rf"(?<=[{_UNSPACED}])[^\S\n]*\n[^\S\n]*(?=[{_UNSPACED}])")
"""A line break inside a paragraph of such a script, which stands for no space."""


def is_word(text: str) -> bool:
    """Whether a text consists of letters and digits alone. The marks above and below letters, such
    as vowels of Hindi, count as letters, and so do marks without a shape that join them."""
    return bool(text) and all(
        each.isalnum() or unicodedata.category(each) in ("Mn", "Mc", "Me", "Cf") for each in text
    )


def count_words(text: str) -> int:
    """Number of words of a text."""
    return sum(1 for _ in WORD.finditer(text))


def normalised(text: str) -> str:
    """A form of a label that is equal for labels which differ only in case, spacing or plural s."""
    words = "".join(c.lower() if c.isalnum() else " " for c in text).split()
    return " ".join(word.removesuffix("s") if len(word) > 3 else word for word in words)
