"""Detection and fuzzing: two scores that need no simulation, only yes or no (Paulo et al. 2024, https://arxiv.org/abs/2410.13928).

detection   Is the label's concept present in this excerpt?   Truth: whether the node is active anywhere in it.
fuzzing     Is it the marked word that the label describes?   Truth: whether the node is active on the marked token.

    examples = detection_examples(tokens, activations, is_text)        # or fuzzing_examples
    prompts = [prompt(label, example) for example in examples]
    grade(examples, labeler.complete(prompts, max_tokens=MAX_TOKENS, temperature=0, seed=0, stop=STOP))

A token is active where the node exceeds the `quantile` of its own activations on the given text. That is invariant to scale and
offset, works for gated nodes, which are never exactly 0, and keeps to the positive side of sparse ReLUs. The text should be held
out from labelling, and the windows short: in a long one every node is active somewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STOP = ("\n",)
MAX_TOKENS = 4
"""Labeler tokens of an answer."""
MARKS = ("<<", ">>")
"""Stand around the token in question (fuzzing), as in Delphi."""


class Example(NamedTuple):
    """One question."""

    tokens: tuple[str, ...]
    """Decoded subject tokens of the window."""
    marked: int | None
    """Index of the token in question; None asks about the whole window (detection)."""
    truth: bool
    """The right answer."""


class Grade(NamedTuple):
    """How well a label answered."""

    balanced_accuracy: float | None
    """Mean of the accuracy on yes-examples and on no-examples, chance 0.5; None where either has no readable answer."""
    n_yes: int
    """Yes-examples with a readable answer."""
    n_no: int
    """No-examples with a readable answer."""
    n_failed: int
    """Answers that are neither yes nor no: part of no accuracy, and never counted as either."""


def detection_examples(
    tokens: Sequence[Sequence[str]], activations: NDArray, is_text: NDArray[np.bool_], n: int = 10, window: int = 16,
    quantile: float = 0.95,
) -> list[Example]:  # fmt: skip
    """Equally many windows in which the node is active and in which it is not: at most `n` of each, yes-examples first.

    Both are spread evenly over the range of their strongest activations, so weak activations and near misses are asked about too.
    Nothing is random. An empty list where there is none of either kind: the score of such a node is undefined.

    Args:
        tokens: decoded tokens, [excerpt][pos].
        activations: of one node, pole applied, [excerpt, pos].
        is_text: False for end-of-text tokens, which are neither shown nor counted, [excerpt, pos].
        n: examples of each kind.
        window: tokens of an example; excerpts are cut from their start, a shorter rest is dropped.
        quantile: of the node's activations on text; an active token exceeds it.

    Raises:
        ValueError: shapes differ, or an excerpt is shorter than `window`.
    """
    windows = _windows(tokens, activations, is_text, window, quantile)
    kinds = [[w for w in windows if w.active.any() == wanted] for wanted in (True, False)]
    n = min(n, *map(len, kinds))
    return [Example(w.tokens, None, bool(w.active.any())) for kind in kinds for w in _spread(kind, n)]


def fuzzing_examples(
    tokens: Sequence[Sequence[str]], activations: NDArray, is_text: NDArray[np.bool_], n: int = 10, window: int = 16,
    quantile: float = 0.95, seed: int = 0,
) -> list[Example]:  # fmt: skip
    """At most `n` windows in which the node is active, each asked twice: its strongest token marked (yes), an inactive one (no).

    The inactive token is drawn by `seed`, among words if the strongest is one and among other visible tokens if not: else whether
    a token is a word would answer the question. Windows without such a token are passed over. Arguments and errors otherwise as
    for `detection_examples`.
    """
    pairs: list[tuple[_Window, int, NDArray[np.int64]]] = []
    for w in _windows(tokens, activations, is_text, window, quantile):
        shown = np.array([bool(token.strip()) for token in w.tokens])
        if not (w.active & shown).any():
            continue
        strongest = int(np.where(w.active & shown, w.values, -np.inf).argmax())
        words = np.array([any(c.isalnum() for c in token) for token in w.tokens])
        others = np.flatnonzero(~w.active & shown & (words == words[strongest]))
        if len(others):
            pairs.append((w, strongest, others))
    rng = np.random.default_rng(seed)
    examples: list[Example] = []
    chosen = _spread([w for w, _, _ in pairs], min(n, len(pairs)))
    by_place = {w.place: (w, strongest, others) for w, strongest, others in pairs}
    for w, strongest, others in (by_place[w.place] for w in chosen):
        examples += [Example(w.tokens, strongest, True), Example(w.tokens, int(rng.choice(others)), False)]
    return examples


def prompt(label: str, example: Example) -> str:
    """Few-shot completion prompt; the model continues with yes or no."""
    fuzzing = example.marked is not None
    task = (
        "Is the marked word what the label describes? Answer yes or no."
        if fuzzing
        else "Does the text contain what the label describes? Answer yes or no."
    )
    lines = [task]
    for shot_label, text, answer in _FUZZING_SHOTS if fuzzing else _DETECTION_SHOTS:
        lines += ["", f"Label: {shot_label}", f"Text: {text}", f"Answer: {answer}"]
    return "\n".join([*lines, "", f"Label: {_one_line(label)}", f"Text: {_text(example)}", "Answer:"])


def parse_answer(text: str) -> bool | None:
    """Whether the first line says yes; None where it says neither, or both."""
    lines = text.strip().splitlines()
    said = set(re.findall(r"(?<![\w-])(?:yes|no)(?![\w-])", lines[0].lower())) if lines else set()
    # Anything before the answer is no answer: `The answer is no` may go on as `the answer is no longer ...`.
    if len(said) != 1 or not re.match(r"[\W_]*(?:yes|no)(?![\w-])", lines[0].lower()):
        return None
    return said == {"yes"}


def grade(examples: Sequence[Example], answers: Sequence[str]) -> Grade:
    """Balanced accuracy of the raw answers, one per example, in order.

    Raises:
        ValueError: not one answer per example.
    """
    if len(examples) != len(answers):
        raise ValueError(f"{len(answers)} answers to {len(examples)} examples")
    parsed = [parse_answer(answer) for answer in answers]
    right: dict[bool, list[bool]] = {True: [], False: []}
    for example, said in zip(examples, parsed, strict=True):
        if said is not None:
            right[example.truth].append(said == example.truth)
    return Grade(
        balanced_accuracy=sum(sum(kind) / len(kind) for kind in right.values()) / 2 if all(right.values()) else None,
        n_yes=len(right[True]),
        n_no=len(right[False]),
        n_failed=sum(said is None for said in parsed),
    )


_DETECTION_SHOTS = (
    ("animals", "She saw the big dog in the garden and laughed", "yes"),
    ("numbers", "He put on a warm coat and went out", "no"),
    ("weather", "In the morning the rain had stopped and it was cold", "yes"),
    ("food", "The old man opened the door of the house", "no"),
)
_FUZZING_SHOTS = (
    ("animals", "She saw the big <<dog>> in the garden and laughed", "yes"),
    ("animals", "She saw the big dog in the garden and <<laughed>>", "no"),
    ("weather", "In the morning the <<rain>> had stopped and it was cold", "yes"),
    ("weather", "In the <<morning>> the rain had stopped and it was cold", "no"),
)


class _Window(NamedTuple):
    place: int
    tokens: tuple[str, ...]
    values: NDArray[np.float64]
    active: NDArray[np.bool_]


def _windows(
    tokens: Sequence[Sequence[str]], activations: NDArray, is_text: NDArray[np.bool_], window: int, quantile: float
) -> list[_Window]:
    """Windows in text order, without end-of-text tokens; those that hold nothing else are left out."""
    values = np.asarray(activations, dtype=np.float64)
    if values.ndim != 2 or values.shape != is_text.shape or [len(row) for row in tokens] != [values.shape[1]] * len(values):
        raise ValueError(f"tokens, activations {values.shape} and is_text {is_text.shape} must all be [excerpt, pos]")
    if not 0 < window <= values.shape[1]:
        raise ValueError(f"window={window}: excerpts have {values.shape[1]} tokens")
    if not is_text.any():
        return []
    # `lower` is an activation that occurs: no rounding decides about ties.
    active = values > np.quantile(values[is_text], quantile, method="lower")
    found: list[_Window] = []
    for row in range(len(values)):
        for start in range(0, values.shape[1] - window + 1, window):
            use = start + np.flatnonzero(is_text[row, start : start + window])
            if len(use):
                found.append(_Window(len(found), tuple(_unmarked(tokens[row][i]) for i in use), values[row, use], active[row, use]))
    return found


def _spread(windows: Sequence[_Window], n: int) -> list[_Window]:
    """`n` of the windows, evenly spaced by their strongest activation, strongest first; ties by place."""
    order = sorted(windows, key=lambda w: (-w.values.max(), w.place))
    return [order[i] for i in np.linspace(0, len(order) - 1, n).round().astype(int)] if n else []


def _unmarked(token: str) -> str:
    """Corpus text cannot pose as a mark, nor be split into one across tokens."""
    return re.sub(r"[<>]", " ", token)


def _text(example: Example) -> str:
    tokens = list(example.tokens)
    if example.marked is not None:
        token = tokens[example.marked]
        inner = token.strip()
        # White space stays outside of the marks, where it separates words.
        head, tail = token[: len(token) - len(token.lstrip())], token[len(token.rstrip()) :]
        tokens[example.marked] = f"{head}{MARKS[0]}{inner}{MARKS[1]}{tail}"
    return _one_line("".join(tokens))


def _one_line(text: str) -> str:
    return " ".join(text.split())
