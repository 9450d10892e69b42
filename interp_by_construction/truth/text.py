"""A text as words and marks, and what was known when each token ended.

1. A unit is a word, a number in digits, or a mark. `don't` is one word, `well-known` two words and
   a mark, `3.50` one number. A line break ends a document, behind which nothing is known of the
   text before. An empty line ends a paragraph: sentences, quotations and parentheses end there, but
   the words of the document are remembered.
2. A token belongs to the unit in which its last character that is no white space stands. If the
   unit goes on behind the token, it is taken as it stands so far.
3. What is known of a unit comes from the units before it and from its own letters. So it depends on
   the text up to the end of the token alone, however the text is cut into tokens. The exceptions
   are the fields `following`, `in_question` and `closes_sentence`, which are for truth only.

A sentence ends with `.`, `!` or `?`, and closing marks, where a word with a capital letter follows:
in `"Oh no!" said Tom.` there is one sentence. A text that begins with a small letter begins inside
a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.truth.state import State, Unit, lower_case

_LETTERS = r"(?:[^\W\d_][\u0300-\u036f]*)+"
_UNIT = re.compile(rf"{_LETTERS}(?:['’]{_LETTERS})*|\d+(?:[.,]\d+)*|[^\w\s]|[\w]")


@dataclass(frozen=True)
class Units:
    """Words and marks of some texts: first those of the whole texts in order, then those that are
    not finished where a token ends. All arrays are [unit]."""

    n_whole: int
    words: list[str]
    """The distinct units in lower case."""
    word: NDArray[np.int64]
    """Position in `words`."""
    is_word: NDArray[np.bool_]
    is_number: NDArray[np.bool_]
    """Of digits."""
    capital: NDArray[np.bool_]
    upper: NDArray[np.bool_]
    """All letters are capitals, of which there are two or more."""
    before: NDArray[np.int64]
    """The unit directly before it in the paragraph; -1 for none."""
    following: NDArray[np.int64]
    """The unit directly behind it in the paragraph; -1 for none. Looks ahead."""
    sentence: NDArray[np.int64]
    """Number of the sentence, over all texts."""
    place: NDArray[np.int64]
    """Number of the word in its sentence, from 1; 0 for a mark, and where it is not known."""
    place_in_text: NDArray[np.int64]
    """The same in the document."""
    quoted: NDArray[np.bool_]
    """Inside quotation marks; the marks themselves are outside."""
    opens_quotation: NDArray[np.bool_]
    """First word behind an opening quotation mark."""
    bracketed: NDArray[np.bool_]
    """Inside parentheses."""
    seen: NDArray[np.bool_]
    """A word that occurred before in the document."""
    foretold: NDArray[np.bool_]
    """The word that followed when the word before it occurred last."""
    named: NDArray[np.bool_]
    """A name: a capital letter inside a sentence, or a word that had one before in the document."""
    in_question: NDArray[np.bool_]
    """In a sentence that ends with a question mark. Looks ahead."""
    closes_sentence: NDArray[np.bool_]
    """The last word of a sentence that has an end. Looks ahead."""
    so_far: NDArray[np.int64]
    """The unit of each token, as far as it has been read, [token]; -1 for white space."""
    in_whole: NDArray[np.int64]
    """The same in the whole text, [token]."""


@dataclass
class _Reader:
    """Collects the units of all texts."""

    whole: list[Unit] = field(default_factory=list)
    unfinished: list[Unit] = field(default_factory=list)
    so_far: list[int] = field(default_factory=list)
    in_whole: list[int] = field(default_factory=list)
    paragraphs: list[int] = field(default_factory=list)
    """Of each whole unit."""
    n_paragraphs: int = 0
    n_sentences: int = 0

    def text(self, tokens: Sequence[str]) -> None:
        """Reads the tokens of one text. Unfinished units are numbered from -2 downwards, until all
        whole ones are counted."""
        last: dict[int, list[int]] = {}
        first = len(self.so_far)
        for i, (token, end) in enumerate(zip(tokens, accumulate(map(len, tokens)), strict=True)):
            self.so_far.append(-1)
            self.in_whole.append(-1)
            if kept := token.rstrip():
                last.setdefault(end - len(token) + len(kept) - 1, []).append(first + i)
        state, start, breaks = State(inside=True), 0, 0
        for line in "".join(tokens).split("\n"):
            if line.strip():
                if breaks == 1:
                    state = State()
                elif breaks:
                    state.new_paragraph()
                    # What begins with an empty line begins inside a document.
                    state.begins, state.n_in_text = False, state.n_in_text or -1
                self._paragraph(state, line, start, last)
                breaks = 0
            breaks, start = breaks + 1, start + len(line) + 1

    def _paragraph(self, state: State, line: str, offset: int, last: dict[int, list[int]]) -> None:
        self.n_paragraphs += 1
        state.sentence = max(state.sentence, self.n_sentences + 1)
        for match in _UNIT.finditer(line):
            start, end = match.span()
            spaced = start == 0 or line[start - 1].isspace()
            for at in range(start, end - 1):
                if tokens := last.get(offset + at):
                    found = self._unfinished(state, line[start : at + 1], spaced)
                    for token in tokens:
                        self.so_far[token], self.in_whole[token] = found, len(self.whole)
            unit = state.unit(match.group(), spaced)
            for token in last.get(offset + end - 1, ()):
                self.so_far[token] = self.in_whole[token] = len(self.whole)
            state.remember(unit)
            state.step(unit, spaced)
            state.before = len(self.whole)
            self.whole.append(unit)
            self.paragraphs.append(self.n_paragraphs)
        self.n_sentences = state.sentence

    def _unfinished(self, state: State, text: str, spaced: bool) -> int:
        """Number of a unit as it stands so far. A mark that later joins two parts of a word or of a
        number is still a mark."""
        if text[-1].isalnum() or len(text) == 1 or not _splits(text):
            return self._add(state.unit(text, spaced))
        front = state.unit(text[:-1], spaced)
        ahead = copy(state)
        ahead.step(front, spaced)
        ahead.before = self._add(front)
        return self._add(ahead.unit(text[-1], False))

    def _add(self, unit: Unit) -> int:
        self.unfinished.append(unit)
        return -1 - len(self.unfinished)


def _splits(text: str) -> bool:
    match = _UNIT.match(text)
    return match is not None and match.end() < len(text)


def read_units(texts: Sequence[Sequence[str]]) -> Units:
    """The units of some texts, which are given as their tokens."""
    reader = _Reader()
    for tokens in texts:
        reader.text(tokens)
    every, n = [*reader.whole, *reader.unfinished], len(reader.whole)
    lower = [lower_case(unit.text) for unit in every]
    words = list(dict.fromkeys(lower))
    number = {word: i for i, word in enumerate(words)}
    paragraphs = np.array([*reader.paragraphs, -1], dtype=np.int64)
    same = paragraphs[1:] == paragraphs[:-1]
    following = np.full(len(every), -1, dtype=np.int64)
    following[:n] = np.where(same, np.arange(1, n + 1), -1)
    columns = {name: np.array([getattr(u, name) for u in every]) for name in _COLUMNS}
    columns["before"] = _resolved(columns["before"], n)
    closes, asks = _ends(reader.whole, len(every))
    typed: dict[str, Any] = {
        name: values.astype(np.int64 if name in _NUMBERS else np.bool_)
        for name, values in columns.items()
    }
    return Units(
        n_whole=n,
        words=words,
        word=np.array([number[word] for word in lower], dtype=np.int64),
        is_word=np.array([u.text[0].isalpha() for u in every], dtype=np.bool_),
        is_number=np.array([u.text[0].isdigit() for u in every], dtype=np.bool_),
        capital=np.array([u.text[0].isupper() for u in every], dtype=np.bool_),
        upper=np.array([len(u.text) > 1 and u.text.isupper() for u in every], dtype=np.bool_),
        following=following,
        in_question=asks,
        closes_sentence=closes,
        so_far=_resolved(np.array(reader.so_far, dtype=np.int64), n),
        in_whole=np.array(reader.in_whole, dtype=np.int64),
        **typed,
    )


_COLUMNS = tuple(name for name in Unit._fields if name not in ("text", "ends"))
_NUMBERS = ("before", "sentence", "place", "place_in_text")


def _resolved(numbers: NDArray[np.int64], n_whole: int) -> NDArray[np.int64]:
    """Unfinished units behind the whole ones."""
    return np.where(numbers < -1, n_whole - 2 - numbers, numbers).astype(np.int64)


def _ends(whole: Sequence[Unit], n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which units close a sentence, and which stand in a question, [unit]. A question goes from
    the last mark that may end a sentence to its question mark."""
    closes, asks = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    last, ended, begun, sentence = -1, False, 0, -1
    for i, unit in enumerate(whole):
        if unit.sentence != sentence:
            if ended:
                closes[last] = True
            last, begun = -1, i
            sentence, ended = unit.sentence, False
        if unit.text[0].isalnum():
            last, ended = i, False
        elif unit.ends:
            ended = last >= 0
            asks[begun : i + 1] = unit.text == "?"
            begun = i + 1
    if ended:
        closes[last] = True
    return closes, asks
