"""Exact simulation, all tokens at once (Bills et al. 2023): the labeler reads label and text and rates every token from 0 to 9.

The prompt shows a few rated texts, digits behind their words, then the label and the bare text. The simulated activation of a
token is the expected digit under the ten digit logits at the token's last labeler token (all ten are exact, see `labeler.client`).
Leaving the digits out of the text to be rated costs a third of `token<TAB>digit` lines and keeps it natural: on hand-made concept
sentences (label once, before the first text) the untuned 135M labeler had a contrast score of 0.14 with it, of 0.04 with digit
lines of placeholder zeros.

Many excerpts are packed behind the rated texts, to the model's length, and the label stands before each: when it stood before the
first only, its influence (the spread of the contrast between labels) fell from 0.17 on the first excerpt to 0.03 on the third.
The packing depends on the texts and on the longest label only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.errors import LabelerError

if TYPE_CHECKING:
    from interp_by_construction.labeler.client import Labeler

REFERENCE_LABELS = (
    "punctuation", "the word the", "names of people", "verbs", "nouns", "adjectives", "numbers", "words about places",
    "common words", "the start of a sentence", "the end of a sentence", "words about time", "speech and dialogue", "pronouns",
    "prepositions", "things in nature",
)  # fmt: skip
"""Fixed and general: their mean simulation is what the labeler answers whatever the label (the contrast)."""

HEAD = "Rate how strongly each word of a text matches a label, from 0 to 9.\n"

SHOTS = (
    ("fruits", "I ate an apple and a ripe banana at the table", "00090008000"),
    ("water", "The river flows to the sea under the bridge", "095009002"),
    ("numbers", "She bought two pens and seven books in one day", "0090090090"),
    ("talking", "He said hello and she shouted a reply to him", "0940090800"),
)
"""Label, text, and one digit per word."""


class PromptBuilder:
    """Labeler token ids of the simulation prompt; encodes every string once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self.shots = self.encode(HEAD)
        for label, text, digits in SHOTS:
            self.shots = self.shots + self.label(label)
            for word, digit in zip(text.split(), digits, strict=True):
                self.shots = self.shots + self.encode(f" {word}") + self.encode(digit)
            self.shots = self.shots + self.encode("\n")

    def encode(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._tokenizer.encode(text, add_special_tokens=False)
        return self._known[text]

    def label(self, label: str) -> list[int]:
        return self.encode("\nLabel: ") + self.encode(" ".join(label.split())) + self.encode("\nText:")

    def excerpt(self, tokens: Sequence[str]) -> tuple[list[int], list[int]]:
        """Labeler ids of an excerpt and, for each subject token, the index of its last id (-1: before the first)."""
        ids: list[int] = []
        ends: list[int] = []
        for token in tokens:
            # Line breaks would end the text; a token that shows nothing takes the rating of the one before it.
            ids += self.encode(token.replace("\n", " "))
            ends.append(len(ids) - 1)
        return ids + self.encode("\n"), ends


def simulate_packed(
    labeler: Labeler, labels: Sequence[str], excerpts: Sequence[Sequence[str]], description: str, allow_empty: bool = False
) -> NDArray[np.float32]:
    """Exact simulations, uncorrected: [token, label], tokens of all excerpts in order, values from 0 to 9.

    allow_empty: an empty label gives a prompt without one, a baseline.

    Raises LabelerError if a label is empty or an excerpt does not fit into the model's length behind the longest label.
    """
    builder = PromptBuilder(labeler.tokenizer)
    for label in labels:
        if not label.strip() and not allow_empty:
            raise LabelerError("an empty label cannot be simulated")
    encoded = [builder.excerpt(excerpt) for excerpt in excerpts]
    headings = [builder.label(label) for label in labels]
    room = labeler.cfg.max_model_len - len(builder.shots) - 1
    packs = _pack([len(ids) + max(map(len, headings)) for ids, _ in encoded], room)
    prompts: list[list[int]] = []
    reads: list[list[int]] = []
    for heading in headings:
        for pack in packs:
            ids, positions = list(builder.shots), []
            for index in pack:
                ids += heading
                excerpt_ids, ends = encoded[index]
                positions += [len(ids) + end for end in ends]
                ids += excerpt_ids
            prompts.append(ids)
            reads.append(positions)
    logits = labeler.digit_logits(prompts, description=description)
    rated = [expected_digit(rows[read]) for rows, read in zip(logits, reads, strict=True)]
    columns = [np.concatenate(rated[start : start + len(packs)]) for start in range(0, len(rated), len(packs))]
    return np.stack(columns, axis=1)


def simulate_one(labeler: Labeler, label: str, tokens: Sequence[str], contrast: bool = True) -> list[float]:
    """Simulated activations of one text, one per token, depending on nothing but label and text. Long texts are cut into chunks."""
    if not tokens:
        return []
    labels = [label, *(REFERENCE_LABELS if contrast else ())]
    chunks = [tokens[start : start + 256] for start in range(0, len(tokens), 256)]
    simulated = simulate_packed(labeler, labels, chunks, label[:40])
    values = simulated[:, 0] - (simulated[:, 1:].mean(axis=1) if contrast else 0.0)
    return [float(value) for value in values]


def expected_digit(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """logits: [token, 10] -> expected digit [token], between 0 and 9."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights = shifted / shifted.sum(axis=1, keepdims=True)
    expected: NDArray[np.float32] = np.einsum("td,d->t", weights, np.arange(10, dtype=np.float32))
    return expected


def _pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Indices of consecutive excerpts that fit into `room` labeler tokens together."""
    packs: list[list[int]] = []
    used = room + 1
    for index, length in enumerate(lengths):
        if length > room:
            raise LabelerError(
                f"an excerpt of {length} labeler tokens does not fit into labeler.max_model_len behind its label "
                f"({room} tokens are left): raise labeler.max_model_len or lower simulate.excerpt_tokens"
            )
        if used + length > room:
            packs.append([])
            used = 0
        packs[-1].append(index)
        used += length
    return packs
