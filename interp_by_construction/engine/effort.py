"""How much a stage has to do, in what is known before anything is computed. `schedules/estimate.py`
makes seconds of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple


class Sizes(NamedTuple):
    """What stages do not know of themselves."""

    block: int
    """Tokens per block."""
    nodes: int
    """Nodes of a layer that are labelled."""
    splits: Mapping[str, int]
    """Split -> tokens, roughly."""

    def of_split(self, split: str, n_blocks: int | None = None) -> int:
        """Tokens of a split, or of so many of its blocks."""
        every = self.splits.get(split, 0)
        return every if n_blocks is None else min(every, n_blocks * self.block)


@dataclass(frozen=True)
class Effort:
    """How much there is of each kind of work."""

    cut: float = 0
    """Tokens that text is cut into."""
    encoded: float = 0
    """Tokens that the simulator's encoder reads."""
    labels: float = 0
    """Labels that it reads."""
    read: float = 0
    """Tokens that the subject reads."""
    trained: float = 0
    """Tokens that the subject is trained on."""
    taught: float = 0
    """Of these, tokens on which it is distilled as well."""
    steps: float = 0
    """Optimizer steps."""
    answers: float = 0
    """Answers that a language model writes."""
    rated: float = 0
    """Tokens that a language model rates, once for each label."""
    seconds: float = 0
    """What comes on top, on the machine that the estimate was fitted on."""

    def __add__(self, other: Effort) -> Effort:
        names = [each.name for each in fields(Effort)]
        return Effort(**{name: getattr(self, name) + getattr(other, name) for name in names})
