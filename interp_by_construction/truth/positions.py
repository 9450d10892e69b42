"""Reads positions in a sentence, a text or a quotation, and numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.truth.cursor import Cursor, Part, Unreadable
from interp_by_construction.truth.expressions import Rule, feature
from interp_by_construction.truth.text import Units

COUNTED = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
RANKED = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
RANK = f"({'|'.join(RANKED)})"
COUNT = rf"({'|'.join(COUNTED)}|\d{{1,2}})"
SPAN = "(sentence|text|document)"
_OF = rf"(?:of|in) (?:(?:a|the|each|every|any) )?{SPAN}s?"


def position(cursor: Cursor) -> Part | None:
    """A position in a sentence, text or quotation."""
    rule: Rule | None = None
    if found := cursor.take(rf"(?:the )?{RANK} words? {_OF}"):
        rule = _at_place(found.group(1), found.group(2))
    elif found := cursor.take(rf"the words? (?:after|following) the {RANK} word {_OF}"):
        if " words " in found.group(0):
            raise Unreadable("say `the word after` or `words after`")
        rank = RANKED.index(found.group(1)) + 1
        if rank < len(RANKED):
            rule = _at_place(RANKED[rank], found.group(2))
    elif found := cursor.take(rf"(?:the )?first {COUNT} words {_OF}"):
        n, span = counted(found.group(1)), span_of(found.group(2))
        name = f"the first {spelled(n)} words of {span}"
        rule = feature(name, lambda units: _within(units, span, n))
    elif cursor.take("(?:the )?first words? of (?:(?:a|the|each|every) )?quotations?"):
        rule = feature("the first word of a quotation", lambda units: units.opens_quotation)
    elif cursor.take("(?:the )?last words? of (?:(?:a|the|each|every) )?sentences?"):
        name = "the last word of a sentence"
        rule = feature(name, lambda units: units.closes_sentence, looks_ahead=True)
    return None if rule is None else Part(rule, is_generic=True)


def _at_place(rank: str, span: str) -> Rule:
    n, span = RANKED.index(rank) + 1, span_of(span)
    return feature(f"the {rank} word of {span}", lambda units: place(units, span) == n)


def span_of(word: str) -> str:
    """How a name calls a sentence or a text."""
    return "a sentence" if word == "sentence" else "the text"


def place(units: Units, span: str) -> NDArray[np.int64]:
    """Number of each word in its sentence or text, [unit]; 0 for a mark."""
    return units.place if span == "a sentence" else units.place_in_text


def _within(units: Units, span: str, n: int) -> NDArray[np.bool_]:
    where = place(units, span)
    return (where > 0) & (where <= n)


def counted(word: str) -> int:
    """`three` or `3` -> 3. Raises Unreadable for 0."""
    n = int(word) if word.isdigit() else COUNTED.index(word) + 1
    if n == 0:
        raise Unreadable("`0` counts nothing")
    return n


def spelled(n: int) -> str:
    """`3` -> `three`."""
    return COUNTED[n - 1] if n <= len(COUNTED) else str(n)
