"""What a label is read as: a rule with a name, which holds on some words and marks of a text.

A rule is made of features of single units (`truth.text`), of tests of their letters, and of other
rules. `Evaluation` computes many rules on one text; what they have in common is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.truth.text import Units

Mask = NDArray[np.bool_]
"""[unit]"""


@dataclass(frozen=True)
class Rule:
    """A predicate on the units of a text."""

    name: str
    """Canonical: it is read as this rule."""
    holds: Callable[[Evaluation], Mask] = field(compare=False)
    looks_ahead: bool = False
    """Whether text behind a unit decides."""
    is_compound: bool = False
    """Whether the name needs parentheses inside another."""
    test: Callable[[str], bool] | None = field(default=None, compare=False)
    """The test of the letters, for a rule that asks for nothing else."""

    @property
    def inner(self) -> str:
        """The name inside another."""
        return f"({self.name})" if self.is_compound else self.name


class Tables:
    """What tests of letters say of words. Each word is tested once."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, bool]] = {}

    def __call__(self, rule: Rule, words: Sequence[str]) -> Mask:
        """Which words pass a rule's test, [word]."""
        assert rule.test is not None
        known = self._known.setdefault(rule.name, {})
        for word in words:
            if word not in known:
                known[word] = rule.test(word)
        return np.fromiter(map(known.__getitem__, words), dtype=np.bool_, count=len(words))


class Evaluation:
    """Rules on one text."""

    def __init__(self, units: Units, tables: Tables | None = None) -> None:
        self.units = units
        self._tables = tables or Tables()
        self._known: dict[str, Mask] = {}

    def __call__(self, rule: Rule) -> Mask:
        """Where a rule holds, [unit]."""
        if rule.name not in self._known:
            self._known[rule.name] = rule.holds(self)
        return self._known[rule.name]

    def lexical(self, rule: Rule) -> Mask:
        """Where the letters of a unit pass a rule's test, [unit]."""
        return self._tables(rule, self.units.words)[self.units.word]

    def tokens(self, rules: Iterable[Rule]) -> NDArray[np.float32]:
        """1 on the tokens that have each rule, [token, rule]. A rule that looks ahead is evaluated
        on whole units."""
        units, columns = self.units, []
        for rule in rules:
            at = units.in_whole if rule.looks_ahead else units.so_far
            columns.append(_at(self(rule), at))
        if not columns:
            return np.zeros((len(units.so_far), 0), dtype=np.float32)
        return np.stack(columns, axis=1).astype(np.float32)


def _at(mask: Mask, where: NDArray[np.int64]) -> Mask:
    """The values at some units; False at -1."""
    return np.append(mask, False)[where]


def lexical(name: str, test: Callable[[str], bool]) -> Rule:
    """Whether the letters of a unit, in lower case, pass a test."""
    rule: Rule

    def holds(on: Evaluation) -> Mask:
        return on.lexical(rule)

    rule = Rule(name, holds, test=test)
    return rule


def feature(
    name: str, of: Callable[[Units], Any], looks_ahead: bool = False, is_compound: bool = False
) -> Rule:
    """What `truth.text` knows of a unit."""

    def holds(on: Evaluation) -> Mask:
        return np.asarray(of(on.units), dtype=np.bool_)

    return Rule(name, holds, looks_ahead, is_compound)


def both(first: Rule, second: Rule, name: str | None = None, is_compound: bool = True) -> Rule:
    """The units that have two rules."""
    name = name or f"{first.inner} that are {second.inner}"
    ahead = first.looks_ahead or second.looks_ahead
    return Rule(name, lambda on: on(first) & on(second), ahead, is_compound)


def either(rules: Sequence[Rule]) -> Rule:
    """The units that have one of some rules."""
    if len(rules) == 1:
        return rules[0]
    *front, last = [rule.inner for rule in rules]
    name = f"{', '.join(front)} and {last}"
    ahead = any(rule.looks_ahead for rule in rules)
    return Rule(name, lambda on: np.any([on(rule) for rule in rules], axis=0), ahead, True)


def without(first: Rule, second: Rule) -> Rule:
    """The units that have a first rule, but not a second one."""
    ahead = first.looks_ahead or second.looks_ahead
    name = f"{first.inner} except {second.inner}"
    return Rule(name, lambda on: on(first) & ~on(second), ahead, True)


