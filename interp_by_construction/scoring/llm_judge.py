"""A language model as judge of detection and fuzzing, read through its digit logits: nothing has to
be parsed.

The prompt shows solved questions, then one to be solved. The judge's answer is the logit of the
digit 1 minus that of the digit 0 where the digit would follow. Higher than 0 means p(1) > 0.5.
Several questions with one label may share a prompt (`scores.questions_per_prompt`). Their answers
are left out, so that none gives away another.

The form was chosen for the 135M labeler on half of the known-truth concept neurons in tests/ (18),
by the AUC of detection per neuron:

- Four solved questions, every text with two labels: 0.79 (with a false label 0.48). Two such: 0.70,
  six: 0.60, eight: 0.65.
- Two questions per prompt: 0.66, eight: 0.49. Other wordings: 0.37 to 0.64.
- Fuzzing: 0.57 where the marked words are repeated behind the text, 0.46 where they are not.

On the other half: detection 0.61 (false label 0.37), fuzzing 0.49 (0.43). On 15 aligned nodes of
the demo's layer 1 the AUC was at chance in both (0.52 and 0.55, shuffled 0.48 and 0.53). That of
the head was 0.91 and 0.98 on 64 nodes. A labeler of this size is no judge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.beginning import beginning
from interp_by_construction.llm.client import Labeler
from interp_by_construction.scoring.detection import Task

OWN_THRESHOLD = 0.0
"""Logit of p(1) = 0.5, the rule of Paulo et al. 2024."""


class Question(NamedTuple):
    """What the judge sees."""

    task: Task
    label: str
    text: str
    """Marked with << >> for fuzzing."""


class _Prompt(NamedTuple):
    question: str
    """With {text}, {marked} and {label}; the digit follows."""
    solved: tuple[tuple[str, str, int], ...]
    """Text, label, answer. Nothing but the label (fuzzing: the marks) explains the answer."""


PROMPTS: dict[Task, _Prompt] = {
    "detection": _Prompt(
        "\nSentence: {text}\nMentions {label}:",
        (
            ("I ate an apple and a ripe banana", "fruits", 1),
            ("I ate an apple and a ripe banana", "water", 0),
            ("They drove home in the old red car", "clothes", 0),
            ("They drove home in the old red car", "colors", 1),
        ),
    ),
    "fuzzing": _Prompt(
        "\nSentence: {text}\nMarked: {marked}\nMentions {label}:",
        (
            ("I ate an <<apple>> and a ripe <<banana>>", "fruits", 1),
            ("I <<ate>> an apple <<and>> a ripe banana", "fruits", 0),
            ("They <<drove>> home in the old red car", "colors", 0),
            ("They drove home in the old <<red>> car", "colors", 1),
        ),
    ),
}


SHORT: dict[Task, str] = {
    "detection": "\nLabel: {label}\nText: {text}\nFits:",
    "fuzzing": "\nLabel: {label}\nText: {text}\nFits where marked:",
}
"""Of a labeler that was trained to answer: without solved questions."""


def excerpt_text(tokens: Sequence[str], marked: Sequence[bool] | None = None) -> str:
    """The excerpt on one line; runs of marked tokens stand between << and >>. Such signs of the
    text itself are taken out."""
    pieces = []
    flags = [*(marked or [False] * len(tokens)), False]
    for i, token in enumerate(tokens):
        word = token.replace("<<", "<").replace(">>", ">")
        if flags[i] and (i == 0 or not flags[i - 1]):
            stripped = word.lstrip()
            word = word[: len(word) - len(stripped)] + "<<" + stripped
        pieces.append(word + ">>" if flags[i] and not flags[i + 1] else word)
    return " ".join("".join(pieces).split())


def ask(
    labeler: Labeler, questions: Sequence[Question], per_prompt: int, description: str
) -> NDArray[np.float32]:
    """Logit of yes for each question, [question]. Equal questions are asked once.

    Up to `per_prompt` questions with the same task and label share a prompt. They keep their order:
    shuffle them before.

    Raises:
        LabelerError: a label is empty, or a question is longer than the judge's context.
    """
    prompts: list[list[int]] = []
    place: dict[Question, tuple[int, int]] = {}
    grouped: dict[tuple[Task, str], list[Question]] = {}
    for question in dict.fromkeys(questions):
        grouped.setdefault((question.task, question.label), []).append(question)
    per_prompt = 1 if labeler.tuned else per_prompt
    prefixes = {task: _prefix(labeler, task) for task in PROMPTS}
    for (task, label), own in grouped.items():
        if not label.strip():
            raise LabelerError("an empty label cannot be judged")
        room = 0
        for question in own:
            ids = _encode(labeler, _question(_form(labeler, task), label, question.text))
            if len(prefixes[task]) + len(ids) + 1 > labeler.cfg.max_model_len:
                raise LabelerError(
                    f"a question of {len(ids)} tokens about the label {label[:40]!r} does not fit into max_model_len="
                    f"{labeler.cfg.max_model_len} of {labeler.cfg.model}: raise it, or lower scores.window"
                )
            if room == 0 or len(prompts[-1]) + len(ids) + 1 > labeler.cfg.max_model_len:
                prompts.append(list(prefixes[task]))
                room = per_prompt
            prompts[-1] += ids
            place[question] = (len(prompts) - 1, len(prompts[-1]) - 1)
            prompts[-1] += _encode(labeler, "\n")
            room -= 1
    logits = labeler.digit_logits(prompts, description=description) if prompts else []
    yes = {
        question: logits[prompt][position, 1] - logits[prompt][position, 0]
        for question, (prompt, position) in place.items()
    }
    return np.array([yes[question] for question in questions], dtype=np.float32)


def _prefix(labeler: Labeler, task: Task) -> list[int]:
    form = _form(labeler, task)
    examples = () if labeler.tuned else PROMPTS[task].solved
    solved = (f"{_question(form, label, text)}{answer}\n" for text, label, answer in examples)
    return [*beginning(labeler.tokenizer), *_encode(labeler, "".join(solved))]


def _form(labeler: Labeler, task: Task) -> str:
    """A question, with {text}, {marked} and {label}; the digit follows."""
    return SHORT[task] if labeler.tuned else PROMPTS[task].question


def _question(form: str, label: str, text: str) -> str:
    marked = ", ".join(re.findall(r"<<(.*?)>>", text))
    # One pass, so that braces in label or text, which are untrusted, stay what they are.
    values = {"{text}": text, "{label}": " ".join(label.split()), "{marked}": marked}
    return re.sub("|".join(values), lambda match: values[match[0]], form)


def _encode(labeler: Labeler, text: str) -> list[int]:
    ids: list[int] = labeler.tokenizer.encode(text, add_special_tokens=False)
    return ids
