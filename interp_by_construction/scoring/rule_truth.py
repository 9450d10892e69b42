"""Ground truth for labels that name no concept of the lexicon: word classes, single words,
suffixes, marks, positions, groups.

1. A label is read by `RULES`, from its text alone: the first pattern that matches all of it
   decides. A list (`food and drinks`) is the union of its parts, if each part is read by a rule or
   as a concept.
2. A rule is a predicate on a word or mark and what stands around it (`corpus.grammar`), so that its
   truth can be computed on the stories without any LLM. A token has it if it overlaps such a word
   or mark.
3. Nodes are scored as against the lexicon (`scoring.truth`), and reported apart from it.

There is no rule for labels whose meaning leaves more than one choice (`rare words`, `the subject of
a sentence`). The patterns (`truth.rules`) were written with the general list and the labels of one
run in view, but without any activation.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.grammar import FUNCTION_WORDS, units
from interp_by_construction.corpus.lexicon import LEXICON
from interp_by_construction.scoring.truth import CONCEPTS, nearest_concept
from interp_by_construction.truth.rules import RULES, OneOf, Predicate


class Target(NamedTuple):
    """What a label is read as."""

    name: str
    holds: Predicate


_COMPILED = tuple((rule, re.compile(rule.pattern)) for rule in RULES)
_ARTICLE = re.compile(r"^(?:the|a|an|some) ")


def _clean(label: str) -> str:
    return " ".join(re.sub(r"['\"‘’“”`]", "", label.lower()).strip().rstrip(".:;,").split())


def _rule_target(text: str) -> Target | None:
    for rule, pattern in _COMPILED:
        if match := pattern.fullmatch(text):
            captured = next((group for group in match.groups() if group is not None), "")
            return Target(rule.name.format(captured), rule.make(captured))
    # A function word is named by itself: no concept and no class is called `to`.
    if text in FUNCTION_WORDS:
        return Target(f"the word {text}", lambda unit: unit.lower == text)
    return None


def concept_target(concept: str) -> Target:
    """Membership in a concept of the lexicon, as a target."""
    return Target(concept, OneOf(LEXICON[concept]))


def read_target(label: str) -> Target | None:
    """What a label of no concept is read as, from its text alone; None where no rule matches."""
    text = _clean(label)
    return _rule_target(text) or _rule_target(_ARTICLE.sub("", text)) or _union(text)


def _union(text: str) -> Target | None:
    """A list of things that each have a truth."""
    parts = [part.strip() for part in re.split(r",|&|/|\band\b|\bor\b", text) if part.strip()]
    if not 2 <= len(parts) <= 4:
        return None
    targets: list[Target] = []
    for part in dict.fromkeys(parts):
        concept = nearest_concept(part)
        target = concept_target(concept) if concept is not None else _rule_target(part)
        if target is None:
            return None
        targets.append(target)
    return Target(
        " + ".join(target.name for target in targets),
        lambda unit: any(target.holds(unit) for target in targets),
    )


def candidates(targets: Sequence[Target]) -> list[Target]:
    """What a node may turn out to be instead of its label: the given targets, every concept, and
    every rule without a blank."""
    fixed = [Target(rule.name, rule.make("")) for rule in RULES if "{}" not in rule.name]
    named: dict[str, Target] = {}
    for target in (*targets, *map(concept_target, CONCEPTS), *fixed):
        named.setdefault(target.name, target)
    return list(named.values())


def target_mask(excerpts: Sequence[Sequence[str]], targets: Sequence[Target]) -> NDArray[np.bool_]:
    """Truth of every target on the tokens of all excerpts in order, [token, target].

    A token has it if it overlaps a word or mark that has it; the white space before a word is no
    part of it.
    """
    by_word: dict[str, list[int]] = defaultdict(list)
    others: list[tuple[int, Predicate]] = []
    for i, target in enumerate(targets):
        if isinstance(target.holds, OneOf):
            for word in target.holds.words:
                by_word[word].append(i)
        else:
            others.append((i, target.holds))
    columns = np.zeros((sum(map(len, excerpts)), len(targets)), dtype=np.bool_)
    first = 0
    for tokens in excerpts:
        ends = list(accumulate(map(len, tokens)))
        for unit in units("".join(tokens)):
            held = [*by_word.get(unit.lower, ()), *(i for i, holds in others if holds(unit))]
            if held:
                low, high = bisect_right(ends, unit.start), bisect_right(ends, unit.end - 1)
                columns[first + low : first + high + 1, held] = True
        first += len(tokens)
    return columns
