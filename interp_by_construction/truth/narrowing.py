"""Reads what narrows down an atom of the language of labels: neighbours, places, forms, repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from interp_by_construction.truth.cursor import Cursor, Part, Reference, Unreadable
from interp_by_construction.truth.expressions import (
    Rule,
    after,
    ahead_of,
    between,
    both,
    feature,
    in_sentence_with,
    later_than,
    lexical,
    without,
)
from interp_by_construction.truth.positions import (
    COUNT,
    RANK,
    RANKED,
    SPAN,
    counted,
    place,
    span_of,
    spelled,
)
from interp_by_construction.truth.text import Units
from interp_by_construction.truth.vocabulary import MODIFIERS, SPELLINGS, letters


class _Place(NamedTuple):
    """A part of a text that units stand in."""

    name: str
    pattern: str
    holds: Callable[[Units], object]
    looks_ahead: bool = False


_QUOTATION = "(?:quotation marks|quotes|quotations?|a quotation|direct speech|dialogue)"
_BRACKETS = "(?:parentheses|brackets)"
_A_SENTENCE = "(?:a|the|each|every) sentence"
_THE_TEXT = "(?:a|the|each|every) (?:text|document)"
_PLACES = (
    _Place("inside quotation marks", f"(?:inside|in|within) {_QUOTATION}", lambda u: u.quoted),
    _Place(
        "outside quotation marks",
        f"outside(?: of)? {_QUOTATION}|in (?:the )?narration",
        lambda u: ~u.quoted,
    ),
    _Place("in parentheses", f"(?:inside|in|within) {_BRACKETS}", lambda u: u.bracketed),
    _Place("outside parentheses", f"outside(?: of)? {_BRACKETS}", lambda u: ~u.bracketed),
    _Place(
        "in a question",
        "(?:inside|in|within) (?:a question|questions)",
        lambda u: u.in_question,
        True,
    ),
    _Place(
        "at the start of a sentence",
        f"at the (?:start|beginning) of (?:{_A_SENTENCE}|sentences)",
        lambda u: u.place == 1,
    ),
    _Place(
        "at the end of a sentence",
        f"at the end of (?:{_A_SENTENCE}|sentences)",
        lambda u: u.closes_sentence,
        True,
    ),
    _Place(
        "at the start of the text",
        f"at the (?:start|beginning) of {_THE_TEXT}",
        lambda u: u.place_in_text == 1,
    ),
    _Place(
        "at the start of a quotation",
        "at the (?:start|beginning) of (?:a quotation|quotations)",
        lambda u: u.opens_quotation,
    ),
    _Place(
        "that occurred before in the text",
        "(?:that|which) (?:(?:have |had )?occurred|(?:were|was) (?:mentioned|used)|appeared)"
        "(?: already)? before(?: in the (?:same )?(?:text|document))?",
        lambda u: u.seen,
    ),
    _Place(
        "that occur for the first time",
        "(?:that|which) (?:occur|occurred|appear|are used|are mentioned) for the first time"
        "(?: in the (?:text|document))?",
        lambda u: ~u.seen & (u.is_word | u.is_number),
    ),
    _Place(
        "with a capital letter",
        "(?:(?:that|which) (?:begin|start) )?with (?:a capital letter|capital letters)",
        lambda u: u.capital,
    ),
    _Place(
        "in capital letters",
        "in (?:capital letters|capitals|all caps|upper case|uppercase)",
        lambda u: u.upper,
    ),
    _Place("in digits", "(?:in|with) digits", lambda u: u.is_number),
)


def narrowed(cursor: Cursor, part: Part, reference: Reference) -> Part | None:
    """`part` and what narrows it down, maybe behind `but only`; None where nothing of that kind is
    next."""
    start = cursor.at
    behind = cursor.take(",? ?but only")
    found = _narrowed(cursor, part, reference)
    if behind and found is None:
        cursor.at = start
    return found


def _narrowed(cursor: Cursor, part: Part, reference: Reference) -> Part | None:
    for where in _PLACES:
        if cursor.take(where.pattern):
            name = f"{part.rule.inner} {where.name}"
            stands = feature(where.name, where.holds, where.looks_ahead)
            return _closed(part, both(part.rule, stands, name))
    closed = _form(cursor, part.rule) or _span(cursor, part.rule)
    if closed is not None:
        return _closed(part, closed)
    rule = _neighbour(cursor, part.rule, reference) or _kind(cursor, part.rule, reference)
    # `and` may go on with what a rule refers to.
    return None if rule is None else Part(rule, part.is_generic, True, True)


def _closed(part: Part, rule: Rule) -> Part:
    return Part(rule, part.is_generic, True, False)


def _form(cursor: Cursor, rule: Rule) -> Rule | None:
    """Letters of a word."""
    having = "(?:(?:that|which) )?"
    the = "(?:the (?:letters?|prefix|suffix|syllable|ending) )?"
    if found := cursor.take(
        rf"{having}(?:end|ends|ending) (?:in|with) {the}(?:-([a-z]+)|'-?([a-z]+)'|([a-z]+))"
    ):
        end = next(group for group in found.groups() if group)
        test = lexical(f"-{end}", lambda word: word.endswith(end) and len(word) > len(end))
        return both(rule, test, f"{rule.inner} ending in -{end}")
    if found := cursor.take(
        rf"{having}(?:begin|begins|beginning|start|starts|starting) with {the}"
        r"(?:([a-z]+)-|'([a-z]+)-?'|([a-z]+))"
    ):
        start = next(group for group in found.groups() if group)
        test = lexical(f"{start}-", lambda word: word.startswith(start))
        return both(rule, test, f"{rule.inner} beginning with {start}-")
    if found := cursor.take(
        rf"(?:containing|{having}contain|with) the letters? (?:'([a-z]+)'|([a-z]+))"
    ):
        own = next(group for group in found.groups() if group)
        test = lexical(f"containing {own}", lambda word: own in word)
        return both(rule, test, f"{rule.inner} with the letter '{own}'")
    if found := cursor.take(rf"(?:of|with) {COUNT} letters?(?: or (more|fewer|less))?"):
        n, more = counted(found.group(1)), found.group(2)
        low, high = (n if more in (None, "more") else 1), (n if more != "more" else 10**6)
        noun = "letter" if n == 1 else "letters"
        tail = {None: "", "more": " or more"}.get(more, " or fewer")
        shown = f"of {spelled(n)} {noun}{tail}"
        test = lexical(shown, lambda word: low <= letters(word) <= high)
        return both(rule, test, f"{rule.inner} {shown}")
    return None


def _span(cursor: Cursor, rule: Rule) -> Rule | None:
    """How far into a sentence or text."""
    if found := cursor.take(rf"after the {RANK} word (?:of|in) (?:a|the|each|every) {SPAN}"):
        n, span = RANKED.index(found.group(1)) + 1, span_of(found.group(2))
        shown = f"after the {found.group(1)} word of {span}"
        return both(rule, feature(shown, lambda u: place(u, span) > n), f"{rule.inner} {shown}")
    if found := cursor.take(
        rf"(?:in|among|within) the first {COUNT} words of (?:a|the|each|every) {SPAN}"
    ):
        n, span = counted(found.group(1)), span_of(found.group(2))
        shown = f"in the first {spelled(n)} words of {span}"
        where = feature(shown, lambda u: (place(u, span) > 0) & (place(u, span) <= n))
        return both(rule, where, f"{rule.inner} {shown}")
    return None


def _neighbour(cursor: Cursor, rule: Rule, reference: Reference) -> Rule | None:
    """Units before and behind."""
    if cursor.take("anywhere (?:after|behind)"):
        first = reference(cursor)
        if not cursor.take("in the (?:same )?sentence"):
            raise Unreadable("say `anywhere after ... in the sentence`")
        return later_than(rule, first)
    where = (
        "(?:(?:that|which) (?:come|comes|stand|stands) )?(?:(?:just|right|directly|immediately) )?"
    )
    if cursor.take(rf"{where}(?:after|following|behind)|(?:that|which) follows?"):
        first = reference(cursor)
        if cursor.take("in the same sentence"):
            return later_than(rule, first)
        return after(rule, first)
    if cursor.take(rf"{where}(?:before|preceding)|(?:that|which) precedes?"):
        return ahead_of(rule, reference(cursor))
    if cursor.take("(?:in )?between"):
        first = reference(cursor)
        second = reference(cursor) if cursor.take("and") else first
        return between(rule, first, second)
    if cursor.take("in (?:a sentence|sentences) (?:with|that (?:has|have|contains?))"):
        return in_sentence_with(rule, reference(cursor))
    return None


def _kind(cursor: Cursor, rule: Rule, reference: Reference) -> Rule | None:
    """What else the units are."""
    if cursor.take("(?:that|which|who) are not"):
        return without(rule, reference(cursor))
    if not cursor.take("(?:that|which|who) are"):
        return None
    if found := cursor.take("|".join([*MODIFIERS, *SPELLINGS]), before=r"(?=$|[,)]|and |or )"):
        text = found.group(0).strip()
        return both(rule, MODIFIERS[SPELLINGS.get(text, text)], f"{rule.inner} that are {text}")
    return both(rule, reference(cursor))
