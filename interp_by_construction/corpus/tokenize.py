"""Trains the corpus' tokenizer and turns documents into memory-mapped token blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from interp_by_construction.errors import CorpusError

END_OF_TEXT = "<|endoftext|>"
MIN_VOCAB = 258
"""256 bytes, the end-of-text token and one merge."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE whose pieces start at words; any text round-trips. The same texts give the
    same tokenizer.

    Where all words are whole tokens before `vocab_size` is reached, the vocabulary is smaller: use
    `len(tokenizer)`.

    Raises:
        CorpusError: `vocab_size` below 258.
    """
    if vocab_size < MIN_VOCAB:
        raise CorpusError(
            f"data.vocab_size={vocab_size} is too small for byte-level BPE: give at least {MIN_VOCAB}"
        )
    tokenizer = Tokenizer(models.BPE())
    # With a prefix space the first word of a document is the same token as anywhere else.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Saves the tokenizer without what tells where it was loaded from, so that equal tokenizers are
    equal bytes."""
    tokenizer.save_pretrained(str(directory))
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("name_or_path", "is_local", "local_files_only", "_commit_hash"):
        config.pop(key, None)
    path.write_text(
        json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def separator_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token that ends a document: `<|endoftext|>` if the vocabulary has it, else the
    end-of-sequence token.

    Instruction-tuned tokenizers name the end of a turn as their end of sequence, which is not what
    separated documents when the model was pretrained.
    """
    vocab = tokenizer.get_vocab()
    if END_OF_TEXT in vocab:
        return int(vocab[END_OF_TEXT])
    if isinstance(tokenizer.eos_token_id, int):
        return tokenizer.eos_token_id
    raise CorpusError(
        "the tokenizer has no end-of-sequence token to separate documents: set its eos_token"
    )


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[np.ndarray]:
    """Token ids (int32) of each text, ended by the separator; no other special tokens are added."""
    if not texts:
        return []
    end = separator_id(tokenizer)
    # A text that spells out a special token must not turn into one: documents end where the
    # separator stands.
    encoded = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
    )["input_ids"]
    return [np.asarray([*ids, end], dtype=np.int32) for ids in encoded]


def build_blocks(
    encoded: Sequence[np.ndarray], ids: Sequence[int], block_size: int, out: Path, fingerprint: str
) -> tuple[int, int]:
    """Writes the blocks of one split: an arrow dataset of `input_ids` and `document`, both int32
    [block_size].

    Args:
        encoded: token ids of the split's documents, each ended by the separator.
        ids: corpus-wide id of each document.
        block_size: tokens per block; the rest that fills no block is dropped.
        out: directory of the dataset.
        fingerprint: of the dataset; given, so that equal blocks are equal bytes.

    Returns:
        (number of blocks, number of dropped tokens)
    """
    tokens = np.concatenate([np.zeros(0, np.int32), *encoded])
    documents = np.repeat(np.asarray(ids, dtype=np.int32), [len(document) for document in encoded])
    n_blocks = len(tokens) // block_size
    used = n_blocks * block_size
    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values[:used], pa.int32()), block_size)
        for name, values in (("input_ids", tokens), ("document", documents))
    }
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        table = datasets.table.InMemoryTable(pa.table(columns))
        datasets.Dataset(table, fingerprint=fingerprint).save_to_disk(str(out))
    finally:
        if not shown:
            datasets.enable_progress_bars()
    return n_blocks, len(tokens) - used


def load_blocks(path: Path, split: str) -> datasets.Dataset:
    """Blocks of one split, memory-mapped; rows are numpy arrays: `input_ids` and `document`, int64
    [block_size].

    Args:
        path: directory that `build_corpus` wrote.
        split: name in `config.SPLITS`.
    """
    directory = path / "blocks" / split
    if not directory.is_dir():
        raise CorpusError(f"{directory} does not exist: {path} is no corpus or {split!r} no split")
    return datasets.load_from_disk(str(directory), keep_in_memory=False).with_format("numpy")


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Tokenizer of the corpus at `path` (directory that `build_corpus` wrote)."""
    directory = path / "tokenizer"
    if not directory.is_dir():
        raise CorpusError(f"{directory} does not exist: {path} is no corpus")
    return AutoTokenizer.from_pretrained(str(directory))
