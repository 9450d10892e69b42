"""Prompts that ask for another label: one that fits counter-examples, or tells two nodes apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from interp_by_construction.labelling.prompts import (
    Message,
    clean,
    context,
    describe,
    messages,
    peak_word,
    section,
    top_words,
)
from interp_by_construction.subject.nodes import Excerpt, Node


class CounterExamples(NamedTuple):
    """Where a label and its node disagree, worst first, at the peak of each excerpt."""

    missed: list[Excerpt]
    """The node is active and the simulation is low."""
    wrong: list[Excerpt]
    """The simulation is high and the node is not active."""


def one_per_word(excerpts: Iterable[Excerpt], n: int) -> list[Excerpt]:
    """The first excerpt of each of the first `n` different words at the peak."""
    found: dict[str, Excerpt] = {}
    for excerpt in excerpts:
        if len(found) == n:
            break
        if word := peak_word(excerpt).lower():
            found.setdefault(word, excerpt)
    return list(found.values())


_REVISED = (
    "was: pets | missing: horse, sheep | not: chair | cat, dog, horse, sheep = animals",
    "was: verbs | not: go, take, sings | went, took, said, came = verbs in the past tense",
    "was: colors | missing: ruby | not: blue, green | crimson, scarlet, ruby = shades of red",
    "was: dates | not: June, night, 1990 | Monday, Friday, Sunday = days of the week",
    "was: women | missing: uncle | not: friend, queen | mother, uncle, sister = family members",
    "was: short words | not: and, the, he | of, in, under, on = prepositions",
    "was: bread | missing: cheese, soup | bread, cheese, soup = food",
)
_CONTRASTED = (
    "animals, but not lion, wolf, bear | cow, hen, pig, sheep = farm animals",
    "colors, but not blue, green, black | crimson, scarlet, ruby = shades of red",
    "verbs, but not go, take, say | went, took, said, came = verbs in the past tense",
    "people, but not friend, teacher, king | mother, uncle, sister = family members",
    "food, but not bread, cheese, soup | apple, pear, plum = fruit",
    "short words, but not and, or, he | of, in, under, on = prepositions",
)
REVISED_EXAMPLES, CONTRASTED_EXAMPLES = (
    tuple(label for shot in shots for label in (*re.findall(first, shot), shot.split(" = ")[1]))
    for shots, first in ((_REVISED, r"^was: (.+?) \|"), (_CONTRASTED, "^(.+?), but not"))
)
"""Labels that the solved examples of these prompts begin and end with."""


def revised_words_prompt(node: Node, n_words: int, label: str, examples: CounterExamples) -> str:
    """A few-shot prompt, which the model continues with a better label than `label`."""
    clauses = [f"was: {clean(label)}"]
    for name, excerpts in (("missing", examples.missed), ("not", examples.wrong)):
        if excerpts:
            clauses.append(f"{name}: {clean(', '.join(map(peak_word, excerpts)))}")
    clauses.append(clean(", ".join(top_words(node, n_words))))
    return "\n".join([*_REVISED, f"{' | '.join(clauses)} ="])


def revised_chat_prompt(
    node: Node,
    n_words: int,
    n_contexts: int,
    label: str,
    examples: CounterExamples,
    incoming: Sequence[tuple[str, float]],
) -> list[Message]:
    """Messages that ask an instruct model for a better label than `label`."""
    missed = "The bracketed word activates the neuron, but the label does not say so"
    wrong = "The label says that the bracketed word activates the neuron, but it does not"
    return messages(
        [
            *describe(node, n_words, n_contexts, incoming),
            "",
            f"Its label so far: {label}",
            "That label is not right yet.",
            *section(missed, map(context, examples.missed)),
            *section(wrong, map(context, examples.wrong)),
            "",
            "Give a better label: one short noun phrase (1 to 6 words) and nothing else.",
        ]
    )


def contrasted_words_prompt(node: Node, n_words: int, label: str, other: Node) -> str:
    """A few-shot prompt, which the model continues with what `node` has and `other` has not.

    label: of `other`. Of the words of `node`, those that `other` shares come last.
    """
    own, theirs = top_words(node, n_words), top_words(other, n_words)
    known, taken = ({word.lower() for word in words} for words in (own, theirs))
    theirs = [word for word in theirs if word.lower() not in known]
    own = sorted(own, key=lambda word: word.lower() in taken)
    heading = f"{clean(label)}, but not {clean(', '.join(theirs))}" if theirs else clean(label)
    return "\n".join([*_CONTRASTED, f"{heading} | {clean(', '.join(own))} ="])


def contrasted_chat_prompt(
    node: Node,
    n_words: int,
    n_contexts: int,
    label: str,
    other: Node,
    incoming: Sequence[tuple[str, float]],
) -> list[Message]:
    """Messages that ask what sets `node` apart from `other`, which holds `label`."""
    return messages(
        [
            *describe(node, n_words, n_contexts, incoming),
            "",
            f'Another neuron has the label "{label}" already. Words that activate that one most:',
            *(f"- {word}" for word in top_words(other, n_words)),
            "",
            f'What sets the first neuron apart from it, within or beside "{label}"?',
            "Answer with one short noun phrase (1 to 6 words) and nothing else.",
        ]
    )
