"""The text of each part of a simulation: evenly spaced blocks of one split, the same for every
label, layer and run on a corpus."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import SimulateConfig
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
SLICE = 256
"""Blocks that are held in memory at once where a part may be large."""


class Excerpts(NamedTuple):
    """The text of one part: the first tokens of some blocks of a split."""

    blocks: NDArray[np.int64]
    """Block index in the split, [excerpt]."""
    tokens: list[list[str]]
    """Decoded tokens, [excerpt][pos]; the end-of-text token reads as a line break."""
    is_text: NDArray[np.bool_]
    """False for end-of-text tokens, [excerpt, pos]."""
    held_out: NDArray[np.bool_]
    """Whether the token's document has held-out templates or words, [excerpt, pos]."""


def settings_of(parts: Collection[Part]) -> set[str]:
    """The fields of `simulate` that decide the text of some parts."""
    return {TOKENS[part] for part in parts} | (
        {"excerpt_tokens"} if set(parts) & set(SHORT) else set()
    )


def choose_excerpts(corpus: Path, part: Part, cfg: SimulateConfig) -> Excerpts:
    """The excerpts of a part, all at once."""
    return read_excerpts(corpus, SPLITS[part], *chosen_blocks(corpus, part, cfg))


def excerpt_slices(corpus: Path, part: Part, cfg: SimulateConfig) -> Iterator[Excerpts]:
    """The same `SLICE` excerpts at a time, so that memory does not grow with the part."""
    indices, length = chosen_blocks(corpus, part, cfg)
    for start in range(0, len(indices), SLICE):
        yield read_excerpts(corpus, SPLITS[part], indices[start : start + SLICE], length)


def chosen_blocks(corpus: Path, part: Part, cfg: SimulateConfig) -> tuple[NDArray[np.int64], int]:
    """Block indices [excerpt] and tokens per excerpt. Raises CorpusError where fewer than two
    excerpts can be compared."""
    from interp_by_construction.corpus import load_blocks

    blocks = load_blocks(corpus, SPLITS[part])
    block_size = len(blocks[0]["input_ids"])
    length = min(cfg.excerpt_tokens, block_size) if part in SHORT else block_size
    wanted = int(getattr(cfg, TOKENS[part]))
    n = min(len(blocks), max(1, wanted // length))
    if part in SHORT and n < 2:
        raise CorpusError(
            f"simulate.{TOKENS[part]}={wanted} gives {n} excerpt of {length} tokens: at least 2 are needed"
        )
    # The align part takes the first blocks, so that training and targets agree on the block index.
    return (np.arange(n) if part == "align" else spaced(len(blocks), n)), length


def spaced(n_blocks: int, n: int) -> NDArray[np.int64]:
    """`n` evenly spaced block indices, the first and the last included."""
    return np.linspace(0, n_blocks - 1, n).round().astype(np.int64)


def read_excerpts(corpus: Path, split: str, indices: NDArray[np.int64], length: int) -> Excerpts:
    """The first `length` tokens of some blocks of a split."""
    from interp_by_construction.corpus import held_out_documents, load_blocks, load_tokenizer
    from interp_by_construction.corpus.tokenize import separator_id

    blocks, tokenizer = load_blocks(corpus, split), load_tokenizer(corpus)
    ids = np.asarray(blocks[indices]["input_ids"])[:, :length]
    documents = np.asarray(blocks[indices]["document"])[:, :length]
    text = {int(i): str(tokenizer.decode([int(i)])) for i in np.unique(ids)}
    separator = separator_id(tokenizer)
    text[separator] = "\n"
    return Excerpts(
        blocks=indices,
        tokens=[whole_characters([text[int(i)] for i in row], row, tokenizer) for row in ids],
        is_text=ids != separator,
        held_out=held_out_documents(corpus)[documents],
    )


REPLACEMENT = "\ufffd"
LONGEST_CHARACTER = 4
"""Bytes of the longest character in UTF-8, and so the most tokens that it can be cut into."""


def whole_characters(pieces: list[str], ids: Sequence[Any], tokenizer: Any) -> list[str]:
    """Puts together characters that a byte-level tokenizer cut into several tokens: the last one
    holds the character.

    pieces: each of the tokens `ids` decoded alone, where a part of a character reads as U+FFFD.
    """
    start = 0
    while start < len(pieces):
        if REPLACEMENT in pieces[start]:
            for stop in range(start + 2, min(start + LONGEST_CHARACTER, len(pieces)) + 1):
                text = str(tokenizer.decode([int(i) for i in ids[start:stop]]))
                if REPLACEMENT not in text:
                    pieces[start:stop] = [*[""] * (stop - start - 1), text]
                    start = stop - 1
                    break
        start += 1
    return pieces
