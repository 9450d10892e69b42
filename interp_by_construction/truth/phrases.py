"""Reads the atoms of the language of labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.truth.closed import FUNCTION_WORDS
from interp_by_construction.truth.expressions import Rule, after, both, feature, lexical, negated
from interp_by_construction.truth.text import Units
from interp_by_construction.truth.vocabulary import (
    COUNTED,
    MODIFIERS,
    RANKED,
    SPELLINGS,
    WORDS,
    atoms,
    letters,
    named_things,
)

DEEPEST = 8
"""Parentheses inside each other."""
RANK = f"({'|'.join(RANKED)})"
COUNT = rf"({'|'.join(COUNTED)}|\d{{1,2}})"
SPAN = "(sentence|text|document)"
_OF = rf"(?:of|in) (?:(?:a|the|each|every|any) )?{SPAN}s?"
_LIST = r"(?:,? ?(?:and|or)|,)"
_NARROWS = "after|before|in|inside|within|outside|at|between|anywhere|ending|beginning|that|which"


class Unreadable(Exception):
    """A label, or a part of one, that is in no known form."""


class Part(NamedTuple):
    """A part of a label, as far as it has been read."""

    rule: Rule
    is_generic: bool = False
    """Whether it begins anew with `words` or a position, so that it belongs to nothing before."""
    is_narrowed: bool = False
    """Whether something stands behind its atom."""
    is_open: bool = False
    """Whether it might include what follows behind `and`."""


class Cursor:
    """A label, and how far it has been read."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self._depth = text, 0, 0

    @property
    def rest(self) -> str:
        """What is still to be read."""
        return self.text[self.at :]

    @property
    def is_done(self) -> bool:
        return not self.rest

    def take(self, pattern: str, before: str = "") -> re.Match[str] | None:
        """Reads whole words, if they are next. before: what has to stand behind them."""
        found = _compiled(pattern, before).match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def symbol(self, mark: str) -> bool:
        """Reads a mark, if it is next."""
        found = self.text.startswith(mark, self.at)
        if found:
            self.at += len(mark)
            self.at += len(self.rest) - len(self.rest.lstrip())
        return found

    @contextmanager
    def nested(self) -> Iterator[None]:
        """One parenthesis deeper. Raises Unreadable where that is too deep."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable(f"more than {DEEPEST} parentheses stand inside each other")
        yield
        self._depth -= 1


@lru_cache(maxsize=1024)
def _compiled(pattern: str, before: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern})(?=[\s,()]|$) *{before}")


def atom(
    cursor: Cursor, primary: Callable[[Cursor], Part], reference: Callable[[Cursor], Rule]
) -> Part:
    """One atom. Raises Unreadable where none is next."""
    if cursor.take("not"):
        with cursor.nested():
            return Part(negated(primary(cursor).rule), is_open=True)
    ranked = partial(_ranked_after, reference=reference)
    for read in (_foretold, _position, ranked, _listed, _quoted, _function_word):
        if part := read(cursor):
            return part
    start = cursor.at
    cursor.take("the|an?|any|all|every|each")
    modifiers = []
    while found := cursor.take(
        f"{'|'.join([*MODIFIERS, *SPELLINGS])}|{COUNT}-letter", before=r"(?=\w)"
    ):
        count, text = found.group(1), found.group(0).strip()
        rule = _of_letters(count) if count else MODIFIERS[SPELLINGS.get(text, text)]
        modifiers.append(rule)
    kinds = cursor.take("(?:words (?:about|for)|kinds of|types of|names (?:of|for))")
    rule = _named(cursor)
    if rule is None or (kinds and not _has_kinds(kinds.group(0).strip(), rule)):
        cursor.at = start
        raise Unreadable(f"`{cursor.rest}` names no word, class, category or position")
    is_words = rule is WORDS
    for each in modifiers[::-1]:
        name = f"{each.name} {rule.name}"
        rule = both(rule, each, name, is_compound=False)
    return Part(rule, is_words, False, bool(modifiers) and not is_words)


def _has_kinds(kinds: str, rule: Rule) -> bool:
    """`names of people` are no people, and `names of places` no places."""
    named = kinds.startswith("names") and rule.name in ("people", "places")
    return rule.name in named_things() and not named


def _named(cursor: Cursor) -> Rule | None:
    """The longest phrase of the vocabulary that is next."""
    ends = [m.end() for m in re.finditer(r"[^\s,()]+", cursor.rest)][:9]
    for end in reversed(ends):
        phrase = cursor.rest[:end]
        if phrase in atoms():
            cursor.at += end
            cursor.symbol(" ")
            return atoms()[phrase]
    return None


def _foretold(cursor: Cursor) -> Part | None:
    told = "the word that followed the previous word's last occurrence"
    return Part(atoms()[told], is_generic=True) if cursor.take(told) else None


def _position(cursor: Cursor) -> Part | None:
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
    return "a sentence" if word == "sentence" else "the text"


def place(units: Units, span: str) -> NDArray[np.int64]:
    """Number of each word in its sentence or text, [unit]; 0 for a mark."""
    return units.place if span == "a sentence" else units.place_in_text


def _within(units: Units, span: str, n: int) -> NDArray[np.bool_]:
    where = place(units, span)
    return (where > 0) & (where <= n)


def counted(word: str) -> int:
    n = int(word) if word.isdigit() else COUNTED.index(word) + 1
    if n == 0:
        raise Unreadable("`0` counts nothing")
    return n


def spelled(n: int) -> str:
    return COUNTED[n - 1] if n <= len(COUNTED) else str(n)


def _of_letters(count: str) -> Rule:
    n = counted(count)
    return lexical(f"{spelled(n)}-letter", lambda word: letters(word) == n)


def _ranked_after(cursor: Cursor, reference: Callable[[Cursor], Rule]) -> Part | None:
    """`the second word after a comma`"""
    found = cursor.take(rf"(?:the )?{RANK} words? (?:after|following)")
    if not found:
        return None
    rank, first = found.group(1), reference(cursor)
    steps = RANKED.index(rank) + 1
    name = None if steps == 1 else f"the {rank} word after {first.inner}"
    return Part(after(WORDS, first, steps, name), True, True, True)


def _listed(cursor: Cursor) -> Part | None:
    """`the word x`, `the words x, y and z`, with or without quotation marks."""
    start = cursor.at
    if cursor.take("(?:the )?words?", before="(?=')"):
        words = [_take_quoted(cursor)]
        while cursor.take(_LIST, before="(?=')"):
            words.append(_take_quoted(cursor))
        return Part(_of_words(words))
    if found := cursor.take(
        r"the word ([a-z]+(?:'[a-z]+)?)", before=rf"(?=$|[,)]|(?:and|or|{_NARROWS})\b)"
    ):
        word = found.group(1)
        if not re.fullmatch(f"{_NARROWS}|following|preceding", word) or _ends_item(cursor):
            return Part(_of_words([word]))
        cursor.at = start
    if cursor.take("the words"):
        words = []
        while found := cursor.take(r"([a-z]+(?:'[a-z]+)?)", before=rf"(?=$|[)]|{_LIST} )"):
            words.append(found.group(1))
            if not cursor.take(_LIST):
                break
        else:
            # The last word of a list may be narrowed down: it is then not clear what is.
            words = []
        if len(words) > 1 and not set(words) & {"and", "or"}:
            return Part(_of_words(words))
        cursor.at = start
    return None


def _ends_item(cursor: Cursor) -> bool:
    return cursor.is_done or bool(re.match(r"[,)]|(?:and|or) ", cursor.rest))


def _take_quoted(cursor: Cursor) -> str:
    found = cursor.take(r"'(\S+?)'")
    if not found:
        raise Unreadable(f"`{cursor.rest}` does not begin with one word in quotation marks")
    return found.group(1)


def _quoted(cursor: Cursor) -> Part | None:
    return Part(_of_words([_take_quoted(cursor)])) if cursor.rest.startswith("'") else None


def _function_word(cursor: Cursor) -> Part | None:
    """A function word that stands alone is named by itself: no class or category is called `to`."""
    start = cursor.at
    found = cursor.take("[a-z]+(?:'[a-z]+)?", before=r"(?=$|[,)]|(?:and|or|in the|except)\b)")
    if found and found.group(0).strip() in FUNCTION_WORDS:
        return Part(_of_words([found.group(0).strip()]))
    cursor.at = start
    return None


def _of_words(words: list[str]) -> Rule:
    """Single words or marks."""
    words = list(dict.fromkeys(word.replace("’", "'") for word in words))
    own = frozenset(words)
    quoted = [f"'{word}'" for word in words]
    if len(words) == 1:
        return lexical(f"the word {quoted[0]}", own.__contains__)
    name = f"the words {', '.join(quoted[:-1])} and {quoted[-1]}"
    return lexical(name, own.__contains__)
