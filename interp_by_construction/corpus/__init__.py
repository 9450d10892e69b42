"""Text to token blocks: document-disjoint splits, a tokenizer, and memory-mapped arrow datasets.

out/tokenizer/           the subject's tokenizer
out/blocks/<split>/      arrow dataset with `input_ids` and `document`, int32 [block_size] each
                         (a block begins with the beginning-of-sequence token of a tokenizer that
                         puts one before a text)
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
from interp_by_construction.config.text import APART
from interp_by_construction.corpus.documents import MIN_BLOCKS, Document, Source, needed
from interp_by_construction.corpus.splits import check_disjoint
from interp_by_construction.corpus.stories import generator_identity
from interp_by_construction.corpus.text import read_documents, shipped_split, text_identity
from interp_by_construction.corpus.tokenize import (
    build_blocks,
    encode,
    load_blocks,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from interp_by_construction.engine.disk import sha256_json
from interp_by_construction.engine.records import Record
from interp_by_construction.errors import CorpusError
from interp_by_construction.llm.beginning import beginning

__all__ = [
    "MIN_BLOCKS",
    "CorpusRecord",
    "build_corpus",
    "content_identity",
    "held_out_documents",
    "load_blocks",
    "load_tokenizer",
    "measured_splits",
    "read_documents",
]


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
    n_skipped: int
    """Rows and files without text."""
    n_replaced: int
    """Halves of letters (surrogates) that were replaced by U+FFFD."""
    n_files_left_out: int
    """Files of a folder that hold no documents."""
    n_tokens: int
    vocab_size: int
    begins_with: str | None
    """The token that each block begins with, because the subject's tokenizer puts it before a
    text."""
    splits_disjoint: bool
    splits: dict[str, SplitRecord]


def build_corpus(
    cfg: DataConfig, tokenizer: PreTrainedTokenizerBase | None, out: Path
) -> CorpusRecord:
    """Writes the corpus to the directory `out`; the same config gives the same bytes.

    tokenizer: the subject's; None trains one on the split `train`.

    Raises:
        CorpusError: missing, unreadable, empty or too small text.
    """
    source = Source.of(cfg)
    texts = source.texts()
    if tokenizer is None:
        kept = list(texts)
        members = source.members(cfg)
        tokenizer = train_tokenizer((kept[i] for i in members["train"]), cfg.vocab_size)
        encoded = list(encode(tokenizer, kept))
    else:
        # Without keeping the text.
        encoded = list(encode(tokenizer, texts))
        members = source.members(cfg)
    documents = source.documents
    check_disjoint(
        {split: [documents[i].sha256 for i in chosen] for split, chosen in members.items()}
    )
    begin = beginning(tokenizer)
    _check_size(cfg, encoded, members)

    save_tokenizer(tokenizer, out / "tokenizer")
    counted = {}
    for split, chosen in members.items():
        parts, folder = [encoded[i] for i in chosen], out / "blocks" / split
        n_blocks, n_dropped = _write_split(parts, chosen, cfg.block_size, begin, folder)
        n_held_out = sum(documents[i].held_out for i in chosen)
        n_tokens = n_blocks * cfg.block_size
        counted[split] = SplitRecord(len(chosen), n_blocks, n_tokens, n_dropped, n_held_out)
    split_of = {i: split for split, chosen in members.items() for i in chosen}
    splits = [split_of[i] for i in range(len(documents))]
    _write_documents(out / "documents.parquet", documents, splits, encoded)
    return CorpusRecord(
        n_documents=len(documents),
        n_held_out=sum(each.held_out for each in documents),
        n_repeats_dropped=source.n_repeats,
        n_skipped=source.reading.n_skipped if source.reading else 0,
        n_replaced=source.reading.n_replaced if source.reading else 0,
        n_files_left_out=len(source.reading.left_out) if source.reading else 0,
        n_tokens=sum(map(len, encoded)),
        vocab_size=len(tokenizer),
        begins_with=str(tokenizer.convert_ids_to_tokens(begin[0])) if begin else None,
        splits_disjoint=True,  # `check_disjoint` raised otherwise
        splits=counted,
    )


def _write_split(
    parts: list[np.ndarray], chosen: list[int], block_size: int, begin: list[int], folder: Path
) -> tuple[int, int]:
    """Writes the blocks of one split; returns their number, and that of the tokens that fill none.
    parts: token ids [pos] of each document; chosen: ids of the documents."""
    content = hashlib.sha256(repr((block_size, begin)).encode())
    for part in parts:
        content.update(part.tobytes())
    return build_blocks(parts, chosen, block_size, folder, content.hexdigest()[:16], begin)


def content_identity(cfg: DataConfig) -> str:
    """sha256 of the text, or of the generator and its settings; it does not depend on paths."""
    if cfg.kind == "text":
        drawn = cfg.split == "drawn"
        return text_identity(cfg) if drawn else sha256_json([text_identity(cfg), shipped_split()])
    settings = (cfg.n_documents, cfg.seed, sorted(cfg.fractions.items()))
    return hashlib.sha256(f"{generator_identity()}/{settings!r}".encode()).hexdigest()


def held_out_documents(path: Path) -> np.ndarray:
    """Which documents have held-out templates and words, bool [document id]."""
    return pq.read_table(path / "documents.parquet", columns=["held_out"])["held_out"].to_numpy()


def measured_splits(path: Path) -> tuple[str, ...]:
    """`test`, and `apart` where the corpus has text of another source."""
    return ("test", APART) if (path / "blocks" / APART).is_dir() else ("test",)


def _check_size(cfg: DataConfig, encoded: list[np.ndarray], members: dict[str, list[int]]) -> None:
    for split in SPLITS:
        n_tokens = sum(len(encoded[i]) for i in members[split])
        if n_tokens < MIN_BLOCKS * cfg.block_size:
            total, longest = sum(map(len, encoded)), max(map(len, encoded))
            if total >= needed(cfg) and longest > total / 2:
                raise CorpusError(
                    f"the corpus {cfg.path or cfg.name} has enough text, but its longest document has {longest} of "
                    f"{total} tokens, and a document stays in one split. So the split {split!r} gets {n_tokens} tokens, and "
                    f"needs {MIN_BLOCKS} blocks of {cfg.block_size}. Cut that document into several."
                )
            raise CorpusError(
                f"the corpus {cfg.path or cfg.name} is too small: {total} tokens, of which the split {split!r} gets "
                f"{n_tokens}; it needs {MIN_BLOCKS} blocks of {cfg.block_size} tokens, so about {needed(cfg)} tokens "
                "are needed in all. Give more text (stories: a larger data.n_documents), a smaller data.block_size, or "
                f"raise data.fractions.{split}."
            )


def _write_documents(
    path: Path, documents: list[Document], splits: list[str], encoded: list[np.ndarray]
) -> None:
    table = pa.table(
        {
            "document": pa.array(range(len(documents)), pa.int32()),
            "split": pa.array(splits, pa.string()),
            "n_tokens": pa.array([len(ids) for ids in encoded], pa.int32()),
            "held_out": pa.array([each.held_out for each in documents], pa.bool_()),
            "sha256": pa.array([each.sha256 for each in documents], pa.string()),
        }
    )
    pq.write_table(table, path)
