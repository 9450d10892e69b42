"""Reads the atoms of the language of labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from interp_by_construction.truth.closed import FUNCTION_WORDS
from interp_by_construction.truth.cursor import Cursor, Part, Reference, Unreadable
from interp_by_construction.truth.expressions import Rule, after, both, lexical, negated
from interp_by_construction.truth.positions import COUNT, RANK, RANKED, counted, position, spelled
from interp_by_construction.truth.vocabulary import (
    MODIFIERS,
    SPELLINGS,
    WORDS,
    atoms,
    letters,
    named_things,
)

_LIST = r"(?:,? ?(?:and|or)|,)"
_NARROWS = "after|before|in|inside|within|outside|at|between|anywhere|ending|beginning|that|which"


def atom(cursor: Cursor, primary: Callable[[Cursor], Part], reference: Reference) -> Part:
    """One atom. Raises Unreadable where none is next."""
    if cursor.take("not"):
        with cursor.nested():
            return Part(negated(primary(cursor).rule), is_open=True)
    ranked = partial(_ranked_after, reference=reference)
    for read in (_foretold, position, ranked, _listed, _quoted, _function_word):
        if part := read(cursor):
            return part
    start = cursor.at
    cursor.take("the|an?|any|all|every|each")
    modifiers = []
    while found := cursor.take(
        f"{'|'.join([*MODIFIERS, *SPELLINGS])}|{COUNT}-letter", before=r"(?=\w)"
    ):
        count, text = found.group(1), found.group(0).strip()
        modifiers.append(_of_letters(count) if count else MODIFIERS[SPELLINGS.get(text, text)])
    rule = _kind(cursor) or _named(cursor)
    if rule is None:
        cursor.at = start
        raise Unreadable(f"`{cursor.rest}` names no word, class, category or position")
    is_words = rule is WORDS
    for each in modifiers[::-1]:
        name = f"{each.name} {rule.name}"
        rule = both(rule, each, name, is_compound=False)
    return Part(rule, is_words, False, bool(modifiers) and not is_words)


def _kind(cursor: Cursor) -> Rule | None:
    """A category in other words, such as `kinds of animals`. `names of people` are no people, and
    `names of places` no places."""
    start = cursor.at
    kinds = cursor.take("words (?:about|for)|kinds of|types of|names (of|for)")
    rule = None if kinds is None else _named(cursor)
    named = kinds is not None and bool(kinds.group(1))
    if rule and rule.name in named_things() - ({"people", "places"} if named else set()):
        return rule
    cursor.at = start
    return None


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


def _of_letters(count: str) -> Rule:
    n = counted(count)
    return lexical(f"{spelled(n)}-letter", lambda word: letters(word) == n)


def _ranked_after(cursor: Cursor, reference: Reference) -> Part | None:
    """The second word after something, and the like."""
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
