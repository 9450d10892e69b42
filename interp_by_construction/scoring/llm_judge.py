"""A language model as judge of detection and fuzzing, read through its digit logits: nothing has to be parsed.

The prompt shows solved questions, then some questions with one label; the judge's answer to each is the logit of the digit 1
minus that of the digit 0 at the position where the digit would follow. Answers are left out, as in exact simulation, so that no
question tells another's answer and many share one pass. Higher than 0 means p(1) > 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.errors import LabelerError
from interp_by_construction.scoring.detection import Task

if TYPE_CHECKING:
    from interp_by_construction.labeler.client import Labeler

OWN_THRESHOLD = 0.0
"""Logit of p(1) = 0.5, the rule of Paulo et al. 2024."""

PACK = 8
"""Questions per prompt at most: the further from the solved ones, the less a small model follows them."""


class Question(NamedTuple):
    """What the judge sees."""

    task: Task
    label: str
    text: str
    """Marked with << >> for fuzzing."""


class _Shots(NamedTuple):
    instruction: str
    ask: str
    solved: tuple[tuple[str, str, int], ...]


SHOTS: dict[Task, _Shots] = {
    "detection": _Shots(
        "Does the text contain what the label names? 1 for yes, 0 for no.\n",
        "Match",
        (
            ("fruits", "I ate an apple and a ripe banana", 1),
            ("water", "They drove home in the old red car", 0),
            ("numbers", "She bought two pens and seven books", 1),
            ("talking", "The cat slept under a tree", 0),
            ("clothes", "The sun was high over the hills", 0),
            ("prepositions", "He went into the house", 1),
        ),
    ),
    "fuzzing": _Shots(
        "Does the label name the words between << and >>? 1 for yes, 0 for no.\n",
        "Match",
        (
            ("fruits", "I ate an <<apple>> and a ripe <<banana>>", 1),
            ("water", "The <<river>> flows to the sea", 1),
            ("numbers", "She <<bought>> two pens and <<seven>> books", 0),
            ("talking", "He <<said>> hello to the cat", 1),
            ("clothes", "Her <<mother>> wore a red coat", 0),
            ("prepositions", "He went into the <<house>>", 0),
        ),
    ),
}


def excerpt_text(tokens: Sequence[str], marked: Sequence[bool] | None = None) -> str:
    """The excerpt on one line; runs of marked tokens stand between << and >>. Such signs of the text itself are taken out."""
    pieces = []
    flags = [False] * len(tokens) if marked is None else list(marked)
    for i, token in enumerate(tokens):
        word = token.replace("<<", "<").replace(">>", ">")
        if flags[i] and (i == 0 or not flags[i - 1]):
            stripped = word.lstrip()
            word = word[: len(word) - len(stripped)] + "<<" + stripped
        pieces.append(word + (">>" if flags[i] and (i + 1 == len(tokens) or not flags[i + 1]) else ""))
    return " ".join("".join(pieces).split())


def ask(labeler: Labeler, questions: Sequence[Question], description: str) -> NDArray[np.float32]:
    """Logit of yes for each question, [question]. Equal questions are asked once.

    Questions with the same task and label are asked behind one prefix, in the order given, so shuffle them.

    Raises:
        LabelerError: a label is empty, or a question is longer than the judge's context.
    """
    prompts: list[list[int]] = []
    place: dict[Question, tuple[int, int]] = {}
    grouped: dict[tuple[Task, str], list[Question]] = {}
    for question in dict.fromkeys(questions):
        grouped.setdefault((question.task, question.label), []).append(question)
    prefixes = {task: _prefix(labeler, task) for task in SHOTS}
    for (task, label), own in grouped.items():
        if not label.strip():
            raise LabelerError("an empty label cannot be judged")
        room = 0
        for question in own:
            ids = _encode(labeler, _question(task, label, question.text))
            if len(prefixes[task]) + len(ids) + 1 > labeler.cfg.max_model_len:
                raise LabelerError(
                    f"a question of {len(ids)} tokens about the label {label[:40]!r} does not fit into max_model_len="
                    f"{labeler.cfg.max_model_len} of {labeler.cfg.model}: raise it, or lower scores.window"
                )
            if room == 0 or len(prompts[-1]) + len(ids) + 1 > labeler.cfg.max_model_len:
                prompts.append(list(prefixes[task]))
                room = PACK
            prompts[-1] += ids
            place[question] = (len(prompts) - 1, len(prompts[-1]) - 1)
            prompts[-1] += _encode(labeler, "\n")
            room -= 1
    logits = labeler.digit_logits(prompts, description=description) if prompts else []
    yes = {question: logits[prompt][position, 1] - logits[prompt][position, 0] for question, (prompt, position) in place.items()}
    return np.array([yes[question] for question in questions], dtype=np.float32)


def _prefix(labeler: Labeler, task: Task) -> list[int]:
    shots = SHOTS[task]
    solved = "".join(f"{_question(task, label, text)}{answer}\n" for label, text, answer in shots.solved)
    return _encode(labeler, shots.instruction + solved)


def _question(task: Task, label: str, text: str) -> str:
    return f"\nLabel: {' '.join(label.split())}\nText: {text}\n{SHOTS[task].ask}:"


def _encode(labeler: Labeler, text: str) -> list[int]:
    ids: list[int] = labeler.tokenizer.encode(text, add_special_tokens=False)
    return ids
