"""The lexicon that ships: which words belong to a category, such as animals or verbs of motion, and
to the open word classes.

`tools/make_lexicon.py` makes it from WordNet. A word form belongs to a category if more than half
of its uses do, whatever text it stands in: `bark` is a sound or a part of a tree, but not both.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from interp_by_construction.engine.disk import sha256_file

LEXICON = Path(__file__).with_name("data") / "lexicon.json.gz"


def plural(noun: str) -> str:
    """The regular plural."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def verb_forms(verb: str) -> tuple[str, str, str]:
    """The regular third person, past tense and -ing form. A final consonant is doubled behind a
    single vowel in words of one syllable."""
    stem = verb
    if verb.endswith("e"):
        past = f"{verb}d"
        stem = verb if verb.endswith(("ee", "oe", "ye")) else verb[:-1]
    elif verb.endswith("y") and verb[-2:-1] not in "aeiou":
        past = f"{verb[:-1]}ied"
    else:
        stem = _doubled(verb)
        past = f"{stem}ed"
    return plural(verb), past, f"{stem}ing"


def comparisons(adjective: str) -> tuple[str, str]:
    """The regular comparative and superlative."""
    stem = _doubled(adjective)
    if adjective.endswith("e"):
        stem = adjective[:-1]
    elif adjective.endswith("y") and adjective[-2:-1] not in "aeiou":
        stem = f"{adjective[:-1]}i"
    return f"{stem}er", f"{stem}est"


def _doubled(word: str) -> str:
    """`hop` -> `hopp`."""
    vowels = [letter in "aeiou" for letter in word]
    double = len(word) > 2 and sum(vowels) == 1 and vowels[-2] and word[-1] not in "aeiouwxy"
    return word + word[-1] if double else word


class Lexicon:
    """The categories of a file, and their members, which are put together when they are asked
    for."""

    def __init__(self, file: Path) -> None:
        with gzip.open(file, "rt", encoding="utf-8") as opened:
            made: dict[str, Any] = json.load(opened)
        self.categories: tuple[str, ...] = tuple(made["categories"])
        self._rows: list[dict[str, Any]] = made["words"]

    def members(self, category: str) -> frozenset[str]:
        """The word forms of a category, in lower case. Raises KeyError for an unknown one."""
        if category not in self.categories:
            raise KeyError(category)
        number = self.categories.index(category)
        found: set[str] = set()
        for row in self._rows:
            own, words = number in row["of"], row["words"]
            if own:
                found.update(words.get("alone", "").split())
            if own or category == "plural nouns":
                for noun in words.get("n", "").split():
                    found.update((noun, plural(noun)) if own else (plural(noun),))
            if own or category == "past-tense verbs":
                for verb in words.get("v", "").split():
                    third, past, ing = verb_forms(verb)
                    found.update((verb, third, past, ing) if own else (past,))
            if own:
                for adjective in words.get("a", "").split():
                    found.update((adjective, *comparisons(adjective)))
        return frozenset(found)


@cache
def _shipped() -> Lexicon:
    return Lexicon(LEXICON)


def category_names() -> tuple[str, ...]:
    """The categories and open word classes of the lexicon that ships."""
    return _shipped().categories


@cache
def members(category: str) -> frozenset[str]:
    """The word forms of a category, in lower case. Raises KeyError for an unknown one."""
    return _shipped().members(category)


@cache
def identity() -> str:
    """sha256 of the lexicon that ships."""
    return sha256_file(LEXICON)
