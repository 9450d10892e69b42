"""Seeded stories for small children, whose concepts are known.

A story is a plot: a sequence of beats. A template tells each beat, and words of the lexicon fill
its slots. Child, animal, color and the like are drawn once per story, so that a model can predict
them over distance.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from interp_by_construction.corpus.lexicon import (
    ANIMAL_SOUNDS,
    BASE_WORDS,
    BOYS,
    n_held_out,
    plural,
)
from interp_by_construction.corpus.templates import BEATS, PLOTS, SLOTS
from interp_by_construction.corpus.templates import n_held_out as n_held_out_templates

VERSION = 1
"""Raise it when the code below turns the same words and templates into other text."""

HELD_OUT_SPLITS = {"train": 0.25, "score": 0.5}
"""Split -> share of its stories that use held-out templates and words."""

_TEMPLATE_SHARE = 0.4
"""In such a story: chance that a beat is told by a held-out template."""
_WORD_SHARE = 0.25
"""In such a story: chance that a slot is filled with a held-out word."""

_DERIVED = {"animals": "animal", "fruits": "fruit"}
_PRONOUNS = {
    True: {"he": "he", "him": "him", "his": "his"},
    False: {"he": "she", "him": "her", "his": "her"},
}
_BOYS = frozenset(name.lower() for name in BOYS)
_CAPITALISED = ("names", "days")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")
_SENTENCE_START = re.compile(r"(^|[.!?] )([a-z])")


@dataclass(frozen=True)
class Story:
    """One generated document."""

    text: str
    held_out: bool
    """Whether it contains at least one held-out template; most such stories have held-out words."""


@cache
def _pools(concept: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(ordinary, held-out) base words of a concept."""
    words = BASE_WORDS[concept]
    cut = len(words) - n_held_out(len(words))
    return words[:cut], words[cut:]


class _Slots(dict[str, str]):
    """Fills slots on demand: `str.format_map` calls `__missing__` for a slot without a word."""

    def __init__(self, rng: random.Random, held_out: bool) -> None:
        super().__init__()
        self.rng = rng
        self.held_out = held_out

    def _draw(self, concept: str) -> str:
        ordinary, rare = _pools(concept)
        if self.held_out and self.rng.random() < _WORD_SHARE:
            return self.rng.choice(rare)
        return self.rng.choice(ordinary)

    def __missing__(self, slot: str) -> str:
        if slot.startswith("any_"):
            return self._draw(SLOTS[slot.removeprefix("any_")])
        value = self[slot] = self._fixed(slot)
        return value

    def _fixed(self, slot: str) -> str:
        if slot[0].isupper():
            return self[slot.lower()].capitalize()
        if slot in _PRONOUNS[True]:
            return _PRONOUNS[self["child"].lower() in _BOYS][slot]
        if slot in _DERIVED:
            return plural(self[_DERIVED[slot]])
        if slot == "sound":
            return ANIMAL_SOUNDS[self["animal"]]
        concept = SLOTS[slot]
        # Slots of one concept (color and color2) differ, or a story would contradict itself.
        taken = {self[other].lower() for other in list(self) if SLOTS.get(other) == concept}
        word = self._draw(concept)
        while word in taken:
            word = self._draw(concept)
        return word.capitalize() if concept in _CAPITALISED else word


def tell(rng: random.Random, held_out: bool) -> Story:
    """One story. `held_out`: with at least one held-out template, and often held-out words."""
    slots = _Slots(rng, held_out)
    plot = rng.choice(PLOTS)
    forced = rng.randrange(len(plot)) if held_out else -1
    sentences = []
    for position, beat in enumerate(plot):
        templates = BEATS[beat]
        cut = len(templates) - n_held_out_templates(len(templates))
        rare = held_out and (position == forced or rng.random() < _TEMPLATE_SHARE)
        sentences.append(rng.choice(templates[cut:] if rare else templates[:cut]).format_map(slots))
    text = _ARTICLE.sub(r"\1n ", " ".join(sentences))
    text = _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)
    return Story(text, held_out)


def generate(splits: Sequence[str], seed: int) -> list[Story]:
    """One story for each entry of `splits`. Story i depends on (seed, i, splits[i]) alone."""
    stories = []
    for index, split in enumerate(splits):
        rng = random.Random(f"{seed}/{index}")
        stories.append(tell(rng, rng.random() < HELD_OUT_SPLITS.get(split, 0.0)))
    return stories


def generator_identity() -> str:
    """sha256 of all that decides what a seed gives: version, words, templates, plots."""
    content = (
        VERSION,
        sorted(BASE_WORDS.items()),
        sorted(ANIMAL_SOUNDS.items()),
        BEATS,
        PLOTS,
        SLOTS,
        HELD_OUT_SPLITS,
    )
    return hashlib.sha256(repr((*content, _TEMPLATE_SHARE, _WORD_SHARE)).encode()).hexdigest()
