"""Passages whose text is given, in place of a corpus on disk, or whose blocks need no tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.passage import Passage, Split


def split_of(corpus: Path, name: str, separator: int = 0) -> Split:
    """A split of a corpus without a tokenizer."""
    split = Split(corpus, name)
    vars(split)["separator"] = separator
    return split


def given_passage(
    tokens: list[list[str]],
    ids: NDArray[np.int64] | None = None,
    documents: NDArray[np.int64] | None = None,
    blocks: NDArray[np.int64] | None = None,
) -> Passage:
    """A passage of these tokens, [block][pos]; a line break ends a text."""
    n, length = len(tokens), len(tokens[0])
    chosen = np.arange(n) if blocks is None else blocks
    passage = Passage(split_of(Path("nowhere"), "given"), chosen, length)
    is_text = np.array([[token != "\n" for token in row] for row in tokens])
    vars(passage).update(
        tokens=tokens,
        is_text=is_text,
        ids=np.zeros((n, length), np.int64) if ids is None else ids,
        documents=np.zeros((n, length), np.int64) if documents is None else documents,
        held_out=np.zeros_like(is_text),
    )
    return passage
