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
SPLITS: dict[Part, str] = {
    "fit": "simulate",
    "score": "score",
    "head_score": "score",
    "align": "align",
    "label": "label",
    "calibrate": "simulate",
    "test": "test",
}
TOKENS: dict[Part, str] = {
    "fit": "n_fit_tokens",
    "score": "n_score_tokens",
    "head_score": "n_head_score_tokens",
    "align": "max_align_tokens",
    "label": "n_label_tokens",
    "calibrate": "n_head_score_tokens",
    "test": "n_head_score_tokens",
}
"""The field of `simulate` that says how many tokens a part has."""
SHORT: tuple[Part, ...] = ("fit", "score")
"""What the labeler simulates itself is dear, so short excerpts of many blocks; what an encoder
reads is cheap."""


@dataclass(frozen=True)
class Extent:
    """Which blocks of a split are read: as many as hold `n_tokens` tokens, evenly spaced, or the
    first ones."""

    split: str
    n_tokens: int
    length: int | None = None
    """Tokens that are read of each block; None for all."""
    first: bool = False

    def passage(self, corpus: Path) -> Passage:
        """The text itself."""
        return Passage.of_split(
            corpus, self.split, n_tokens=self.n_tokens, length=self.length, first=self.first
        )


def amounts_of(cfg: TextAmounts, parts: Collection[Part]) -> TextAmounts:
    """The amounts that decide the text of some parts. The other fields have their defaults,
    whatever they are in `cfg`: what reads these parts alone does not depend on them."""
    read = {TOKENS[part] for part in parts}
    if set(parts) & set(SHORT):
        read.add("excerpt_tokens")
    return replace(TextAmounts(), **{name: getattr(cfg, name) for name in read})


def extent(part: Part, cfg: TextAmounts) -> Extent:
    """The text of a part."""
    length = cfg.excerpt_tokens if part in SHORT else None
    # Training and targets agree on the block index.
    first = part == "align"
    return Extent(SPLITS[part], int(getattr(cfg, TOKENS[part])), length, first)


def part_passage(corpus: Path, part: Part, cfg: TextAmounts) -> Passage:
    """The passage that a part reads.

    Raises:
        CorpusError: fewer than two excerpts, where they are to be compared.
    """
    wanted = extent(part, cfg)
    passage = wanted.passage(corpus)
    if part in SHORT and len(passage) < 2:
        raise CorpusError(
            f"simulate.{TOKENS[part]}={wanted.n_tokens} gives {len(passage)} excerpt of "
            f"{passage.length} tokens: at least 2 are needed"
        )
    return passage
