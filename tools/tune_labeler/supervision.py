"""Parsed texts with the truth of thousands of labels on each of their tokens: words by WordNet, as
`lexical_supervision` has them, and contexts by the rules of `contexts`.

Held out are whole books, kinds of rule, words, a part of the rules of every other kind, and a part
of WordNet's synsets. Nothing of them is trained on.
"""

from __future__ import annotations

import argparse
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


FIXED = ("context",)
"""Contexts by fixed rules, on which the head that ships was trained: nothing of them is held
out."""
N_PHRASINGS = 4
"""At most so many of a concept: reading all of them would take longer than the texts."""


def text_arguments(parser: argparse.ArgumentParser) -> None:
    """What the supervision is made of."""
    parser.add_argument(
        "--parsed", type=Path, required=True, help="texts as `parse_texts.py` wrote them"
    )
    parser.add_argument(
        "--wordnet",
        type=Path,
        required=True,
        help="folder with data.noun, index.noun, cntlist.rev, ...",
    )
    parser.add_argument("--texts", type=int, help="so many of the texts; all by default")


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
    known, contexts = lexical.context_concepts([chunk.text for chunk in chunks], ends)
    concepts += known
    columns += list(contexts.T)
    words = [concept._replace(phrasings=concept.phrasings[:N_PHRASINGS]) for concept in words]
    every = words + concepts
    unseen = [lexical.held_out(concept, lexical.HELD_OUT) for concept in words]
    unseen += [concept.kind not in FIXED and is_held_out(concept) for concept in concepts]
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


def known_tokens(
    data: Supervision,
    tokens: NDArray[np.int64],
    columns: NDArray[np.int64],
    rng: np.random.Generator,
    most: int,
) -> tuple[dict[int, NDArray[np.int64]], dict[int, NDArray[np.int64]]]:
    """Of each concept at most so many of the tokens to which its label applies, and tokens of the
    same words to which it does not."""
    members, near = {}, {}
    types = data.types[tokens]
    order = np.argsort(types, kind="stable")
    starts = np.searchsorted(types[order], np.arange(len(data.membership) + 1))

    def some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return tokens[rng.choice(rows, min(len(rows), most), replace=False)]

    for column in columns.tolist():
        missed = np.empty(0, dtype=np.int64)
        if column < data.n_words:
            own = np.flatnonzero(data.membership[:, column] == 1)
            found = [order[starts[i] : starts[i + 1]] for i in own]
            rows = np.concatenate(found) if found else missed
        else:
            truth = data.context[tokens, column - data.n_words]
            rows = np.flatnonzero(truth == 1)
            same = np.zeros(len(data.membership), dtype=bool)
            same[types[rows]] = True
            missed = np.flatnonzero(same[types] & (truth == 0))
        members[column], near[column] = some(rows), some(missed)
    return members, near


def with_lists(data: Supervision, n: int, seed: int) -> Supervision:
    """The same with concepts of two to four words that have nothing else in common, frequent words
    more often."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(data.types, minlength=len(data.membership))
    words = np.array(
        [
            i
            for i, concept in enumerate(data.concepts[: data.n_words])
            if concept.kind == "word" and not data.held_out[i]
        ]
    )
    weights = np.sqrt(
        np.array([counts[data.membership[:, i] == 1].sum() for i in words], dtype=float)
    )
    concepts, columns = [], []
    for _ in range(n):
        own = rng.choice(words, int(rng.integers(2, 5)), replace=False, p=weights / weights.sum())
        forms = [f"'{data.concepts[i].name.removeprefix('the word ')}'" for i in own]
        listed = f"{', '.join(forms[:-1])} and {forms[-1]}"
        concepts.append(
            Concept("list", listed, [f"the words {listed}", listed, f"{', '.join(forms)}"])
        )
        every = data.membership[:, own]
        columns.append(
            np.where((every == 1).any(1), 1, np.where((every == IGNORE).any(1), IGNORE, 0)).astype(
                np.uint8
            )
        )
    at = data.n_words
    return data._replace(
        membership=np.column_stack([data.membership, *columns]),
        concepts=[*data.concepts[:at], *concepts, *data.concepts[at:]],
        held_out=np.concatenate([data.held_out[:at], np.zeros(n, bool), data.held_out[at:]]),
    )


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
