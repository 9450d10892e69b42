"""Exact simulation, all tokens at once (Bills et al. 2023): the labeler reads label and text and
rates every token from 0 to 9.

The simulated activation of a token is the expected digit under the ten digit logits behind it (all
ten are exact, see `llm.digits`). The text to be rated is plain and holds no digits, which costs a
third of `token<TAB>digit` lines. On hand-made concept sentences (label once, before the first text)
the untuned 135M labeler had a contrast score of 0.14 with plain text, and of 0.04 with digit lines
of placeholder zeros.

Many excerpts are packed behind the rated texts, up to the model's length. The label stands before
each excerpt. With the label before the first one only, its influence (the spread of the contrast
between labels) falls from 0.17 on the first excerpt to 0.03 on the third. The packing depends on
the texts and on the label's own length only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from interp_by_construction.corpus.parts import Part
from interp_by_construction.llm.client import Labeler
from interp_by_construction.simulators.base import TEXT, Models, Simulation, Simulator
from interp_by_construction.simulators.prompt import SHOTS, Packing, PromptBuilder, Shots

REFERENCE_LABELS = (
    "punctuation",
    "the word the",
    "names of people",
    "verbs",
    "nouns",
    "adjectives",
    "numbers",
    "words about places",
    "common words",
    "the start of a sentence",
    "the end of a sentence",
    "words about time",
    "speech and dialogue",
    "pronouns",
    "prepositions",
    "things in nature",
)
"""Fixed and general: their mean simulation is what the labeler answers whatever the label (the
contrast)."""

BATCH = 256
"""Prompts that are held in memory at once."""


class ExactSimulator(Simulator):
    """The labeler itself."""

    name = "exact"
    is_exact = True
    exact_parts: ClassVar[tuple[Part, ...]] = ("score", "align")
    settings: ClassVar[tuple[str, ...]] = ("contrast",)

    @property
    def target_name(self) -> str:
        return self.score_name

    @property
    def score_name(self) -> str:
        return "exact-contrast" if self.cfg.contrast else "exact"

    def self_judged(self, labeler: str) -> bool:
        return True

    def open(self, models: Models) -> Callable[[Sequence[str]], Simulation]:
        labeler = models.labeler()
        return lambda labels: _ExactSimulation(labeler, labels, self.cfg.contrast)

    def cut(self, tokens: Sequence[str], models: Models) -> list[Sequence[str]]:
        """Pieces of at most `TEXT` tokens, fewer where they take more than half of the labeler's
        context."""
        labeler = models.labeler()
        builder = PromptBuilder(labeler.tokenizer, labeler.digits)
        room = labeler.cfg.max_model_len
        pieces, start = [], 0
        while start < len(tokens):
            length = TEXT
            while (
                length > 1 and 2 * len(builder.excerpt(tokens[start : start + length]).ids) > room
            ):
                length //= 2
            pieces.append(tokens[start : start + length])
            start += length
        return pieces


class _ExactSimulation(Simulation):
    def __init__(self, labeler: Labeler, labels: Sequence[str], contrast: bool) -> None:
        self._labeler, self._labels, self._contrast = labeler, labels, contrast

    def __call__(self, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        if self._contrast:
            return simulate_raw(self._labeler, self._labels, texts, "simulate exactly").contrasted()
        return simulate_packed(self._labeler, self._labels, texts, "simulate exactly")


class Raw(NamedTuple):
    """An exact simulation, uncorrected."""

    values: NDArray[np.float32]
    """[token, label]"""
    reference: NDArray[np.float32]
    """Mean over the reference labels, [token]."""

    def contrasted(self, contrast: bool = True) -> NDArray[np.float32]:
        """Without what the labeler answers whatever the label, [token, label]."""
        return contrasted(self.values, self.reference, contrast)


def simulate_raw(
    labeler: Labeler,
    labels: Sequence[str],
    excerpts: Sequence[Sequence[str]],
    description: str,
    shots: Shots = SHOTS,
) -> Raw:
    """As `simulate_packed`, beside the reference labels on the same excerpts."""
    every = simulate_packed(labeler, [*labels, *REFERENCE_LABELS], excerpts, description, shots)
    return Raw(every[:, : len(labels)], every[:, len(labels) :].mean(axis=1))


def plan(
    labeler: Labeler,
    labels: Sequence[str],
    excerpts: Sequence[Sequence[str]],
    shots: Shots = SHOTS,
    allow_empty: bool = False,
) -> Packing:
    """The prompts of `simulate_packed`. Raises LabelerError for labels and excerpts that cannot be
    simulated."""
    # A labeler that was trained to simulate reads one text a prompt, without rated ones.
    shots = () if labeler.tuned else shots
    builder = PromptBuilder(labeler.tokenizer, labeler.digits, shots, allow_empty)
    return Packing(builder, labels, excerpts, labeler.cfg.max_model_len, alone=labeler.tuned)


def simulate_packed(
    labeler: Labeler,
    labels: Sequence[str],
    excerpts: Sequence[Sequence[str]],
    description: str,
    shots: Shots = SHOTS,
    allow_empty: bool = False,
) -> NDArray[np.float32]:
    """Exact simulations, uncorrected: [token, label], tokens of all excerpts in order, values from
    0 to 9.

    A column depends on its label and on the texts, not on the other labels. With `allow_empty` an
    empty label gives a prompt without one, a baseline. Raises LabelerError if a label is empty or
    too long, or if an excerpt does not fit into the model's length behind it.
    """
    packing = plan(labeler, labels, excerpts, shots, allow_empty)
    simulated = np.empty((packing.n_tokens, len(labels)), dtype=np.float32)
    every = packing.prompts()
    while prompts := list(islice(every, BATCH)):
        logits = labeler.digit_logits([prompt.ids for prompt in prompts], description=description)
        for prompt, rows in zip(prompts, logits, strict=True):
            stop = prompt.start + len(prompt.reads)
            simulated[prompt.start : stop, prompt.label] = expected_digit(rows[prompt.reads])
    return simulated


def contrasted(
    simulated: NDArray[Any], reference: NDArray[Any], contrast: bool = True
) -> NDArray[Any]:
    """simulated: [token, label]; reference: mean over `REFERENCE_LABELS`, [token]."""
    return simulated - reference[:, None] if contrast else simulated


def expected_digit(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """logits: [token, 10] -> expected digit [token], between 0 and 9."""
    return np.einsum("td,d->t", softmax(logits, axis=1), np.arange(10, dtype=np.float32))
