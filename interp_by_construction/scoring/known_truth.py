"""Benchmark of simulators on hand-written concept neurons: label and activations are known, so only
the simulator can be wrong.

1. Every neuron is simulated twice on its own sentences: from its true label and from a plausible
   false one.
2. Both simulations are scored with Pearson's r, pooled over the tokens of the neuron's sentences.
3. A simulator that understands labels scores the true label high, and above the false one.

An undefined r (of a constant simulation) counts as 0 in the means, so that a simulator cannot gain
by answering with a constant. It is also counted beside them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from interp_by_construction.errors import CorpusError
from interp_by_construction.stats.correlation import simulation_score
from interp_by_construction.stats.undefined import or_none

KINDS = ("lexical", "contextual")
MAX_ACTIVATION = 10

Simulate = Callable[[list[tuple[str, list[str]]]], list[list[float]]]
"""(label, tokens) of every text -> one value per token of every text, in order."""


class Sentence(NamedTuple):
    """One text of a neuron; the activation on a token depends on the token and on what precedes
    it."""

    tokens: list[str]
    """Words with their leading space, punctuation separate; joined they are the text."""
    activations: list[int]
    """0 to 10, one per token."""


@dataclass(frozen=True)
class KnownNeuron:
    """A concept neuron written by hand."""

    name: str
    kind: str
    """lexical: the token itself decides; contextual: the same token is active in one context and
    not in another."""
    label: str
    """What it stands for."""
    false_label: str
    """What it might be taken for; its words are among the near misses."""
    sentences: tuple[Sentence, ...]


class Scores(NamedTuple):
    """Pearson's r of one neuron with both simulations, NaN where undefined."""

    true: float
    false: float


def read_known_truth(path: str | Path) -> list[KnownNeuron]:
    """The neurons of a JSON-lines file, in order. Raises CorpusError naming file and line for
    whatever is malformed."""
    file = Path(path)
    if not file.is_file():
        raise CorpusError(f"known truth {file}: no such file")
    neurons = []
    # Not splitlines: JSON may hold line separators of Unicode as they are.
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            try:
                neurons.append(_neuron(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise CorpusError(
                    f"known truth {file}, line {number}: {type(error).__name__}: {error}"
                ) from error
    return neurons


def evaluate_simulator(neurons: Sequence[KnownNeuron], simulate: Simulate) -> dict[str, Any]:
    """Means over all neurons and per kind: {n, r_true, r_false, share_true_above_false,
    n_undefined_true, n_undefined_false}.

    `per_kind` holds the same for each kind that occurs, `per_neuron` name -> {kind, r_true,
    r_false} with null where undefined. `simulate` is called once with every text under both labels.
    Raises ValueError if it returns another number of values, or if there are no neurons.
    """
    if not neurons:
        raise ValueError("there are no neurons to evaluate on")
    scores = _scores(neurons, simulate)
    kinds = {
        kind: [s for n, s in zip(neurons, scores, strict=True) if n.kind == kind] for kind in KINDS
    }
    return {
        **_summary(scores),
        "per_kind": {kind: _summary(own) for kind, own in kinds.items() if own},
        "per_neuron": {
            neuron.name: {
                "kind": neuron.kind,
                "r_true": or_none(score.true),
                "r_false": or_none(score.false),
            }
            for neuron, score in zip(neurons, scores, strict=True)
        },
    }


def _scores(neurons: Sequence[KnownNeuron], simulate: Simulate) -> list[Scores]:
    requests = [
        (label, list(sentence.tokens))
        for neuron in neurons
        for label in (neuron.label, neuron.false_label)
        for sentence in neuron.sentences
    ]
    answers = simulate(requests)
    if [len(answer) for answer in answers] != [len(tokens) for _, tokens in requests]:
        raise ValueError("the simulator must return one value per token of every text, in order")
    remaining = iter(answers)
    scores = []
    for neuron in neurons:
        real = [value for sentence in neuron.sentences for value in sentence.activations]
        true, false = (
            [value for _ in neuron.sentences for value in next(remaining)] for _ in range(2)
        )
        scores.append(Scores(simulation_score(real, true), simulation_score(real, false)))
    return scores


def _summary(scores: Sequence[Scores]) -> dict[str, Any]:
    true, false = (
        [0.0 if math.isnan(score[i]) else score[i] for score in scores] for i in range(2)
    )
    # An undefined simulation beats nothing.
    n_above = sum(
        not math.isnan(score.true) and t > f
        for score, t, f in zip(scores, true, false, strict=True)
    )
    return {
        "n": len(scores),
        "r_true": sum(true) / len(scores),
        "r_false": sum(false) / len(scores),
        "share_true_above_false": n_above / len(scores),
        "n_undefined_true": sum(math.isnan(score.true) for score in scores),
        "n_undefined_false": sum(math.isnan(score.false) for score in scores),
    }


def _neuron(record: dict[str, Any]) -> KnownNeuron:
    """Raises KeyError, TypeError or ValueError for a record that is not a neuron."""
    sentences = tuple(
        Sentence(list(each["tokens"]), list(each["activations"])) for each in record["sentences"]
    )
    texts = {key: record[key] for key in ("name", "kind", "label", "false_label")}
    if wrong := [
        key for key, value in texts.items() if not isinstance(value, str) or not value.strip()
    ]:
        raise ValueError(f"{wrong[0]} must be a text that is not empty")
    if texts["kind"] not in KINDS:
        raise ValueError(f"kind={texts['kind']}: give one of {', '.join(KINDS)}")
    for tokens, activations in sentences:
        if len(tokens) != len(activations):
            raise ValueError(
                f"{len(tokens)} tokens and {len(activations)} activations in one sentence"
            )
        if not all(isinstance(token, str) for token in tokens):
            raise ValueError("tokens must be texts")
        if not all(type(value) is int and 0 <= value <= MAX_ACTIVATION for value in activations):
            raise ValueError(f"activations must be whole numbers from 0 to {MAX_ACTIVATION}")
    values = [value for _, activations in sentences for value in activations]
    if len(set(values)) < 2:
        raise ValueError("activations are constant, so that no score is defined")
    return KnownNeuron(**texts, sentences=sentences)
