"""The ten digit tokens of a labeler, and the check that a server's digit logits are the language
model's own.

1. `resolve_digits` finds, per tokenizer, the one token with which each digit is written behind a
   word: without a space before it where the tokenizer can do that (`word9`), else with one (`word
   9`). Numbers of several digits are never written in a simulation prompt, so it does not matter
   whether a tokenizer has a token for "10".
2. `check_digits` runs before the first digit logits that are not known yet. Behind short fixed
   prompts it compares the token classifier's ten logits with the log-probabilities that the
   generating server (another code path: the whole vocabulary) gives the ten digits. Logits are
   defined up to a constant, so both are normalised over the ten digits first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.beginning import beginning

DIGITS = tuple("0123456789")

CONTEXTS = ("apple", "river", "The word")
"""Words behind which a digit must be one and the same token."""

PROBES = ("0, 1, 2, 3, 4, 5,", "9, 8, 7, 6,", "apple 9, river 0, banana 9, the 0, pear")
"""Short texts after which digits differ much in their probability, each in another order."""

TOLERANCE = 0.5
"""Largest difference of two log-probabilities that rounding explains: in bfloat16, numbers between
16 and 32 are 0.125 apart."""


class Digits(NamedTuple):
    """How a tokenizer writes digits behind a word."""

    ids: tuple[int, ...]
    """Token ids of 0 to 9."""
    tokens: tuple[str, ...]
    """The same as entries of the vocabulary, such as `9`, `Ġ9` or `▁9`."""
    lead: str
    """What the token holds before the digit: nothing or a space."""


def resolve_digits(tokenizer: Any, model: str) -> Digits:
    """The digit tokens of a transformers tokenizer; `model` is named in errors.

    Raises LabelerError where a digit behind a word is not one token of its own.
    """
    for lead in ("", " "):
        found = [_behind(tokenizer, context, lead) for context in CONTEXTS]
        if None not in found and len(set(found)) == 1 and found[0] is not None:
            ids = found[0]
            tokens = tuple(str(token) for token in tokenizer.convert_ids_to_tokens(list(ids)))
            if tuple(tokenizer.convert_tokens_to_ids(list(tokens))) == ids:
                return Digits(ids, tokens, lead)
    written = tokenizer.convert_ids_to_tokens(
        tokenizer.encode(f"{CONTEXTS[0]}7", add_special_tokens=False)
    )
    raise LabelerError(
        f"labeler.model={model} cannot simulate: its tokenizer has no token of its own for each digit behind a word "
        f"({CONTEXTS[0]}7 is written {written}); give a labeler.model whose tokenizer has"
    )


def _behind(tokenizer: Any, context: str, lead: str) -> tuple[int, ...] | None:
    """Ids of the ten digits behind `context`, or None if they are not ten different single
    tokens."""
    bare = tokenizer.encode(context, add_special_tokens=False)
    ids = []
    for digit in DIGITS:
        *before, last = tokenizer.encode(f"{context}{lead}{digit}", add_special_tokens=False)
        if before != bare or last == tokenizer.unk_token_id:
            return None
        ids.append(int(last))
    return tuple(ids) if len(set(ids)) == len(DIGITS) else None


def probe_prompts(tokenizer: Any, digits: Digits) -> list[list[int]]:
    """Token ids of `PROBES`, each ending where a digit comes next."""
    end = "" if digits.lead else " "
    return [
        [*beginning(tokenizer), *tokenizer.encode(probe + end, add_special_tokens=False)]
        for probe in PROBES
    ]


def check_digits(
    given: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]], digits: Digits, model: str
) -> None:
    """Raises LabelerError unless the logits behind each of `PROBES` are the language model's.

    given: the token classifier's [pos, digit]; expected: log-probabilities [digit] behind the last
    position, from the path that generates text.
    """
    for probe, logits, reference in zip(PROBES, given, expected, strict=True):
        error = float(np.abs(log_softmax(logits[-1]) - log_softmax(reference)).max())
        if not error <= TOLERANCE:
            raise LabelerError(
                f"the digit logits of labeler.model={model} are not the language model's: after {probe!r} a digit's "
                f"log-probability is off by {error:.2f} (rounding explains {TOLERANCE}). The token classifier serves other "
                f"weights, other tokens than {' '.join(digits.tokens)}, or a model whose head does more than multiply; "
                "start it with `ibc serve`, or use labeler=transformers"
            )


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Log-probabilities over the last axis."""
    shifted = np.asarray(logits, dtype=np.float64) - np.max(logits, axis=-1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised
