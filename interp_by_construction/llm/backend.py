"""What a labeler backend takes and gives: jobs in, answers out in any order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

N_DIGITS = 10


@dataclass(frozen=True)
class Job:
    """One call of the labeler."""

    kind: Literal["completion", "chat", "digits", "digit_logprobs"]
    payload: dict[str, Any]
    """completion: prompt (str); chat: messages, and response_format or not; both: max_tokens,
    temperature, seed, stop. digits: prompt (token ids). digit_logprobs: prompt and digits (token
    ids).
    """


class Answer(NamedTuple):
    """What came back for one job."""

    value: str | np.ndarray
    """Text, or float32 logits [pos, 10] of the digits 0 to 9 as the next token after each position;
    digit_logprobs: [1, 10], log-probabilities among the whole vocabulary after the last
    position."""
    n_tokens: int
    """Tokens read and written, as far as the backend tells."""


class Backend(Protocol):
    """Somewhere to run jobs. Implementations start lazily, so that a run whose calls are all cached
    starts nothing."""

    def check(self) -> None:
        """Raises LabelerError where the backend cannot work."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
        """Yields (index of the job, answer) as answers arrive; raises LabelerError for the first
        job that fails for good.
        """

    def close(self) -> None:
        """Frees what the backend holds."""
