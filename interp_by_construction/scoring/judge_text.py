"""Text that nodes are judged on: some blocks of a split, cut into windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import SimulateConfig
from interp_by_construction.corpus.excerpts import (
    SPLITS,
    Excerpts,
    Part,
    choose_excerpts,
    read_excerpts,
    spaced,
)
from interp_by_construction.scoring.windows import Windows, cut_windows
from interp_by_construction.subject.activation_chunks import activation_chunks


class Text(NamedTuple):
    """The first `length` tokens of some blocks, one after the other: [token] is [block * pos]."""

    split: str
    blocks: NDArray[np.int64]
    length: int
    tokens: list[str]
    """[token]"""
    use: NDArray[np.bool_]
    """False for end-of-text tokens, [token]."""
    windows: Windows

    def by_block(self) -> list[list[str]]:
        return [
            self.tokens[start : start + self.length]
            for start in range(0, len(self.tokens), self.length)
        ]


def whole_blocks(corpus: Path, split: str, excerpts: Excerpts, window: int) -> Text:
    """Excerpts of a split as a text whose windows cross no document."""
    from interp_by_construction.corpus import load_blocks

    length = excerpts.is_text.shape[1]
    documents = np.asarray(load_blocks(corpus, split)[excerpts.blocks]["document"], dtype=np.int64)[
        :, :length
    ]
    windows = cut_windows(excerpts.is_text, documents, window)
    tokens = [token for row in excerpts.tokens for token in row]
    return Text(split, excerpts.blocks, length, tokens, excerpts.is_text.reshape(-1), windows)


def score_text(corpus: Path, part: Part, cfg: SimulateConfig, window: int) -> Text:
    """The text of one part of the simulate stage."""
    return whole_blocks(corpus, SPLITS[part], choose_excerpts(corpus, part, cfg), window)


def select_text(corpus: Path, n_tokens: int, window: int) -> Text:
    """Whole blocks, evenly spaced over the select split; at least one."""
    from interp_by_construction.corpus import load_blocks

    blocks = load_blocks(corpus, "select")
    length = len(blocks[0]["input_ids"])
    chosen = spaced(len(blocks), min(len(blocks), max(1, n_tokens // length)))
    return whole_blocks(corpus, "select", read_excerpts(corpus, "select", chosen, length), window)


def activations_on(
    model: Path, corpus: Path, text: Text, layer: int, nodes: NDArray[np.int64], device: Any
) -> NDArray[np.float64]:
    """Activations [token, node], without poles."""
    chunks = activation_chunks(
        model, corpus, text.split, text.blocks, text.length, layer, nodes, device
    )
    return np.concatenate(list(chunks))
