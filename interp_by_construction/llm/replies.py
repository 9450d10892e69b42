"""From the reply of a server to an answer. A server may be broken or hostile: a reply that is not
exactly what was asked for is an error, and never an answer."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.backend import N_DIGITS, Answer, Job
from interp_by_construction.llm.http_call import Reply
from interp_by_construction.shown import excerpt

LEAST_BYTES, BYTES_PER_NUMBER = 4 * 2**20, 128
"""Size that any reply may have, and what each number that was asked for may add."""
LEAST_VALUES, VALUES_PER_NUMBER = 2**17, 8
"""The same in JSON values."""
CERTAINTY = 1e-3
"""Log-probability above which rounding explains nothing."""


class Silence(LabelerError):
    """A reply that holds no text. The same request may be answered when it is asked again."""


def read_json(reply: Reply, url: str, n_numbers: int = 0) -> dict[str, Any]:
    """The object that a reply holds. n_numbers: how many were asked for. Raises LabelerError for
    anything else, also for numbers that are infinite or no numbers, and for far more than was asked
    for."""
    _check_size(reply.body, url, n_numbers)
    try:
        body = json.loads(
            reply.body.decode("utf-8-sig"), parse_float=_finite, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise LabelerError(
            f"{url} gave an unexpected answer: no JSON ({reason}): {excerpt(reply.text)}"
        ) from error
    if not isinstance(body, dict):
        raise LabelerError(
            f"{url} gave an unexpected answer: no JSON object: {excerpt(reply.text)}"
        )
    return body


def _check_size(body: bytes, url: str, n_numbers: int) -> None:
    """JSON can take a hundred times its size once it is read, so this comes before."""
    n_values = body.count(b",") + body.count(b"[") + body.count(b"{")
    if (
        len(body) > LEAST_BYTES + BYTES_PER_NUMBER * n_numbers
        or n_values > LEAST_VALUES + VALUES_PER_NUMBER * n_numbers
    ):
        raise LabelerError(
            f"{url} gave an unexpected answer: {len(body):,} bytes with about {n_values:,} values, "
            "far more than was asked for: is it the right server?"
        )


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no finite number")


def answer_of(job: Job, reply: Reply, url: str, model: str) -> Answer:
    """Reads a successful reply. Raises LabelerError for one that is not what was asked for, or that
    another model has written, and Silence for one without a text."""
    body = read_json(reply, url, _n_numbers(job))
    said = body.get("model")
    if isinstance(said, str) and not is_same_model(model, said):
        raise LabelerError(
            f"{url} answered with the model {excerpt(said, 100)}, not with {model}: set the right model"
        )
    try:
        value: str | np.ndarray
        if job.kind == "digits":
            value = _logits(_only(body["data"])["data"], len(job.payload["prompt"]), url)
        elif job.kind == "digit_logprobs":
            value = _logprobs(body["choices"], job.payload, url)
        else:
            value = _text(job.kind, _only(body["choices"]), url)
        return Answer(value, _n_tokens(body.get("usage")))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise LabelerError(
            f"{url} gave an unexpected answer ({type(error).__name__}: {error}): {excerpt(reply.text)}"
        ) from error


def _n_numbers(job: Job) -> int:
    """One per position and digit, where numbers are asked for."""
    asked = job.kind in ("digits", "digit_logprobs")
    return N_DIGITS * (len(job.payload["prompt"]) + 1) if asked else 0


def is_same_model(asked: str, said: str) -> bool:
    """Whether `said` can be the full name of the model `asked`: services add the owner before it or
    a date behind it, and leave out folders."""
    asked, said = (name.strip("/").rpartition("/")[2].lower() for name in (asked, said))
    return said.startswith(asked)


def spoken(text: str) -> str | None:
    """What a model says after thinking aloud (`<think>...</think>`); None if it has only thought.

    Some prompts open the thought already. Then the text holds its end alone.
    """
    _, end, rest = text.rpartition("</think>")
    if end:
        return rest.lstrip()
    return None if re.match(r"\s*<think>", text) else text


def _only(values: Any) -> Any:
    if not isinstance(values, list) or len(values) != 1:
        raise ValueError("not one result")
    return values[0]


def _n_tokens(usage: Any) -> int:
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and 0 <= total < 2**31 else 0


def _text(kind: str, choice: Any, url: str) -> str:
    message = choice if kind == "completion" else choice["message"]
    text = message["text" if kind == "completion" else "content"]
    if text is None:
        if choice.get("finish_reason") == "content_filter" or message.get("refusal"):
            # To refuse is an answer, which holds no label.
            return ""
        thought = message.get("reasoning_content") or message.get("reasoning")
        fix = (
            "it has only thought: turn its thinking off, or take a model that answers at once"
            if thought
            else f"finish_reason is {excerpt(str(choice.get('finish_reason')), 40)}"
        )
        raise Silence(f"{url} gave an answer without a text ({fix})")
    if not isinstance(text, str):
        raise ValueError("the text is no string")
    # Half of a character can be written to no file.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _logprobs(choices: Any, payload: dict[str, Any], url: str) -> np.ndarray:
    """float32 [1, 10] from one choice per digit: the log-probability of the last token of its
    prompt, which is `payload`'s and the digit."""
    digits, length = payload["digits"], len(payload["prompt"]) + 1
    given = {choice["index"]: choice.get("prompt_logprobs") for choice in choices}
    if not all(given.get(index) for index in range(len(digits))):
        raise LabelerError(f"{url} gives no prompt_logprobs")
    if len(choices) != len(digits) or any(len(each) != length for each in given.values()):
        raise ValueError("prompt_logprobs of another prompt")
    values = [given[index][-1][str(digit)]["logprob"] for index, digit in enumerate(digits)]
    logprobs = _finite_floats(values, url)
    if (logprobs > CERTAINTY).any():
        raise ValueError("not all are log-probabilities")
    return logprobs[None]


def _logits(data: Any, n_positions: int, url: str) -> np.ndarray:
    """float32 [pos, 10] from base64 or nested lists; LabelerError unless there is one finite row
    per token of the prompt."""
    try:
        if isinstance(data, str):
            raw = base64.b64decode(data, validate=True)
            logits = np.frombuffer(raw, dtype="<f4").reshape(-1, N_DIGITS)
        else:
            logits = np.asarray(data)
        if logits.ndim != 2 or logits.shape[1] != N_DIGITS:
            raise ValueError("wrong shape")
    except (binascii.Error, ValueError, TypeError) as error:
        raise LabelerError(
            f"{url} gave no rows of {N_DIGITS} logits: it must serve a token classifier over the digits"
        ) from error
    if len(logits) != n_positions:
        raise LabelerError(
            f"{url} gave logits for {len(logits)} positions of a prompt of {n_positions} tokens: turn prefix caching off"
        )
    return _finite_floats(logits, url)


def _finite_floats(values: Sequence[Any] | np.ndarray, url: str) -> np.ndarray:
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "fiu":
        raise ValueError("not all are numbers")
    with np.errstate(over="ignore"):
        numbers = numbers.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise LabelerError(f"{url} gave logits that are not finite numbers")
    return numbers
