"""Text to token blocks: document-disjoint splits, a tokenizer, and memory-mapped arrow datasets.

out/tokenizer/           the subject's tokenizer
out/blocks/<split>/      arrow dataset with `input_ids` and `document`, int32 [block_size] each
out/documents.parquet    document, split, n_tokens, held_out, sha256
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from interp_by_construction.config import SPLITS, DataConfig
from interp_by_construction.corpus.splits import assign, check_disjoint
from interp_by_construction.corpus.stories import Story, generate, generator_identity
from interp_by_construction.corpus.text import read_documents, text_identity
from interp_by_construction.corpus.tokenize import (
    build_blocks,
    encode,
    load_blocks,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from interp_by_construction.engine.records import Record
from interp_by_construction.errors import CorpusError

__all__ = [
    "MIN_BLOCKS",
    "CorpusRecord",
    "build_corpus",
    "content_identity",
    "held_out_documents",
    "load_blocks",
    "load_tokenizer",
    "read_documents",
]

MIN_BLOCKS = 4
"""Fewest blocks of any split: below that, losses and scores mean nothing."""


@dataclass(frozen=True)
class SplitRecord:
    """One split."""

    n_documents: int
    n_blocks: int
    n_tokens: int
    """In blocks."""
    n_dropped: int
    """Tokens that fill no block."""
    n_held_out: int


@dataclass(frozen=True)
class CorpusRecord(Record):
    """What a corpus consists of."""

    n_documents: int
    n_held_out: int
    """Documents with held-out templates and words."""
    n_repeats_dropped: int
    n_tokens: int
    vocab_size: int
    splits_disjoint: bool
    splits: dict[str, SplitRecord]


def build_corpus(
    cfg: DataConfig, tokenizer: PreTrainedTokenizerBase | None, out: Path
) -> CorpusRecord:
    """Writes the corpus to `out`; the same config gives the same bytes.

    Args:
        cfg: what to read or generate, and how to split it.
        tokenizer: the subject's; None trains one on the split `train`.
        out: directory, created where it is missing.

    Raises:
        CorpusError: missing, unreadable, empty or too small text.
    """
    documents, splits = _documents(cfg)
    digests = [hashlib.sha256(document.text.encode()).hexdigest() for document in documents]
    n_read = len(documents)
    documents, splits, digests = _without_repeats(documents, splits, digests)
    members = {split: [i for i, name in enumerate(splits) if name == split] for split in SPLITS}
    check_disjoint({split: [digests[i] for i in members[split]] for split in SPLITS})

    texts = [document.text for document in documents]
    if tokenizer is None:
        tokenizer = train_tokenizer((texts[i] for i in members["train"]), cfg.vocab_size)
    encoded = encode(tokenizer, texts)
    _check_size(cfg, encoded, members)

    save_tokenizer(tokenizer, out / "tokenizer")
    counted = {}
    for split in SPLITS:
        parts = [encoded[i] for i in members[split]]
        content = hashlib.sha256(repr(cfg.block_size).encode())
        for part in parts:
            content.update(part.tobytes())
        n_blocks, n_dropped = build_blocks(
            parts, members[split], cfg.block_size, out / "blocks" / split, content.hexdigest()[:16]
        )
        n_held_out = sum(documents[i].held_out for i in members[split])
        n_tokens = n_blocks * cfg.block_size
        counted[split] = SplitRecord(len(members[split]), n_blocks, n_tokens, n_dropped, n_held_out)
    _write_documents(out / "documents.parquet", splits, encoded, documents, digests)
    return CorpusRecord(
        n_documents=len(documents),
        n_held_out=sum(each.held_out for each in documents),
        n_repeats_dropped=n_read - len(documents),
        n_tokens=sum(map(len, encoded)),
        vocab_size=len(tokenizer),
        splits_disjoint=True,  # `check_disjoint` raised otherwise
        splits=counted,
    )


def content_identity(cfg: DataConfig) -> str:
    """sha256 of what the corpus is made from, free of paths: the text, or the generator's version
    and its settings."""
    if cfg.kind == "text":
        return text_identity(cfg)
    settings = (cfg.n_documents, cfg.seed, sorted(cfg.fractions.items()))
    return hashlib.sha256(f"{generator_identity()}/{settings!r}".encode()).hexdigest()


def held_out_documents(path: Path) -> np.ndarray:
    """bool [n_documents]: which documents have held-out templates and words, by the id in the
    blocks' `document`."""
    return pq.read_table(path / "documents.parquet", columns=["held_out"])["held_out"].to_numpy()


def _documents(cfg: DataConfig) -> tuple[list[Story], list[str]]:
    if cfg.kind == "stories":
        if cfg.n_documents < len(SPLITS):
            raise CorpusError(
                f"data.n_documents={cfg.n_documents} cannot fill the splits: give at least 1000"
            )
        # The split comes first: it decides which templates and words a story may use.
        splits = assign([1.0] * cfg.n_documents, cfg.fractions, cfg.seed)
        return generate(splits, cfg.seed), splits
    texts = read_documents(cfg)
    sizes = [len(text.split()) for text in texts]
    if len(texts) < len(SPLITS):
        raise CorpusError(
            f"the corpus {cfg.path} is too small: {len(texts)} documents with about {sum(sizes)} tokens; "
            f"about {_needed(cfg)} tokens in at least {len(SPLITS)} documents are needed. Give more text."
        )
    return [Story(text, False) for text in texts], assign(sizes, cfg.fractions, cfg.seed)


def _without_repeats(
    documents: list[Story], splits: list[str], digests: list[str]
) -> tuple[list[Story], list[str], list[str]]:
    """Drops documents whose text occurred before, so that no text is in two splits."""
    first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
    kept = sorted(first.values())
    return [documents[i] for i in kept], [splits[i] for i in kept], [digests[i] for i in kept]


def _needed(cfg: DataConfig) -> int:
    """Tokens that give the smallest split its minimum; each split also loses up to a block to
    rounding."""
    return round(
        (MIN_BLOCKS + 1) * cfg.block_size / max(min(cfg.fractions[split] for split in SPLITS), 1e-6)
    )


def _check_size(cfg: DataConfig, encoded: list[np.ndarray], members: dict[str, list[int]]) -> None:
    for split in SPLITS:
        n_tokens = sum(len(encoded[i]) for i in members[split])
        if n_tokens < MIN_BLOCKS * cfg.block_size:
            total = sum(map(len, encoded))
            raise CorpusError(
                f"the corpus {cfg.path or cfg.name} is too small: {total} tokens, of which the split {split!r} gets "
                f"{n_tokens}; it needs {MIN_BLOCKS} blocks of {cfg.block_size} tokens, so about {_needed(cfg)} tokens "
                "are needed in all. Give more text (stories: a larger data.n_documents), a smaller data.block_size, or "
                f"raise data.fractions.{split}."
            )


def _write_documents(
    path: Path,
    splits: list[str],
    encoded: list[np.ndarray],
    documents: list[Story],
    digests: list[str],
) -> None:
    table = pa.table(
        {
            "document": pa.array(range(len(splits)), pa.int32()),
            "split": pa.array(splits, pa.string()),
            "n_tokens": pa.array([len(ids) for ids in encoded], pa.int32()),
            "held_out": pa.array([document.held_out for document in documents], pa.bool_()),
            "sha256": pa.array(digests, pa.string()),
        }
    )
    pq.write_table(table, path)
