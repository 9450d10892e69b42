"""Trains the corpus' tokenizer and turns documents into memory-mapped token blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
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

NO_DOCUMENT = -1
"""Stands in the column `document` where a token belongs to none: at the beginning of a block."""

Stamps = tuple[tuple[str, int, int], ...]
"""Name, time and size of each file of a folder."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, which reads any text. The same texts give the same tokenizer.

    The vocabulary is smaller than `vocab_size` if all words are whole tokens before: use
    `len(tokenizer)`. Raises CorpusError if `vocab_size` is below 258.
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
    """Saves a tokenizer without its origin, so that equal tokenizers give equal bytes."""
    tokenizer.save_pretrained(str(directory))
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("name_or_path", "is_local", "local_files_only", "_commit_hash"):
        config.pop(key, None)
    path.write_text(
        json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def separator_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token that ends a document: `<|endoftext|>`, or else the end-of-sequence token.

    The end-of-sequence token of an instruction-tuned tokenizer ends a turn. It did not separate
    documents when the model was pretrained.
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
    end = separator_id(tokenizer)
    return [np.asarray([*ids, end], dtype=np.int32) for ids in token_ids(tokenizer, texts)]


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text as the subject reads it, without any special token."""
    if not texts:
        return []
    # Text that spells out a special token must not become one: only a separator ends a document.
    read = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
    )
    return [list(ids) for ids in read["input_ids"]]


def build_blocks(
    encoded: Sequence[np.ndarray],
    ids: Sequence[int],
    block_size: int,
    out: Path,
    fingerprint: str,
    begin: Sequence[int] = (),
) -> tuple[int, int]:
    """Writes the blocks of one split as an arrow dataset in `out`.

    Its columns `input_ids` and `document` are int32 [block_size]. encoded: token ids of each
    document, with the separator. ids: the documents' ids in the corpus. begin: the tokens that each
    block begins with, which belong to `NO_DOCUMENT`. fingerprint: of the dataset, so that equal
    blocks are equal bytes. Returns the numbers of blocks, and of tokens that fill no block and are
    dropped.
    """
    tokens = np.concatenate([np.zeros(0, np.int32), *encoded])
    documents = np.repeat(np.asarray(ids, dtype=np.int32), [len(document) for document in encoded])
    room = block_size - len(begin)
    n_blocks = len(tokens) // room
    used = n_blocks * room

    def column(values: np.ndarray, first: Sequence[int]) -> pa.Array:
        heads = np.tile(np.asarray(first, dtype=np.int32), (n_blocks, 1))
        rows = np.concatenate([heads, values[:used].reshape(n_blocks, room)], axis=1)
        return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1), pa.int32()), block_size)

    columns = {
        "input_ids": column(tokens, begin),
        "document": column(documents, [NO_DOCUMENT] * len(begin)),
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
    """Blocks of one split of the corpus at `path`, memory-mapped.

    The columns `input_ids` and `document` are read as int64 arrays [block_size].
    """
    directory = path / "blocks" / split
    if not directory.is_dir():
        raise CorpusError(f"{directory} does not exist: {path} is no corpus or {split!r} no split")
    return _opened_blocks(str(directory.resolve()), _stamps(directory))


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Tokenizer of the corpus at `path`. Callers share it and must not change it."""
    directory = path / "tokenizer"
    if not directory.is_dir():
        raise CorpusError(f"{directory} does not exist: {path} is no corpus")
    return _opened_tokenizer(str(directory.resolve()), _stamps(directory))


def _stamps(directory: Path) -> Stamps:
    found = ((file.name, file.stat()) for file in sorted(directory.iterdir()))
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


# Every passage of every stage opens its split and the tokenizer, the same few again and again.
# With the stamps a folder that has changed is read again.


@lru_cache(maxsize=16)
def _opened_blocks(directory: str, stamps: Stamps) -> datasets.Dataset:
    return datasets.load_from_disk(directory, keep_in_memory=False).with_format("numpy")


@lru_cache(maxsize=4)
def _opened_tokenizer(directory: str, stamps: Stamps) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(directory)
