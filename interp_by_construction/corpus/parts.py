"""The text of each part of a simulation: the same for every label, layer and run on a corpus."""

from __future__ import annotations

from collections.abc import Collection
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


def settings_of(parts: Collection[Part]) -> set[str]:
    """The fields of `simulate` that decide the text of some parts."""
    return {TOKENS[part] for part in parts} | (
        {"excerpt_tokens"} if set(parts) & set(SHORT) else set()
    )


def part_passage(corpus: Path, part: Part, cfg: TextAmounts) -> Passage:
    """The passage that a part reads.

    Raises:
        CorpusError: fewer than two excerpts, where they are to be compared.
    """
    wanted = int(getattr(cfg, TOKENS[part]))
    passage = Passage.of_split(
        corpus,
        SPLITS[part],
        n_tokens=wanted,
        length=cfg.excerpt_tokens if part in SHORT else None,
        # Training and targets agree on the block index.
        first=part == "align",
    )
    if part in SHORT and len(passage) < 2:
        raise CorpusError(
            f"simulate.{TOKENS[part]}={wanted} gives {len(passage)} excerpt of {passage.length} tokens: "
            "at least 2 are needed"
        )
    return passage
