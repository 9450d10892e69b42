"""A small controlled English for labels. A label is read as a rule (`truth.expressions`), or it is
not read: nothing is guessed.

1. Atoms are words (`the word 'x'`), word classes, categories, marks (`truth.vocabulary`), and
   positions (`the second word of a sentence`).
2. What stands behind an atom narrows it down: `nouns after a comma`, `pronouns inside quotation
   marks`, `verbs ending in -ing` (`truth.narrowing`). `X after Y` means directly behind one unit.
3. `A and B`, `A or B` and `A, B` are unions: a label names what a neuron responds to, and `dogs and
   cats` are all dogs and all cats. An intersection is said with `that are`, `in`, `after` and their
   like. `A except B` and `A but not B` take B away.
4. Where it is not clear how far something reaches, as in `nouns and verbs after a comma`, the label
   is not read. With parentheses it is: `(nouns and verbs) after a comma`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.errors import LabelerError
from interp_by_construction.truth.cursor import Cursor, Part, Unreadable
from interp_by_construction.truth.expressions import Evaluation, Rule, either, without
from interp_by_construction.truth.narrowing import narrowed
from interp_by_construction.truth.phrases import atom
from interp_by_construction.truth.text import read_units
from interp_by_construction.truth.vocabulary import atoms

VERSION = 2
"""Grows when a label may be read as something else than before."""
LONGEST = 1000
"""Characters of a label."""
EXAMPLES = (
    "the word 'the'",
    "the words 'he' and 'she'",
    "the word after 'the'",
    "words after a comma",
    "words after a preposition",
    "the second word after a verb",
    "nouns before a verb",
    "words between commas",
    "the first word of a sentence",
    "the last word of a sentence",
    "the first three words of a sentence",
    "words after the tenth word of a sentence",
    "the first word of the text",
    "the first word of a quotation",
    "words inside quotation marks",
    "words outside quotation marks",
    "words in parentheses",
    "words in a question",
    "pronouns inside quotation marks",
    "verbs in a sentence with a negation",
    "words ending in -ing",
    "words beginning with un-",
    "capitalized words",
    "all-caps words",
    "long words",
    "short words",
    "words of three letters",
    "words that occurred before in the text",
    "words that occur for the first time",
    "names that occurred before in the text",
    "verbs anywhere after a negation in the sentence",
)
"""Forms that are proposed beside the atoms."""

_QUOTED = re.compile(r"(?<!\w)[\"“”„‘’'`](\S+?)[\"“”‘’'`](?!\w)")
_UNCLOSED = re.compile(r"(?<!\w)[\"“‘'`]([\w’]+(?:'\w+)?)$")
"""The last word of a label whose quotation marks were stripped."""


def read(label: str) -> Rule:
    """What a label means. Raises LabelerError for one that cannot be read, with the nearest forms
    that can."""
    try:
        return parsed(label)
    except Unreadable as error:
        near = " or ".join(f"`{form}`" for form in nearest(label))
        hint = f"; try {near}" if near else ""
        raise LabelerError(
            f"label {label!r} is in no form that rules can read: {error}{hint}"
        ) from (error)


def truth_on(texts: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.float32]:
    """1 on the tokens of some texts that have each label, else 0, [token, label], tokens of all
    texts in order. A label that looks ahead is evaluated on the whole text. Raises LabelerError for
    a label that cannot be read."""
    return Evaluation(read_units(texts)).tokens([read(label) for label in labels])


def nearest(label: str) -> list[str]:
    """The readable forms that a label resembles most, best first; there may be none."""
    return get_close_matches(_plain(label), _forms(), n=3, cutoff=0.5)


@cache
def _forms() -> tuple[str, ...]:
    return tuple(dict.fromkeys([*(rule.name for rule in atoms().values()), *EXAMPLES]))


def _plain(label: str) -> str:
    """In lower case, with one kind of quotation mark around words."""
    text = " ".join(label[:LONGEST].lower().split())
    text = _UNCLOSED.sub(r"'\1'", _QUOTED.sub(r"'\1'", text))
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text


def is_rule(label: str) -> bool:
    """Whether a label can be read."""
    try:
        parsed(label)
    except Unreadable:
        return False
    return True


@lru_cache(maxsize=4096)
def parsed(label: str) -> Rule:
    """As `read`, but raises Unreadable, without a search for the nearest forms."""
    if len(label) > LONGEST:
        raise Unreadable(f"it has {len(label)} characters; give at most {LONGEST}")
    cursor = Cursor(_plain(label))
    rule = _expression(cursor)
    if not cursor.is_done:
        raise Unreadable(f"`{cursor.rest}` is not understood here")
    return rule


def _expression(cursor: Cursor) -> Rule:
    rule = _coordination(cursor)
    while cursor.take(r",? ?(?:except(?: for)?|but not|other than|apart from)"):
        rule = without(rule, _coordination(cursor))
    return rule


def _coordination(cursor: Cursor) -> Rule:
    parts = [_joined(cursor)]
    while cursor.take(
        r",? ?(?:and|or)|,", before=r"(?! *(?:but not|but only|except|other than|apart from))"
    ):
        part = _joined(cursor)
        if (parts[-1].is_open or part.is_narrowed) and not part.is_generic:
            raise Unreadable(
                f"it is not clear how far `{part.rule.name}` and what stands before it reach; use "
                "parentheses"
            )
        parts.append(part)
    return _union([part.rule for part in parts])


def _union(rules: list[Rule]) -> Rule:
    return either(list({rule.name: rule for rule in rules}.values()))


def _joined(cursor: Cursor) -> Part:
    """An atom or a parenthesis, and all that narrows it down."""
    part = _primary(cursor)
    while narrower := narrowed(cursor, part, _reference):
        part = narrower
    return part


def _primary(cursor: Cursor) -> Part:
    if cursor.symbol("("):
        with cursor.nested():
            rule = _expression(cursor)
        if not cursor.symbol(")"):
            raise Unreadable("a closing parenthesis is missing")
        return Part(rule)
    return atom(cursor, _primary, _reference)


def _reference(cursor: Cursor) -> Rule:
    """What stands behind `after`, `before` and their like: one atom or parenthesis, or several with
    `or` between them."""
    rules = [_primary(cursor).rule]
    while True:
        start = cursor.at
        if not cursor.take("or"):
            break
        part = _joined(cursor)
        if part.is_generic:
            # `words after a comma or words in parentheses`: no reference, but a new beginning.
            cursor.at = start
            break
        if part.is_narrowed:
            raise Unreadable(f"it is not clear how far `{part.rule.name}` reaches; use parentheses")
        rules.append(part.rule)
    return _union(rules)
