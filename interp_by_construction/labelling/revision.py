"""Prompts that ask for a better label: against counter-examples, and against another node that
wants the same label.

As in `labelling.prompts`, a small model follows a pattern: the words stand next to the label, what
the label lacks before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from interp_by_construction.labelling.prompts import (
    SYSTEM,
    clean,
    context,
    describe,
    peak_word,
    top_words,
)
from interp_by_construction.subject.nodes import Excerpt, Node


class CounterExamples(NamedTuple):
    """Where a label and its node disagree, worst first; the peak of each excerpt is the token in
    question."""

    missed: list[Excerpt]
    """The node is active and the simulation is low."""
    wrong: list[Excerpt]
    """The simulation is high and the node is not active."""


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


def revised_words_prompt(node: Node, n_words: int, label: str, examples: CounterExamples) -> str:
    """Few-shot completion prompt; the model continues with a better label than `label`."""
    clauses = [f"was: {clean(label)}"]
    for name, excerpts in (("missing", examples.missed), ("not", examples.wrong)):
        if excerpts:
            clauses.append(f"{name}: {clean(', '.join(map(peak_word, excerpts)))}")
    return "\n".join(
        [*_REVISED, " | ".join([*clauses, clean(", ".join(top_words(node, n_words)))]) + " ="]
    )


def revised_chat_prompt(
    node: Node,
    n_words: int,
    n_contexts: int,
    label: str,
    examples: CounterExamples,
    incoming: Sequence[tuple[str, float]] = (),
) -> list[dict[str, str]]:
    """Messages that ask an instruct model for a better label than `label`."""
    lines = [
        *describe(node, n_words, n_contexts, incoming),
        "",
        f"Its label so far: {label}",
        "That label is not right yet.",
    ]
    for title, excerpts in (
        ("The bracketed word activates the neuron, but the label does not say so", examples.missed),
        (
            "The label says that the bracketed word activates the neuron, but it does not",
            examples.wrong,
        ),
    ):
        if excerpts:
            lines += ["", f"{title}:", *(f"- {context(excerpt)}" for excerpt in excerpts)]
    lines += ["", "Give a better label: one short noun phrase (1 to 6 words) and nothing else."]
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join(lines)}]


def contrasted_words_prompt(node: Node, n_words: int, label: str, other: Node) -> str:
    """Few-shot completion prompt; the model continues with what `node` has and `other`, which holds
    `label`, has not."""
    theirs, own = _apart(node, other, n_words)
    heading = f"{clean(label)}, but not {clean(', '.join(theirs))}" if theirs else clean(label)
    return "\n".join([*_CONTRASTED, f"{heading} | {clean(', '.join(own))} ="])


def contrasted_chat_prompt(
    node: Node,
    n_words: int,
    n_contexts: int,
    label: str,
    other: Node,
    incoming: Sequence[tuple[str, float]] = (),
) -> list[dict[str, str]]:
    """Messages that ask an instruct model what sets `node` apart from `other`, which holds
    `label`."""
    lines = describe(node, n_words, n_contexts, incoming)
    lines += [
        "",
        f'Another neuron has the label "{label}" already. Words that activate that one most:',
    ]
    lines += [f"- {word}" for word in top_words(other, n_words)]
    lines += ["", f'What sets the first neuron apart from it, within or beside "{label}"?']
    lines += ["Answer with one short noun phrase (1 to 6 words) and nothing else."]
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join(lines)}]


def _apart(node: Node, other: Node, n_words: int) -> tuple[list[str], list[str]]:
    """Words of the other that the node does not share, and words of the node, those that it shares
    last."""
    own, theirs = top_words(node, n_words), top_words(other, n_words)
    known, taken = ({word.lower() for word in words} for words in (own, theirs))
    return [word for word in theirs if word.lower() not in known], sorted(
        own, key=lambda word: word.lower() in taken
    )
