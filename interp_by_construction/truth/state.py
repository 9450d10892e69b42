"""What is known of a document while it is read, word by word and mark by mark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from interp_by_construction.truth.closed import CLASSES

_ENDS = frozenset(".!?…")
_CLOSING = frozenset(")]»”")
_ABBREVIATED = frozenset("mr mrs ms dr st prof sr jr messrs".split())
_NO_NAMES = CLASSES["weekdays"] | CLASSES["months"] | _ABBREVIATED | {"i"}


class Unit(NamedTuple):
    """A word, number or mark; the fields are those of `Units`, without the plural."""

    text: str
    before: int
    sentence: int
    place: int
    place_in_text: int
    quoted: bool
    opens_quotation: bool
    bracketed: bool
    seen: bool
    foretold: bool
    named: bool
    ends: bool
    """Whether it is a mark that may end a sentence."""


@dataclass
class State:
    """What has been read of a document."""

    before: int = -1
    text: str = ""
    """The last unit in lower case."""
    sentence: int = 0
    n_words: int = 0
    """Of the sentence so far; -1 where its beginning is not known."""
    n_in_text: int = 0
    begins: bool = True
    """Whether the next word opens the document."""
    starts: bool = True
    """Whether the next word opens a sentence even with a small letter."""
    inside: bool = False
    """Whether the document may begin inside a sentence, since it is cut out of one."""
    ended: bool = False
    """Whether a mark that may end a sentence was read."""
    quoted: bool = False
    opened: bool = False
    """Whether the last unit is an opening quotation mark."""
    brackets: int = 0
    words: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    followed: dict[str, str] = field(default_factory=dict)

    def new_paragraph(self) -> None:
        """Of the document that only its words are remembered of."""
        self.before, self.text, self.n_words, self.starts = -1, "", 0, True
        self.ended = self.quoted = self.opened = self.inside = False
        self.sentence, self.brackets = self.sentence + 1, 0

    def unit(self, text: str, spaced: bool) -> Unit:
        """A unit behind what was read. spaced: whether white space or nothing stands before it."""
        low, is_word = lower_case(text), text[0].isalnum()
        opens = is_word and self._opens(text)
        n = 0 if opens else -1 if self.starts else self.n_words
        n_in_text = 0 if opens and self.begins else -1 if self.begins else self.n_in_text
        capital = text[0].isupper() and not (len(text) > 1 and text.isupper())
        capital = capital and low.split("'")[0] not in _NO_NAMES
        base = low.removesuffix("'s")
        fresh = capital and not opens and not self.opened
        mark_opens = self._opens_quotation(text, spaced)
        return Unit(
            text=text,
            before=self.before,
            sentence=self.sentence + opens,
            place=n + 1 if is_word else 0,
            place_in_text=n_in_text + 1 if is_word else 0,
            quoted=self.quoted and mark_opens is None,
            opens_quotation=self.opened and is_word,
            bracketed=self.brackets > 0 and text not in ("(", ")"),
            seen=is_word and low in self.words,
            foretold=is_word and self.followed.get(self.text) == low,
            named=fresh or (capital and base in self.names),
            ends=self._ends(text),
        )

    def _opens(self, text: str) -> bool:
        if self.starts:
            return not self.inside or not text[0].islower()
        return self.ended and not text[0].islower()

    def _ends(self, text: str) -> bool:
        short = self.text in _ABBREVIATED or (len(self.text) == 1 and self.text.isalpha())
        return text in _ENDS and (text != "." or not short or self.text == "i")

    def _opens_quotation(self, text: str, spaced: bool) -> bool | None:
        """Whether a quotation mark opens; None for any other unit."""
        if text == '"':
            return spaced or self.text in ("(", "[", "-", "–", "—")
        return text in "“«„" if text in "“”«»„" else None

    def step(self, unit: Unit, spaced: bool) -> None:
        """Takes a unit into account, apart from what is remembered of words."""
        text = unit.text
        opening = self._opens_quotation(text, spaced)
        if text[0].isalnum():
            # Without a number, nobody knows how many words stand before it.
            self.n_words, self.n_in_text = unit.place or -1, unit.place_in_text or -1
            self.sentence, self.ended = unit.sentence, False
            self.begins = self.starts = self.inside = False
        elif text in _ENDS:
            self.ended = self.ended or unit.ends
        elif opening is None and text not in _CLOSING and text not in "([‘’'":
            self.ended = False
        self.quoted = self.quoted if opening is None else opening
        self.opened = bool(opening)
        self.brackets = max(0, self.brackets + (text == "(") - (text == ")"))
        self.text = lower_case(text)

    def remember(self, unit: Unit) -> None:
        """Takes the words of a whole unit into account, before `step`."""
        low = lower_case(unit.text)
        if unit.text[0].isalnum():
            self.words.add(low)
            if self.text[:1].isalnum():
                self.followed[self.text] = low
        if unit.named:
            self.names.add(low.removesuffix("'s"))


def lower_case(text: str) -> str:
    """With straight apostrophes."""
    return text.lower().replace("’", "'")
