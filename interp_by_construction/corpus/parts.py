"""The text of each part of a simulation: the same for every label, layer and run on a corpus."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from interp_by_construction.config import TextAmounts
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.errors import CorpusError

Part = Literal["fit", "score", "head_score", "align", "label", "calibrate", "test"]
_SPLIT_AND_AMOUNT: dict[Part, tuple[str, str]] = {
    "fit": ("simulate", "n_fit_tokens"),
    "score": ("score", "n_score_tokens"),
    "head_score": ("score", "n_head_score_tokens"),
    "align": ("align", "max_align_tokens"),
    "label": ("label", "n_label_tokens"),
    "calibrate": ("simulate", "n_head_score_tokens"),
    "test": ("test", "n_head_score_tokens"),
}
"""The split of each part, and the field of `simulate` that says how many tokens the part has."""
_SHORT: tuple[Part, ...] = ("fit", "score")
"""Parts that consist of short excerpts of many blocks. The labeler simulates them itself, which is
expensive."""


@dataclass(frozen=True)
class Extent:
    """The blocks of a split that are read: as many as hold `n_tokens` tokens."""

    split: str
    n_tokens: int
    length: int | None = None
    """Tokens that are read of each block; None for all."""
    first: bool = False
    """The first blocks of the split; else evenly spaced ones."""

    def passage(self, corpus: Path) -> Passage:
        """The text itself."""
        return Passage.of_split(
            corpus, self.split, n_tokens=self.n_tokens, length=self.length, first=self.first
        )


def amounts_of(cfg: TextAmounts, parts: Collection[Part]) -> TextAmounts:
    """The amounts that decide the text of `parts`. All other fields have their defaults, so that a
    fingerprint does not depend on them."""
    read = {_SPLIT_AND_AMOUNT[part][1] for part in parts}
    if set(parts) & set(_SHORT):
        read.add("excerpt_tokens")
    return replace(TextAmounts(), **{name: getattr(cfg, name) for name in read})


def extent(part: Part, cfg: TextAmounts) -> Extent:
    """The text of a part."""
    split, amount = _SPLIT_AND_AMOUNT[part]
    length = cfg.excerpt_tokens if part in _SHORT else None
    # The first blocks, so that training and targets agree on the block index.
    return Extent(split, int(getattr(cfg, amount)), length, first=part == "align")


def part_passage(corpus: Path, part: Part, cfg: TextAmounts) -> Passage:
    """The passage of a part, empty for 0 tokens. Raises CorpusError for too few excerpts to
    compare."""
    wanted = extent(part, cfg)
    passage = wanted.passage(corpus)
    if part in _SHORT and len(passage) == 1:
        raise CorpusError(
            f"simulate.{_SPLIT_AND_AMOUNT[part][1]}={wanted.n_tokens} gives {len(passage)} excerpt of "
            f"{passage.length} tokens: at least 2 are needed"
        )
    return passage
