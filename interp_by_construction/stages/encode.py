"""encode: what the simulator's encoder reads of some text, once for all labels. The simulation of a
label then costs one product per token.

The stage reads no label and no activation of the subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from interp_by_construction.config import Config
from interp_by_construction.corpus.parts import Extent, extent
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.progress import track
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.runtime import torch_threads
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.engine.tensors import create_npy
from interp_by_construction.simulators import simulator_class
from interp_by_construction.simulators.base import TextEncoder
from interp_by_construction.simulators.handle import Encoder


@dataclass(frozen=True)
class EncodeRecord(Record):
    """How much was read, and what that costs."""

    layers: list[int]
    """Of the encoder, as far as they are read."""
    dtype: str
    """Precision of the encoder, which depends on the machine: see `engine.runtime.fast_dtype`."""
    multiply_adds_per_token: int
    """Per encoder token."""
    tokens_per_subject_token: float
    n_features: int
    """Length of the encoder's hidden states, all layers side by side."""
    width: int
    """Numbers that are kept of each token."""
    n_tokens: dict[str, int]
    """Subject tokens by text."""


@dataclass(frozen=True)
class Encode(Stage[EncodeRecord]):
    """What the simulator's encoder reads of some texts.

    Writes `<name>.npy`, float16 [token, width], for each text.
    """

    name = "encode"
    version = 5
    record = EncodeRecord
    says = "reads the text with the simulator's encoder"

    corpus: Stage[Any]
    encoder: Encoder
    texts: Mapping[str, Extent]

    @classmethod
    def of_parts(cls, cfg: Config, corpus: Stage[Any]) -> Self | None:
        """The parts that the simulator reads in every layer; None for one without an encoder."""
        parts = simulator_class(cfg.simulate.simulator).encoded_parts
        every: dict[str, Extent] = {part: extent(part, cfg.simulate) for part in parts}
        texts = {part: text for part, text in every.items() if text.n_tokens}
        return cls(corpus, Encoder(cfg.simulate), texts) if texts else None

    @classmethod
    def of_text(cls, cfg: Config, corpus: Stage[Any], text: Extent) -> Self | None:
        """A text on which labels are compared with nodes, named like its split; None for a
        simulator without an encoder. Apart from the parts, so that labels do not depend on how much
        text is aligned or scored."""
        encoded = simulator_class(cfg.simulate.simulator).encoded_parts
        return cls(corpus, Encoder(cfg.simulate), {text.split: text}) if encoded else None

    def effort(self, sizes: Sizes) -> Effort:
        return Effort(encoded=sum(text.n_tokens for text in self.texts.values()))

    def compute(self, job: Job) -> EncodeRecord:
        n_tokens = {}
        with torch_threads(job.runtime.encoder_threads):
            encoder = job.use(self.encoder)
            before = encoder.n_tokens
            for name, text in self.texts.items():
                passage = text.passage(job.path(self.corpus))
                n_tokens[name] = write_encoded(encoder, passage, job.out / f"{name}.npy")
        return EncodeRecord(
            layers=list(encoder.layers),
            dtype=encoder.dtype,
            multiply_adds_per_token=encoder.multiply_adds,
            tokens_per_subject_token=(encoder.n_tokens - before) / sum(n_tokens.values()),
            n_features=encoder.n_features,
            width=encoder.width,
            n_tokens=n_tokens,
        )


def write_encoded(encoder: TextEncoder, passage: Passage, file: Path) -> int:
    """Writes float16 [token, width]; returns the number of tokens."""
    length, shape = passage.length, (len(passage) * passage.length, encoder.width)
    stored = create_npy(file, np.float16, shape)
    texts = (text for part in passage.slices() for text in part.tokens)
    read = track(encoder.encode(texts), file.stem, total=len(passage))
    for i, rows in enumerate(read):
        stored[i * length : (i + 1) * length] = rows
    if isinstance(stored, np.memmap):
        stored.flush()
    return len(stored)
