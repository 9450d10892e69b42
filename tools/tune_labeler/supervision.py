"""Parsed texts with the truth of thousands of labels on each of their tokens: words by WordNet, as
`lexical_supervision` has them, and contexts by the rules of `contexts`.

Held out are whole books, kinds of rule, words, a part of the rules of every other kind, and a part
of WordNet's synsets. Nothing of them is trained on.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from categories import categories
from contexts import Rule, rules
from numpy.typing import NDArray
from table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import lexical_supervision as lexical
from lexical_supervision import Sense, Text, WordNet
from lexical_words import IGNORE, Concept

HELD_OUT_BOOKS = (
    "arthur-conan-doyle_the-adventures-of-sherlock-holmes",
    "h-g-wells_the-time-machine",
)
HELD_OUT_KINDS = ("question", "exclamation", "condition")
HELD_OUT_PLACES = ("question", "exclamation")
"""A rule whose label names one of them is held out with its kind."""
HELD_OUT_WORDS = frozenset("with she but on they would at so upon there which an said".split())
"""Words that no trained rule of a single word names."""
HELD_OUT = 0.2
"""Share of the other rules that are held out."""
CUT = 0.12
"""Share of the words that are read in two parts, as a subject's tokenizer may cut them."""
LEAST = 60
"""Tokens that a rule needs."""
SHARES = 0.02, 0.85
"""A word in a context is a concept of its own where so many of the word's tokens stand in it."""


class Supervision(NamedTuple):
    """Tokens are words, parts of words, and marks, text by text."""

    texts: list[list[str]]
    """Pieces of each text: joined they are the text."""
    books: list[str]
    rows: NDArray[np.int64]
    """Row of the table that each token is a part of, [token]."""
    whole: NDArray[np.bool_]
    """Whether the token ends its word, [token]."""
    types: NDArray[np.int32]
    """[token]: row of `membership`."""
    membership: NDArray[np.uint8]
    """Of words: [type, concept]: 1, 0 or IGNORE."""
    context: NDArray[np.uint8]
    """Of rules: [token, concept]: the last columns of the concepts."""
    concepts: list[Concept]
    held_out: NDArray[np.bool_]
    """[concept]"""

    @property
    def n_words(self) -> int:
        """Concepts of words: they come first."""
        return self.membership.shape[1]

    @property
    def text_of(self) -> NDArray[np.int64]:
        """[token]"""
        return np.repeat(np.arange(len(self.texts)), [len(pieces) for pieces in self.texts])

    def member(self, tokens: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.uint8]:
        """[token, concept] of some tokens and some concepts."""
        word = columns < self.n_words
        found = np.empty((len(tokens), len(columns)), dtype=np.uint8)
        found[:, word] = self.membership[np.ix_(self.types[tokens], columns[word])]
        found[:, ~word] = self.context[np.ix_(tokens, columns[~word] - self.n_words)]
        return found


N_PHRASINGS = 4
"""At most so many of a concept: reading all of them would take longer than the texts."""


def build(table: Table, net: WordNet, seed: int) -> Supervision:
    pieces, ends, rows, whole = cut(table, np.random.default_rng(seed))
    senses = [{end: Sense(*sense) for end, sense in own.items()} for own in table.senses]
    chunks = [Text(text, own) for text, own in zip(table.texts, senses, strict=True)]
    types, found = lexical._types(chunks, ends)
    words, membership = lexical._word_concepts(net, found, types)
    concepts, columns = [], []
    for rule in chosen(list(rules(table, categories(table, net)))):
        name = rule.phrasings[0]
        concepts.append(Concept(rule.kind, name, rule.phrasings))
        columns.append(member(rule, rows, whole))
    words = [concept._replace(phrasings=concept.phrasings[:N_PHRASINGS]) for concept in words]
    every = words + concepts
    unseen = [lexical.held_out(concept, lexical.HELD_OUT) for concept in words]
    unseen += [is_held_out(concept) for concept in concepts]
    return Supervision(
        pieces,
        table.books,
        rows,
        whole,
        types,
        membership,
        np.stack(columns, axis=1),
        every,
        np.array(unseen),
    )


def cut(
    table: Table, rng: np.random.Generator
) -> tuple[list[list[str]], list[list[int]], NDArray[np.int64], NDArray[np.bool_]]:
    """Pieces of each text and the characters at which they end; row and wholeness of each token."""
    pieces: list[list[str]] = [[] for _ in table.texts]
    ends: list[list[int]] = [[] for _ in table.texts]
    rows, whole = [], []
    parted = rng.random(len(table)) < CUT
    for row, (i, start, end) in enumerate(
        zip(table.passage.tolist(), table.start.tolist(), table.end.tolist(), strict=True)
    ):
        stops = [end]
        if parted[row] and end - start > 3:
            stops = [start + int(rng.integers(2, end - start)), end]
        for stop in stops:
            before = ends[i][-1] if ends[i] else 0
            pieces[i].append(table.texts[i][before:stop])
            ends[i].append(stop)
            rows.append(row)
            whole.append(stop == end)
    return pieces, ends, np.array(rows), np.array(whole)


def member(rule: Rule, rows: NDArray[np.int64], whole: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Truth of a rule on the tokens, [token]. Before a word has ended nobody can know that it
    belongs, unless its place alone decides."""
    found = rule.rows[rows].astype(np.uint8)
    if rule.kind == "next":
        # The rest of the word comes next.
        found[~whole] = 0
    elif not rule.at_once:
        found[~whole & (found == 1)] = IGNORE
    return found


def chosen(every: list[Rule]) -> list[Rule]:
    """Rules with enough tokens; of the words in a context those that stand in and outside of it."""
    classes: dict[str, int] = {}
    for rule in every:
        if rule.kind == "both":
            own = rule.phrasings[2].split(", but only")[0]
            classes[own] = max(classes.get(own, 0), int(rule.rows.sum()))
    kept = []
    for rule in every:
        n = int(rule.rows.sum())
        if rule.kind == "both":
            share = n / max(classes[rule.phrasings[2].split(", but only")[0]], 1)
            if not SHARES[0] < share < SHARES[1]:
                continue
        if n >= LEAST:
            kept.append(rule)
    return kept


def is_held_out(concept: Concept) -> bool:
    """Of a rule; its kind and first phrasing decide, so it never changes."""
    name = concept.name
    quoted = set(name.replace('"', "'").split("'")[1::2])
    return (
        concept.kind in HELD_OUT_KINDS
        or any(place in name for place in HELD_OUT_PLACES)
        or bool(quoted & HELD_OUT_WORDS)
        or zlib.crc32(name.encode()) % 1000 < 1000 * HELD_OUT
    )
