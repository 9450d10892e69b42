"""Batches of whole texts and of concepts that their tokens belong to, on the training device.

A concept is rare, so half of the texts of a batch are drawn by way of a concept, and most concepts
of a batch have members in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from concept_scores import DEV_TEXTS
from lexical_supervision import HELD_OUT, Supervision, build, held_out
from lexical_words import Concept
from numpy.typing import NDArray
from torch import Tensor, nn
from train_simulator import MIN_MEMBERS, extra_sentences

FREQUENT = 0.8
"""Share of the concepts of a batch that have members in it."""


def supervision(args: argparse.Namespace, encoder: str, tokenizer: Any) -> Supervision:
    """Supervision for the tokenizer of `encoder`, built in 90 seconds, then found in `--work`."""

    def offsets(text: str) -> list[tuple[int, int]]:
        encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        return [(start, end) for start, end in encoded["offset_mapping"]]

    extra = extra_sentences(args.text)
    key = hashlib.sha256(repr((encoder, extra, args.tokens, args.seed)).encode()).hexdigest()[:12]
    path = args.work / f"supervision-{key}.npz"
    if not path.is_file():
        args.work.mkdir(parents=True, exist_ok=True)
        keep(build(args.wordnet, extra, offsets, args.tokens, args.seed), path)
    return kept(path)


def keep(data: Supervision, path: Path) -> None:
    """Writes what `kept` reads, whole or not at all."""
    told = {
        "texts": data.texts,
        "ends": data.ends,
        "concepts": [list(concept) for concept in data.concepts],
    }
    arrays = {"types": data.types, "membership": data.membership, "context": data.context}
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, told=np.frombuffer(json.dumps(told).encode(), np.uint8), **arrays)
    partial.rename(path)


def kept(path: Path) -> Supervision:
    """Supervision as `keep` wrote it."""
    with np.load(path) as file:
        told = json.loads(file["told"].tobytes())
        concepts = [Concept(kind, name, phrasings) for kind, name, phrasings in told["concepts"]]
        return Supervision(
            told["texts"],
            told["ends"],
            file["types"],
            file["membership"],
            file["context"],
            concepts,
        )


class Padded(nn.Module):
    """Token ids of many short texts, read in batches without their padding."""

    def __init__(self, ids: list[list[int]]) -> None:
        super().__init__()
        lengths = torch.tensor([len(own) for own in ids])
        self.register_buffer("lengths", lengths)
        self.register_buffer("starts", lengths.cumsum(0) - lengths)
        self.register_buffer("flat", torch.tensor([i for own in ids for i in own]))

    def batch(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """ids [text, pos], zeros behind each text, and which positions are its own."""
        lengths = self.lengths[which]
        position = torch.arange(int(lengths.max()), device=which.device)
        own = position < lengths[:, None]
        at = (self.starts[which][:, None] + position).clamp(max=len(self.flat) - 1)
        return torch.where(own, self.flat[at], 0), own


class Batch(NamedTuple):
    texts: Tensor
    """Indices of texts."""
    rows: Tensor
    """[token]: rows of the supervision, text by text."""
    concepts: Tensor
    """Indices of concepts."""
    phrasings: Tensor
    """[concept]: one phrasing of each, at random."""
    member: Tensor
    """uint8 [token, concept]."""


@dataclass
class Concepts:
    """Supervision on a device."""

    types: Tensor
    membership: Tensor
    """[type, concept]: 1 yes, 0 no, IGNORE."""
    context: Tensor
    """[token, context concept]."""
    lengths: Tensor
    """Tokens of each text."""
    starts: Tensor
    """Row of each text's first token."""
    present: Tensor
    """bool [text, concept]: has a member."""
    phrasing: Tensor
    """[concept, phrasing]: indices, first ones repeated to a common length."""
    n_phrasings: Tensor
    train_texts: Tensor
    dev_texts: Tensor
    train_concepts: Tensor
    dev_concepts: Tensor
    generator: torch.Generator

    @classmethod
    def load(
        cls, data: Supervision, phrasing: NDArray, n_phrasings: NDArray, device: str, seed: int
    ) -> Concepts:
        """The split of texts is that of `train_simulator.train` with the same seed."""
        lengths = torch.tensor([len(ends) for ends in data.ends])
        dev = np.random.default_rng(seed).random(len(data.texts)) < DEV_TEXTS
        unseen = np.array([held_out(concept, HELD_OUT) for concept in data.concepts])
        generator = torch.Generator(device)
        generator.manual_seed(seed)

        def to(values: Any) -> Tensor:
            return torch.as_tensor(values).to(device)

        own = cls(
            to(data.types).long(),
            to(data.membership),
            to(data.context),
            to(lengths),
            to(lengths.cumsum(0) - lengths),
            torch.empty(0, device=device),
            to(phrasing),
            to(n_phrasings),
            to(np.flatnonzero(~dev)),
            to(np.flatnonzero(dev)),
            to(np.flatnonzero(~unseen)),
            to(np.flatnonzero(unseen)),
            generator,
        )
        own.present = torch.stack(
            [(own.member(own.rows(to([i]))) == 1).any(0) for i in range(len(data.texts))]
        )
        return own

    def rows(self, texts: Tensor) -> Tensor:
        """Rows of all tokens of some texts."""
        lengths, starts = self.lengths[texts], self.starts[texts]
        first = lengths.cumsum(0) - lengths
        return torch.arange(int(lengths.sum()), device=texts.device) + (
            starts - first
        ).repeat_interleave(lengths)

    def member(self, rows: Tensor, concepts: Tensor | None = None) -> Tensor:
        """uint8 [token, concept] of all or some concepts."""
        if concepts is None:
            return torch.cat([self.membership[self.types[rows]], self.context[rows]], dim=1)
        n_words = self.membership.shape[1]
        by_word = concepts < n_words
        found = torch.empty(len(rows), len(concepts), dtype=torch.uint8, device=rows.device)
        found[:, by_word] = self.membership[self.types[rows][:, None], concepts[by_word]]
        found[:, ~by_word] = self.context[rows[:, None], concepts[~by_word] - n_words]
        return found

    def texts_with(self, concepts: Tensor) -> Tensor:
        """For each concept one training text with a member, or any where there is none."""
        weights = self.present[self.train_texts][:, concepts].T.float()
        weights[weights.sum(1) == 0] = 1.0
        return self.train_texts[torch.multinomial(weights, 1, generator=self.generator)[:, 0]]

    def some(self, values: Tensor, n: int) -> Tensor:
        """n of them at random, with replacement."""
        return values[
            torch.randint(len(values), (n,), generator=self.generator, device=values.device)
        ]

    def draw(self, n_texts: int, n_concepts: int) -> Batch:
        """Training texts, training concepts, and which tokens are members."""
        wanted = self.texts_with(self.some(self.train_concepts, n_texts // 2))
        texts = torch.unique(
            torch.cat([self.some(self.train_texts, n_texts - n_texts // 2), wanted])
        )
        rows = self.rows(texts)
        member = self.member(rows)
        frequent = (member == 1).sum(0) >= MIN_MEMBERS
        order = torch.rand(len(frequent), generator=self.generator, device=rows.device)
        order[self.dev_concepts] = torch.inf
        n_frequent = int(FREQUENT * n_concepts)
        first = (order + (~frequent).float()).argsort()[:n_frequent]
        order[first] = torch.inf
        concepts = torch.cat([first, order.argsort()[: n_concepts - n_frequent]])
        return Batch(texts, rows, concepts, self.phrasings(concepts), member[:, concepts])

    def phrasings(self, concepts: Tensor) -> Tensor:
        """One phrasing of each, at random."""
        chosen = (
            torch.rand(len(concepts), generator=self.generator, device=concepts.device)
            * self.n_phrasings[concepts]
        )
        return self.phrasing[concepts, chosen.long()]


def precision(device: str) -> torch.autocast:
    """bfloat16 products."""
    return torch.autocast(device, dtype=torch.bfloat16)
