"""The lexicon that ships: which words belong to a category, such as animals or verbs of motion, and
to the open word classes.

`tools/make_lexicon.py` makes it from WordNet. A word form belongs to a category if more than half
of its uses do, whatever text it stands in: `bark` is a sound or a part of a tree, but not both.
"""

from __future__ import annotations

import gzip
import json
from functools import cache, lru_cache
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


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Any]:
    with gzip.open(LEXICON, "rt", encoding="utf-8") as file:
        return json.load(file)


def category_names() -> tuple[str, ...]:
    """The categories and open word classes of the lexicon."""
    return tuple(_shipped()["categories"])


@cache
def members(category: str) -> frozenset[str]:
    """The word forms of a category, in lower case. Raises KeyError for an unknown one."""
    made = _shipped()
    if category not in made["categories"]:
        raise KeyError(category)
    number = made["categories"].index(category)
    plurals, pasts = (made["categories"].index(n) for n in ("plural nouns", "past-tense verbs"))
    found: set[str] = set()
    for row in made["words"]:
        belongs = number in row["of"]
        if belongs:
            found.update(row["words"].get("alone", "").split())
        for noun in row["words"].get("n", "").split() if belongs or number == plurals else ():
            found.update((noun, plural(noun)) if belongs else (plural(noun),))
        for verb in row["words"].get("v", "").split() if belongs or number == pasts else ():
            third, past, ing = verb_forms(verb)
            found.update((verb, third, past, ing) if belongs else (past,))
        for adjective in row["words"].get("a", "").split() if belongs else ():
            found.update((adjective, *comparisons(adjective)))
    return frozenset(found)


@lru_cache(maxsize=1)
def identity() -> str:
    """sha256 of the lexicon."""
    return sha256_file(LEXICON)
