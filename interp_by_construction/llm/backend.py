"""What a labeler backend takes and gives: jobs in, answers out in any order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

N_DIGITS = 10
ServerKind = Literal["generate", "classify"]
"""`generate` writes text; `classify` gives the logits of the ten digits after every token."""


@dataclass(frozen=True)
class Sampling:
    """How text is sampled."""

    max_tokens: int
    temperature: float
    """0 is greedy, and reads no seed."""
    seed: int | Sequence[int] = 0
    """One for all prompts, or one for each."""
    stop: Sequence[str] = ()
    """Text ends before the first of these."""

    def of(self, n_prompts: int) -> list[dict[str, Any]]:
        """The sampling part of each prompt's payload. Raises ValueError for another number of
        seeds."""
        seeds = self.seed if isinstance(self.seed, Sequence) else [self.seed] * n_prompts
        if len(seeds) != n_prompts:
            raise ValueError(f"{len(seeds)} seeds for {n_prompts} prompts")
        # Greedy decoding reads no seed: calls that differ only there are one call.
        return [
            {
                "max_tokens": self.max_tokens,
                "temperature": float(self.temperature),
                "seed": int(seed) if self.temperature > 0 else 0,
                "stop": list(self.stop),
            }
            for seed in seeds
        ]


@dataclass(frozen=True)
class Job:
    """One call of the labeler."""

    kind: Literal["completion", "chat", "digits", "digit_logprobs"]
    payload: dict[str, Any]
    """completion: prompt (str); chat: messages, and response_format or not; both: max_tokens,
    temperature, seed, stop. digits: prompt (token ids). digit_logprobs: prompt and digits (token
    ids)."""


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

    def check(self, kinds: Sequence[ServerKind]) -> None:
        """Raises LabelerError where the backend cannot do what servers of these kinds do."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
        """Yields (index of the job, answer) as answers arrive. Raises LabelerError for the first
        job that fails for good."""

    def close(self) -> None:
        """Frees what the backend holds."""