def negated(rule: Rule) -> Rule:
    """All words and marks that do not have a rule."""
    return Rule(f"not {rule.inner}", lambda on: ~on(rule), rule.looks_ahead, True)


def after(rule: Rule, first: Rule, steps: int = 1, name: str | None = None) -> Rule:
    """The units with `rule` that stand `steps` behind one with `first`, with nothing but words
    between."""

    def holds(on: Evaluation) -> Mask:
        units, here = on.units, np.arange(len(on.units.word))
        words = np.ones(len(here), dtype=np.bool_)
        for step in range(steps):
            here = np.append(units.before, -1)[here]
            if step < steps - 1:
                words &= _at(units.is_word, here)
        return on(rule) & words & _at(on(first), here)

    name = name or f"{rule.inner} after {first.inner}"
    return Rule(name, holds, rule.looks_ahead or first.looks_ahead, True)


def ahead_of(rule: Rule, second: Rule) -> Rule:
    """The units with `rule` directly before one with `second`. Looks ahead."""
    name = f"{rule.inner} before {second.inner}"
    return Rule(name, lambda on: on(rule) & _at(on(second), on.units.following), True, True)


def _last(on: Evaluation, rule: Rule) -> NDArray[np.int64]:
    """The last whole unit with a rule before each unit; -1 for none, [unit]."""
    units, n = on.units, on.units.n_whole
    held = np.where(on(rule)[:n], np.arange(n), -1)
    up_to = np.append(np.maximum.accumulate(held), -1)
    before = units.before
    found = up_to[np.where(before < n, before, -1)]
    # Before a mark that may yet join two parts of a word stands a unit that is not whole.
    odd = before >= n
    front = before[odd]
    found[odd] = np.where(on(rule)[front], front, up_to[units.before[front]])
    return found


def later_than(rule: Rule, first: Rule) -> Rule:
    """The units with `rule` behind any with `first` in the same sentence."""

    def holds(on: Evaluation) -> Mask:
        last, sentence = _last(on, first), on.units.sentence
        return on(rule) & (last >= 0) & (sentence[last] == sentence)

    name = f"{rule.inner} anywhere after {first.inner} in the sentence"
    return Rule(name, holds, rule.looks_ahead or first.looks_ahead, True)


def between(rule: Rule, first: Rule, second: Rule) -> Rule:
    """The units with `rule` behind `first` and before `second` in one sentence, with neither of
    them between. Looks ahead."""

    def holds(on: Evaluation) -> Mask:
        units, n = on.units, on.units.n_whole
        opened, closed, sentence = _last(on, first), _last(on, second), units.sentence
        ends = np.where(on(second)[:n], np.arange(n), n)
        following = np.append(np.minimum.accumulate(ends[::-1])[::-1], n)
        behind = np.full(len(units.word), n, dtype=np.int64)
        behind[:n] = following[1 : n + 1]
        reached = behind < n
        reached[reached] = sentence[behind[reached]] == sentence[reached]
        start = (opened >= 0) & (sentence[opened] == sentence)
        # Where both are one, as in `between commas`, the last one has to be an opening one.
        own = ~on(first) & ~on(second)
        paired = _odd(on, first) if first.name == second.name else opened > closed
        return on(rule) & own & start & reached & paired

    pair = first.inner if first.name == second.name else f"{first.inner} and {second.inner}"
    name = f"{rule.inner} between {pair}"
    return Rule(name, holds, True, True)


def _odd(on: Evaluation, rule: Rule) -> Mask:
    """Whether an odd number of units with a rule stands before a unit in its sentence, [unit]."""
    units, n = on.units, on.units.n_whole
    count = np.concatenate([[0], np.cumsum(on(rule)[:n])])
    first = np.searchsorted(units.sentence[:n], units.sentence[:n], side="left")
    found = np.zeros(len(units.word), dtype=np.bool_)
    found[:n] = (count[:n] - count[first]) % 2 == 1
    return found


def in_sentence_with(rule: Rule, other: Rule) -> Rule:
    """The units with `rule` in a sentence that has a unit with `other`. Looks ahead."""

    def holds(on: Evaluation) -> Mask:
        units, n = on.units, on.units.n_whole
        sentences = np.unique(units.sentence[:n][on(other)[:n]])
        return on(rule) & np.isin(units.sentence, sentences)

    return Rule(f"{rule.inner} in a sentence with {other.inner}", holds, True, True)
