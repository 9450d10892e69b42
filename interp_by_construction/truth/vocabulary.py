"""The atoms of the language of labels: word classes, categories of the lexicon, marks, forms,
positions and repeats, each under the phrases that name it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import MappingProxyType

from interp_by_construction.truth.categories import category_names, members
from interp_by_construction.truth.closed import CLASSES, FUNCTION_WORDS, MARKS, parts
from interp_by_construction.truth.expressions import Rule, feature, lexical

LONG, SHORT = 8, 3
"""Letters that a long word has at least, and a short word at most."""

WORDS = feature("words", lambda units: units.is_word | units.is_number)
"""Words, and numbers in digits."""

_ALSO = {
    "pronouns": ("pronoun words",),
    "subject pronouns": ("nominative pronouns",),
    "possessive pronouns": ("possessives", "possessive determiners", "possessive adjectives"),
    "first-person pronouns": ("first person pronouns",),
    "second-person pronouns": ("second person pronouns",),
    "third-person pronouns": ("third person pronouns",),
    "male pronouns": ("masculine pronouns",),
    "female pronouns": ("feminine pronouns",),
    "modal verbs": ("modals", "modal auxiliaries"),
    "forms of be": ("forms of 'be'", "forms of to be", "forms of the verb be"),
    "forms of have": ("forms of to have", "forms of the verb have"),
    "forms of do": ("forms of to do", "forms of the verb do"),
    "auxiliary verbs": ("auxiliaries", "helping verbs"),
    "negations": ("negation words", "negative words"),
    "question words": ("interrogative words", "interrogatives"),
    "demonstratives": ("demonstrative pronouns",),
    "definite articles": ("the definite article",),
    "number words": ("spelled numbers",),
    "ordinals": ("ordinal numbers",),
    "weekdays": ("days of the week", "names of weekdays"),
    "months": ("names of months", "months of the year"),
    "intensifiers": ("adverbs of degree", "degree adverbs"),
    "past-tense verbs": ("past tense verbs", "verbs in the past tense"),
    "plural nouns": ("plurals", "nouns in the plural"),
    "emotions": ("feelings",),
    "clothes": ("clothing", "garments"),
    "colors": ("colours",),
    "fruit": ("fruits",),
    "headgear": ("hats", "headwear"),
    "footwear": ("shoes",),
    "drinks": ("beverages",),
    "family members": ("relatives", "kinship terms"),
    "places": ("locations",),
    "quantities": ("amounts",),
    "verbs of speaking": ("verbs of communication", "speech verbs", "verbs of saying"),
    "verbs of motion": ("verbs of movement", "motion verbs", "movement verbs"),
    "verbs of thinking": ("verbs of cognition",),
    "verbs of making": ("verbs of creation",),
    "verbs of feeling": ("verbs of emotion",),
    "verbs of looking": ("verbs of seeing",),
    "full stops": ("periods",),
    "exclamation marks": ("exclamation points",),
    "quotation marks": ("quotes",),
    "dashes": ("hyphens",),
    "opening parentheses": ("opening brackets",),
    "closing parentheses": ("closing brackets",),
    "punctuation marks": ("punctuation",),
    "function words": ("grammatical words",),
    "names": ("proper names", "proper nouns"),
    "numbers in digits": ("digits",),
}
"""Other names of the atoms."""

_ODD = {"women": "woman", "men": "man", "children": "child", "people": "person", "fish": "fish"}


def _singular(name: str) -> str:
    """The singular of the noun that a name is about: `verbs of motion` -> `verb of motion`."""
    head, of, rest = name.partition(" of ")
    *front, noun = head.split(" ")
    if noun in _ODD:
        noun = _ODD[noun]
    elif noun.endswith("ies"):
        noun = f"{noun[:-3]}y"
    elif noun.endswith(("shes", "xes", "ches", "sses")) and noun != "dashes":
        noun = noun[:-2]
    elif noun == "dashes":
        noun = "dash"
    elif noun == "parentheses":
        noun = "parenthesis"
    elif noun.endswith("s") and not noun.endswith("ss"):
        noun = noun[:-1]
    return " ".join([*front, noun]) + of + rest


def _listed(words: frozenset[str]) -> Callable[[str], bool]:
    """Whether a word, or a part of a contraction, is one of these."""
    return lambda word: any(part in words for part in parts(word))


def _class_rules() -> Iterator[Rule]:
    shipped = category_names()
    for name, words in CLASSES.items():
        yield lexical(name, _listed(words))
    more = {
        "verbs": CLASSES["auxiliary verbs"],
        "adverbs": CLASSES["intensifiers"] | {"not", "never"},
        "past-tense verbs": frozenset("was were had did could would might should".split()),
    }
    for name in shipped:
        yield lexical(name, _of_category(name, frozenset(more.get(name, ()))))
    yield lexical("function words", _listed(FUNCTION_WORDS))
    yield feature("numbers in digits", lambda units: units.is_number)
    spelled = _listed(CLASSES["number words"])
    yield lexical("numbers", lambda word: word[0].isdigit() or spelled(word))


def _of_category(name: str, more: frozenset[str]) -> Callable[[str], bool]:
    """The words of a category are read when the first word is tested."""

    def test(word: str) -> bool:
        own = members(name)
        return any(part in own or part in more for part in parts(word))

    return test


def _mark_rules() -> Iterator[Rule]:
    for name, characters in MARKS.items():
        yield lexical(name, frozenset(characters).__contains__)
    yield lexical("punctuation marks", lambda mark: unicodedata.category(mark[0])[0] == "P")


def _other_rules() -> Iterator[Rule]:
    yield WORDS
    yield feature("names", lambda units: units.named)
    told = "the word that followed the previous word's last occurrence"
    yield feature(told, lambda units: units.foretold)


MODIFIERS: Mapping[str, Rule] = MappingProxyType(
    {
        "capitalized": feature("capitalized", lambda units: units.capital),
        "all-caps": feature("all-caps", lambda units: units.upper),
        "lower-case": feature("lower-case", lambda units: units.is_word & ~units.capital),
        "long": lexical("long", lambda word: letters(word) >= LONG),
        "short": lexical("short", lambda word: 1 <= letters(word) <= SHORT),
    }
)
"""Adjectives that stand before an atom."""

SPELLINGS = MappingProxyType(
    {
        "capitalised": "capitalized",
        "uppercase": "all-caps",
        "upper-case": "all-caps",
        "lowercase": "lower-case",
    }
)
"""Other spellings of the modifiers."""


@cache
def atoms() -> Mapping[str, Rule]:
    """Phrase -> the atom that it names: canonical names, other names, the singular of each,
    and `color words`."""
    found: dict[str, Rule] = {}
    for rule in (*_class_rules(), *_mark_rules(), *_other_rules()):
        found.setdefault(rule.name, rule)
    for name, others in _ALSO.items():
        found |= {other: found[name] for other in others if other not in found}
    for name, rule in list(found.items()):
        found.setdefault(_singular(name), rule)
        if rule.name in named_things() and " of " not in name:
            found.setdefault(f"{_singular(name)} words", rule)
    return MappingProxyType(found)


@cache
def named_things() -> frozenset[str]:
    """Names of the categories of things and deeds, of which there are kinds and names."""
    classes = {"nouns", "verbs", "adjectives", "adverbs", "plural nouns", "past-tense verbs"}
    return frozenset(category_names()) - classes


def letters(word: str) -> int:
    """Number of letters."""
    return sum(map(str.isalpha, word))
