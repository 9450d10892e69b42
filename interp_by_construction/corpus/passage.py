"""A passage is a part of one split. All code that reads text reads a passage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus import held_out_documents, load_blocks, load_tokenizer
from interp_by_construction.corpus.token_texts import TokenTexts
from interp_by_construction.corpus.tokenize import NO_DOCUMENT, separator_id
from interp_by_construction.corpus.windows import Windows, cut_windows, window_around

SLICE = 256
"""Blocks of a large passage that are held in memory at once."""

_OF_BLOCKS = ("ids", "documents", "is_text", "held_out")


class Split:
    """Blocks and tokenizer of one split, each opened when it is first asked for."""

    def __init__(self, corpus: Path, name: str) -> None:
        self.corpus, self.name = corpus, name

    @cached_property
    def dataset(self) -> Any:
        """All blocks, memory-mapped."""
        return load_blocks(self.corpus, self.name)

    @cached_property
    def block_size(self) -> int:
        """Tokens of a block."""
        return len(self.dataset[0]["input_ids"])

    @cached_property
    def tokenizer(self) -> Any:
        """The subject's."""
        return load_tokenizer(self.corpus)

    @cached_property
    def separator(self) -> int:
        """Id of the end-of-text token."""
        return separator_id(self.tokenizer)

    @cached_property
    def texts(self) -> TokenTexts:
        """Decodes tokens."""
        return TokenTexts(self.tokenizer, self.separator, self.begin)

    @cached_property
    def begin(self) -> int | None:
        """Id of the token that every block begins with and that belongs to no document, if there is
        one."""
        first = self.dataset[0]
        return int(first["input_ids"][0]) if first["document"][0] == NO_DOCUMENT else None


@dataclass(frozen=True, eq=False)
class Passage:
    """The first `length` tokens of some blocks of a split.

    Everything else is read when it is first asked for, and then kept. A large passage is read by
    its `slices`, so that it is never in memory as a whole.
    """

    source: Split
    blocks: NDArray[np.int64]
    """Block index in the split, [block]."""
    length: int

    @classmethod
    def of_split(
        cls,
        corpus: Path,
        split: str,
        n_blocks: int | None = None,
        n_tokens: int | None = None,
        length: int | None = None,
        first: bool = False,
    ) -> Passage:
        """At most `n_blocks` blocks (None: all), or as many as hold `n_tokens`: at least one, but
        none for 0.

        The blocks are evenly spaced or the `first` ones. length: tokens of each block (None: all).
        """
        source = Split(corpus, split)
        total, size = len(source.dataset), source.block_size
        length = size if length is None else min(length, size)
        if n_tokens is not None:
            n_blocks = max(1, n_tokens // length) if n_tokens else 0
        n = total if n_blocks is None else min(total, n_blocks)
        return cls(source, np.arange(n) if first else spaced(total, n), length)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def shape(self) -> tuple[int, int]:
        """(blocks, tokens of each)."""
        return len(self.blocks), self.length

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Token ids, [block, pos]."""
        return self._column("input_ids")

    @cached_property
    def documents(self) -> NDArray[np.int64]:
        """The document that each token stands in, [block, pos]; `NO_DOCUMENT` for `n_begin`."""
        return self._column("document")

    @cached_property
    def is_text(self) -> NDArray[np.bool_]:
        """False for end-of-text tokens and for the token that a block begins with, [block,
        pos]."""
        text: NDArray[np.bool_] = self.ids != self.source.separator
        return text & (self.documents != NO_DOCUMENT)

    @property
    def n_begin(self) -> int:
        """Tokens at the beginning of each block that belong to no document: 0 or 1. Many models are
        far more active there than on any text, so means and extremes leave them out."""
        return int(bool(len(self.blocks)) and self.documents[0, 0] == NO_DOCUMENT)

    @cached_property
    def held_out(self) -> NDArray[np.bool_]:
        """Whether the token's document has held-out templates or words, [block, pos]."""
        found = held_out_documents(self.source.corpus)[self.documents]
        return found & (self.documents != NO_DOCUMENT)

    @cached_property
    def tokens(self) -> list[list[str]]:
        """Decoded tokens, [block][pos], see `TokenTexts`. The end-of-text token reads as a line
        break, the token that a block begins with as nothing."""
        return [self.source.texts.of(row) for row in self.ids.tolist()]

    @property
    def flat_tokens(self) -> list[str]:
        """Decoded tokens of all blocks one after the other, [token]."""
        return [token for row in self.tokens for token in row]

    def part(self, at: slice | NDArray[np.int64]) -> Passage:
        """Some of the blocks; what was read already is not read again."""
        part = Passage(self.source, self.blocks[at], self.length)
        known, new = vars(self), vars(part)
        new |= {name: known[name][at] for name in _OF_BLOCKS if name in known}
        if "tokens" in known:
            new["tokens"] = [known["tokens"][i] for i in np.arange(len(self))[at]]
        return part

    def whole(self) -> Passage:
        """The same blocks in full length."""
        size = self.source.block_size
        return self if size == self.length else Passage(self.source, self.blocks, size)

    def slices(self, size: int | None = None) -> Iterator[Passage]:
        """Passages of `size` blocks (None: `SLICE`), in order."""
        return map(self.part, batches(len(self), size or SLICE))

    def around(self, row: int, position: int, width: int) -> slice:
        """A window of `width` tokens around `position`, cut off where its document ends."""
        window = window_around(position, width, self.n_begin, self.length)
        same = np.flatnonzero(self.documents[row, window] == self.documents[row, position])
        return slice(window.start + int(same[0]), window.start + int(same[-1]) + 1)

    def windows(self, width: int) -> Windows:
        """Cuts the text into windows of about `width` tokens, see `cut_windows`."""
        return cut_windows(self.is_text, self.documents, width)

    def _column(self, name: str) -> NDArray[np.int64]:
        read = self.source.dataset[self.blocks.tolist()][name]
        size = self.source.block_size
        return np.asarray(read, dtype=np.int64).reshape(-1, size)[:, : self.length]


def n_begin(corpus: Path) -> int:
    """Tokens at the beginning of each block of a corpus that belong to no document: 0 or 1."""
    split = next(folder.name for folder in sorted((corpus / "blocks").iterdir()))
    return 0 if Split(corpus, split).begin is None else 1


def spaced(n: int, n_chosen: int) -> NDArray[np.int64]:
    """`n_chosen` evenly spaced indices below `n`, the first and the last included."""
    return np.linspace(0, n - 1, n_chosen).round().astype(np.int64)


def batches(n: int, size: int) -> list[slice]:
    """Slices of at most `size` that cover the indices below `n`."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
