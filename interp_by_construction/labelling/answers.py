"""The strict reading of the labeler's answers: a label, or the reason why there is none."""

from __future__ import annotations

import json
import re
from typing import Any, Literal, NamedTuple

MAX_CHARS = 80
ANSWER_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "label",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"label": {"type": "string"}},
            "required": ["label"],
            "additionalProperties": False,
        },
    },
}
"""`response_format` of the OpenAI-compatible API: an answer is `{"label": ...}`."""
ANSWER_TOKENS = 16
"""Tokens that this format adds to a label."""
QUOTES = "\"'"
PLAIN_QUOTES = str.maketrans("“”‘’`", "\"\"'''")

Unreadable = Literal["empty", "refusal", "too long", "no letters", "format remains", "repeated"]
"""Why an answer is no label. `repeated`: the sampler repeats one word, as in `the the the`."""
_REFUSALS = re.compile(
    r"^(i\b|i'm\b|sorry|as an ai|unknown|unclear|none|n/?a|null|nothing|label|answer|example|explanation"
    r"|placeholder|todo)\s*[.:!?]*$"
    r"|could not be parsed|cannot (determine|be determined|find|tell)|can't (determine|find|tell)"
    r"|not (possible|enough|clear)"
    r"|language model|as an ai|i'm sorry|i am sorry|i cannot|i can't|no (common|clear) (pattern|theme)|your label",
    re.IGNORECASE,
)


class Reading(NamedTuple):
    """What an answer of the labeler says."""

    label: str | None
    reason: Unreadable | None
    """None if there is a label."""
    structured: bool
    """Whether the answer is the JSON object of `ANSWER_FORMAT`."""


def read_answer(text: str) -> Reading:
    """The label in an answer, or the reason why there is none.

    Takes the `label` of a JSON object, or else the first line. List marks, quotes, a leading
    `Label:` and a final stop are removed.
    """
    value = _json_label(text)
    structured = value is not None
    lines = (text if value is None else value).strip().splitlines()
    if not lines:
        return Reading(None, "empty", structured)
    # A model that goes on with the few-shot pattern ` = ...` has said its label before.
    label = re.split(r"\s=", lines[0])[0]
    label = re.sub(r"^(?:[-*•>\s]+|\d+[.)]\s+)", "", label)
    label = re.sub(r"^(?:label|answer|explanation)\s*:\s*", "", label, flags=re.IGNORECASE)
    label = unquoted(" ".join(label.strip().strip("*_").strip().split()))
    label = unquoted(label.rstrip(".;:,").strip("*_"))
    reason = _unreadable(label)
    return Reading(label if reason is None else None, reason, structured)


def unquoted(label: str) -> str:
    """A label without the quotation marks around it, or a mark that is not closed. Those around a
    word of it stay, as in `the word 'to'`."""
    while label:
        plain = label.translate(PLAIN_QUOTES)
        first, last = plain[0], plain[-1]
        if first in QUOTES and first == last and first not in plain[1:-1]:
            label = label[1:-1].strip()
        elif first in QUOTES and first not in plain[1:]:
            label = label[1:].strip()
        elif last in QUOTES and last not in plain[:-1]:
            label = label[:-1].strip()
        else:
            break
    return label


def _unreadable(label: str) -> Unreadable | None:
    if not re.search(r"[^\W\d_]", label):
        return "no letters"
    if len(label) > MAX_CHARS:
        return "too long"
    if _REFUSALS.search(label):
        return "refusal"
    if re.search(
        r"[|=\[\]<>{}�]|\b(?:text|not|was|missing|words):|Labels other than|Reads from:", label
    ):
        return "format remains"
    words = label.lower().split()
    return "repeated" if len(words) > 2 and len(set(words)) == 1 else None


def _json_label(text: str) -> str | None:
    """The label of an answer in `ANSWER_FORMAT`, fenced or not; None if it is something else."""
    body = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip())
    if not body.startswith("{"):
        return None
    try:
        value = json.loads(body)
    except ValueError:
        return None
    label = value.get("label")
    return label if isinstance(label, str) else None
