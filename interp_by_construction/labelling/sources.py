"""Where the labels of a layer come from, and how many of them name a single word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from interp_by_construction.labelling.labels import Label

SINGLE_WORD = re.compile(
    r"""^(?:(?:the\ )?(?:word|name|token)\ [^\s,]+   # the word 'with'
        |["'“‘][^\s,]+["'”’])$                       # 'with'""",
    re.IGNORECASE | re.VERBOSE,
)


def names_one_word(label: str) -> bool:
    """Whether a label says no more than which word it is, as in `the word 'with'`."""
    return SINGLE_WORD.match(label) is not None


@dataclass(frozen=True)
class SourceCounts:
    """Of all nodes that were to get a label, how many have one of each source
    (`labelling.labels.Source`)."""

    n_nodes: int
    n_labeler: int
    n_prompt: int
    n_general: int
    n_none: int
    n_single_word: int
    """Labels that only name one word, whatever their source."""

    @classmethod
    def of(cls, labels: Sequence[Label]) -> Self:
        """labels: one for each node that was to get one."""
        found = Counter(label.source for label in labels if label.text is not None)
        single = sum(names_one_word(label.text) for label in labels if label.text)
        n_none = len(labels) - found.total()
        return cls(len(labels), found["labeler"], found["prompt"], found["general"], n_none, single)
