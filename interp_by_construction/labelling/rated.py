"""The prompt that the shipped adapter was trained on: a node's evidence as rated excerpts.

    Words: cat, dog, horse              its strongest words
    9 the big [dog] barked at the       a word in its context, and how strongly it activates the
    4 a herd of [sheep] came            node there, from 0 to 9
    0 a hot [dog] with mustard
    Reads from: fur                     labels of the strongest incoming nodes
    Not: pets                           labels that are wrong, or taken
    Label:

The adapted labeler has learned the task, so that nothing has to be explained or shown by solved
examples. One form serves every round: contrast and revision add rated excerpts and a `Not:`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from interp_by_construction.labelling.prompts import (
    clean,
    context,
    distinct,
    top_words,
)
from interp_by_construction.subject.nodes import Excerpt, Node

HIGHEST = 9
N_WORDS = 10
N_TOP, N_MIDDLE, N_NEAR, N_RANDOM = 6, 2, 3, 1
"""Excerpts of each kind in one view."""
BEFORE, BEHIND = 7, 2
"""Words shown on each side: simulators know what stands before a word, never what follows."""
N_NOT = 3
N_VIEWS = 4
QUOTED = re.compile(r"(?<!\w)'([^']+)'(?!\w)|\"([^\"]+)\"")
COPIED = 4
"""Words from which on a label that stands in the prompt is a copy."""


def rated_prompt(
    node: Node,
    view: int = 0,
    incoming: Sequence[tuple[str, float]] = (),
    avoid: Sequence[str] = (),
    more: Iterable[Excerpt] = (),
) -> str:
    """A prompt that the adapted labeler continues with a label and a line break.

    view: which of the node's excerpts are shown, so that several answers rest on different ones.
    incoming: (label, weight) of the strongest incoming nodes; those with positive weight are shown.
    avoid: labels that are not to be given. more: excerpts to be shown before all others.
    """
    strongest = max((each.activations[each.peak] for each in node.top), default=0.0)
    inputs = [clean(label) for label, weight in incoming if weight > 0]
    lines = [f"Words: {clean(', '.join(top_words(node, N_WORDS)))}"]
    lines += [
        f"{rating(each, strongest)} {context(each, BEFORE, BEHIND)}"
        for each in [*more, *shown(node, view)]
    ]
    if inputs:
        lines.append(f"Reads from: {', '.join(inputs)}")
    if avoid:
        lines.append(f"Not: {', '.join(map(clean, avoid[:N_NOT]))}")
    return "\n".join([*lines, "Label:"])


def views(
    node: Node,
    incoming: Sequence[tuple[str, float]] = (),
    avoid: Sequence[str] = (),
    more: Sequence[Excerpt] = (),
) -> tuple[str, ...]:
    """Prompts with different excerpts; arguments as for `rated_prompt`."""
    return tuple(rated_prompt(node, view, incoming, avoid, more) for view in range(N_VIEWS))


def unfit(label: str, prompt: str) -> str | None:
    """Why a label is no answer to a prompt; None if it is one."""
    shown, text = prompt.lower(), label.lower()
    quoted = [word for pair in QUOTED.findall(text) for word in pair if word]
    if any(word not in shown for word in quoted):
        return "names what it was not shown"
    if len(text.split()) >= COPIED and text in shown.replace("[", "").replace("]", ""):
        return "copies the prompt"
    return None


def rating(excerpt: Excerpt, strongest: float) -> int:
    """The activation at the peak from 0 to 9, where 9 is the node's strongest."""
    share = excerpt.activations[excerpt.peak] / strongest if strongest > 0 else 0.0
    return min(max(round(HIGHEST * share), 0), HIGHEST)


def shown(node: Node, view: int) -> Iterator[Excerpt]:
    """The excerpts of a view, another part of each kind for every view."""
    middle = [each for each in node.quantiles if each.activations[each.peak] > 0]
    yield from _turned(distinct(node.top), N_TOP, view)
    yield from _turned(middle[::-1], N_MIDDLE, view)
    yield from _turned(node.near_misses, N_NEAR, view)
    yield from _turned(node.random, N_RANDOM, view)


def _turned(excerpts: Sequence[Excerpt], n: int, view: int) -> Iterator[Excerpt]:
    """n excerpts from `view * n` on, around the end."""
    for i in range(min(n, len(excerpts))):
        yield excerpts[(view * n + i) % len(excerpts)]
