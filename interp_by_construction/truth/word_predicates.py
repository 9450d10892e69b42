"""Predicates on a word or mark of the generated stories, by its neighbours and its noun."""

from __future__ import annotations

from interp_by_construction.corpus import grammar as g
from interp_by_construction.corpus.grammar import Unit
from interp_by_construction.corpus.lexicon import LEXICON


def possessive(unit: Unit) -> bool:
    """`her` only before a noun or adjective, and not behind a verb of giving (`gave her milk`)."""
    if unit.lower != "her":
        return unit.lower in g.POSSESSIVE
    nominal = bool(unit.after) and unit.after not in g.FUNCTION_WORDS | g.VERBS
    return nominal and unit.before not in LEXICON["giving"]


def demonstrative(unit: Unit) -> bool:
    """`this`; `that` before a noun or adjective but not before a name, or at the beginning of a
    sentence."""
    that = unit.lower == "that" and (
        unit.after in (g.NOUNS | g.ADJECTIVES) - LEXICON["names"] or unit.opens_sentence
    )
    return that or unit.lower == "this"


def infinitive(unit: Unit) -> bool:
    """A base form behind `to`."""
    return unit.lower in g.BASE and unit.before == "to"


def present(unit: Unit) -> bool:
    """A verb in the present tense."""
    finite = unit.before not in g.MODALS | g.NEGATIONS | {"to", "did"}
    return unit.lower in g.PRESENT and (finite or unit.lower not in g.BASE)


def preposition(unit: Unit) -> bool:
    """A preposition, not the `to` of an infinitive."""
    return unit.lower in g.PREPOSITIONS and not (unit.lower == "to" and unit.after in g.BASE)


def of_time(unit: Unit) -> bool:
    """A preposition before a noun of time, as in `in the evening`."""
    times = {"in", "on", "at", "by", "after", "until", "for"}
    return unit.lower in times and unit.noun in g.TIME_NOUNS


def of_place(unit: Unit) -> bool:
    """A preposition of place before another noun."""
    places = {"in", "on", "at", "near", "under", "behind", "by", "above", "over", "around"}
    return unit.lower in places and bool(unit.noun) and unit.noun not in g.TIME_NOUNS


def of_direction(unit: Unit) -> bool:
    """A preposition that says where something moves."""
    directions = {"to", "into", "from", "out", "off", "over", "around", "through"}
    return preposition(unit) and unit.lower in directions
