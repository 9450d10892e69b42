"""Prompts that ask for a node's label.

A prompt shows the node's strongest words, excerpts with the strongest word in brackets, near misses
(words that were expected to activate the node but do not), labels that are taken, and labels of the
strongest incoming nodes. Chat messages also show excerpts from the whole range of activations,
random text and incoming weights.

A small model follows a pattern better than an instruction. So `words_prompt` is a few-shot list
that ends where the label belongs, and `chat_prompt` asks an instruct model in words.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from interp_by_construction.corpus.words import UNSPACED, is_word
from interp_by_construction.subject.nodes import Excerpt, Node, shown_at

STOP = ("\n", " =")
"""Where a completion's label ends."""
CONTEXT_WORDS = 3
"""Words shown on each side of the peak in a completion prompt."""
SYSTEM = "You explain what a neuron of a language model responds to. You answer with one short, specific noun phrase."
QUESTION = "What do the activating words have in common? Answer with one short noun phrase (1 to 6 words) and nothing else."

Message = dict[str, str]
"""A message of a chat: its role and content."""


class _Shot(NamedTuple):
    """One solved example, or the question."""

    words: str
    text: str
    near: str
    label: str


_SHOTS = (
    _Shot("cat, dog, horse, sheep", "the big [dog] barked", "chair", "animals"),
    _Shot("went, took, said, came", "and she [took] the bag", "go", "verbs in the past tense"),
    _Shot("crimson, scarlet, ruby", "in a [scarlet] dress and", "blue", "shades of red"),
    _Shot("Monday, Friday, Sunday", "we met on [Friday] and", "June", "days of the week"),
    _Shot("mother, uncle, sister", "with my [uncle] at home", "friend", "family members"),
    _Shot("of, in, under, on", "it fell [under] the rug", "and", "prepositions"),
    _Shot("bread, cheese, soup", "he ate [soup] and slept", "plate", "food"),
    _Shot("Peter, Mary, Jack", "one day [Mary] found a", "girl", "first names"),
)


EXAMPLES = tuple(shot.label for shot in _SHOTS)
"""Labels that every prompt of `words_prompt` shows."""


def peak_word(excerpt: Excerpt) -> str:
    """The whole word around the peak token, which may be a piece of it; empty for white space."""
    start, end = _word_span(excerpt)
    return "".join(excerpt.tokens[start:end]).strip()


def top_words(node: Node, n_words: int) -> list[str]:
    """The words with the largest sum of activations over the top excerpts."""
    weights: defaultdict[str, float] = defaultdict(float)
    written: dict[str, str] = {}
    for excerpt in node.top:
        if word := peak_word(excerpt):
            written.setdefault(word.lower(), word)
            weights[word.lower()] += max(excerpt.activations[excerpt.peak], 0.0)
    return [written[word] for word in sorted(weights, key=lambda word: -weights[word])[:n_words]]


def near_miss_words(node: Node, n_words: int) -> list[str]:
    """Words of the near misses that are not among the words of the top excerpts."""
    top = {peak_word(excerpt).lower() for excerpt in node.top}
    words = dict.fromkeys(peak_word(excerpt) for excerpt in node.near_misses)
    return [word for word in words if word and word.lower() not in top][:n_words]


def context(excerpt: Excerpt, n_words: int | None = None, n_behind: int | None = None) -> str:
    """The excerpt with the peak's word in brackets and `n_words` words on each side (None: all), or
    `n_behind` behind it."""
    start, end = _word_span(excerpt)
    before = "".join(excerpt.tokens[:start]).split()
    after = "".join(excerpt.tokens[end:]).split()
    if n_words is not None:
        before, after = before[-n_words:], after[: n_words if n_behind is None else n_behind]
    return clean(" ".join([*before, f"[{peak_word(excerpt)}]", *after]))


def words_prompt(
    node: Node,
    n_words: int,
    n_contexts: int,
    incoming: Sequence[tuple[str, float]] = (),
    avoid: Sequence[str] = (),
) -> str:
    """A few-shot prompt, which the model continues with the label and a line break.

    incoming: (label, weight) of the strongest incoming nodes; those with positive weight are shown.
    avoid: labels that other nodes of the layer have.
    """
    inputs = [label for label, weight in incoming if weight > 0]
    contexts = [context(excerpt, CONTEXT_WORDS) for excerpt in distinct(node.top)[:n_contexts]]
    question = _Shot(
        words=clean(", ".join(top_words(node, n_words))),
        text=clean("; ".join(contexts)),
        near=clean(", ".join(near_miss_words(node, 3))),
        label="",
    )
    # These stand above the examples, since a small model repeats a label of the line that it has to
    # finish: a 135M labeler then gave the same label to twelve different lists of words.
    notes = (("Labels other than", avoid), ("Reads from", inputs))
    header = [f"{title}: {clean(', '.join(labels))}" for title, labels in notes if labels]
    return "\n".join([*header, *(_line(shot, question) for shot in (*_SHOTS, question))]).rstrip()


def worked_examples() -> str:
    """What every prompt of `words_prompt` holds beside its question, in its longest form."""
    return "\n".join(_line(shot, shot) for shot in _SHOTS)


def _line(shot: _Shot, question: _Shot) -> str:
    """`text: ... | not: ... | words = label`, with the clauses that `question` has.

    So all lines of a prompt have one form.
    """
    text = [f"text: {shot.text}"] if question.text else []
    near = [f"not: {shot.near}"] if question.near else []
    return f"{' | '.join([*text, *near, shot.words])} = {shot.label}"


def chat_prompt(
    node: Node,
    n_words: int,
    n_contexts: int,
    incoming: Sequence[tuple[str, float]] = (),
    avoid: Sequence[str] = (),
) -> list[Message]:
    """Messages that ask an instruct model for the label; arguments as for `words_prompt`."""
    return messages([*describe(node, n_words, n_contexts, incoming, avoid), "", QUESTION])


def messages(lines: Sequence[str]) -> list[Message]:
    """The system message, and a user message of some lines."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join(lines)}]


def describe(
    node: Node,
    n_words: int,
    n_contexts: int,
    incoming: Sequence[tuple[str, float]] = (),
    avoid: Sequence[str] = (),
) -> list[str]:
    """Lines of a chat message with all that is known about the node."""
    strongest = max((excerpt.activations[excerpt.peak] for excerpt in node.top), default=0.0)
    bands = node.quantiles[:: -max(1, len(node.quantiles) // max(n_contexts, 1))][:n_contexts]
    sections: dict[str, Iterable[str]] = {
        "In context (the activating word in brackets)": map(
            context, distinct(node.top)[:n_contexts]
        ),
        "Over its whole range (activation of the bracketed word, 0 to 10)": (
            _rated(excerpt, strongest) for excerpt in bands
        ),
        "The bracketed word does NOT activate it here": map(context, node.near_misses[:n_contexts]),
        "Random text (activation of the bracketed word, 0 to 10)": (
            _rated(excerpt, strongest) for excerpt in node.random[:n_contexts]
        ),
        "Reads from neurons labelled (weight)": (
            f"{label} ({weight:+.2g})" for label, weight in incoming
        ),
        "Labels that are taken; say what sets this neuron apart from them": avoid,
    }
    words = ", ".join(top_words(node, n_words))
    return [
        f"Words that activate the neuron most: {words}",
        *(line for title, values in sections.items() for line in section(title, values)),
    ]


def section(title: str, values: Iterable[str]) -> list[str]:
    """Lines of a list with a title; no lines without values."""
    items = [f"- {value}" for value in values]
    return ["", f"{title}:", *items] if items else []


def _rated(excerpt: Excerpt, strongest: float) -> str:
    """The excerpt and the activation at its peak, where 10 is the node's strongest."""
    rating = 10 * excerpt.activations[excerpt.peak] / strongest if strongest > 0 else 0.0
    return f"{context(excerpt)} ({min(max(round(rating), 0), 10)})"


def _word_span(excerpt: Excerpt) -> tuple[int, int]:
    """First and one-past-last token of the word that holds the peak."""
    tokens, start = excerpt.tokens, excerpt.peak
    end = shown_at(tokens, start) + 1
    if not _is_word(tokens[end - 1]):
        return start, end
    if tokens[start]:
        while start > 0 and _joined(tokens[start - 1], tokens[start]):
            start -= 1
    while end < len(tokens) and _joined(tokens[end - 1], tokens[end]):
        end += 1
    return start, end


def _joined(left: str, right: str) -> bool:
    """Whether two neighbouring tokens are parts of one word. In scripts without spaces each token
    counts as a word, since nothing shows where a word ends."""
    if not _is_word(left) or not _is_word(right):
        return False
    spaced = left[-1].isspace() or right[0].isspace()
    return not spaced and not (UNSPACED.match(left[-1]) or UNSPACED.match(right[0]))


def _is_word(token: str) -> bool:
    return is_word(token.strip())


def distinct(excerpts: Sequence[Excerpt]) -> list[Excerpt]:
    """The first excerpt of each word, then the others."""
    first: list[Excerpt] = []
    rest: list[Excerpt] = []
    seen: set[str] = set()
    for excerpt in excerpts:
        word = peak_word(excerpt).lower()
        (rest if word in seen else first).append(excerpt)
        seen.add(word)
    return [*first, *rest]


def clean(text: str) -> str:
    """The text on one line without marks of the format, so that it cannot look like the prompt."""
    return " ".join(re.sub(r"[|=\n]", " ", text).split())
