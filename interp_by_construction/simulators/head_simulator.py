"""Simulates labels with a trained head (`simulators.head`), and scores with a second one beside it.

Both heads read one pass of their encoder. A text is kept as the token vectors of all heads side by
side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import SimulateConfig
from interp_by_construction.errors import ConfigError
from interp_by_construction.llm.embedded import model_identity
from interp_by_construction.llm.identity import checkpoint_identity
from interp_by_construction.simulators.base import Models, Simulation, Simulator
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.head import Head


class HeadSimulator(Simulator):
    """A head that was trained beforehand, and its encoder. It was trained to tell labels apart, so
    it needs no contrast."""

    name = "head"
    any_text = True
    encoded_parts = ("score", "head_score", "calibrate", "test", "align")
    simulated_parts = ("head_score", "calibrate", "test")
    scored_part = "head_score"
    calibration_part = "calibrate"
    models = ("encoder", "head", "second_head")

    def __init__(self, cfg: SimulateConfig) -> None:
        """Raises ConfigError for a file that is no head, for one of another encoder than
        `cfg.encoder`, and for a second head that does not read the encoder of the first."""
        super().__init__(cfg)
        self.head = Head.load(cfg.head)
        if self.head.encoder != cfg.encoder:
            raise ConfigError(
                f"simulate.encoder={cfg.encoder}: the head (simulate.head={cfg.head}) was trained on "
                f"hidden states of {self.head.encoder}; set simulate.encoder={self.head.encoder}, or "
                "give another head"
            )
        self.second_head = second_of(self.head, cfg)

    @property
    def identity(self) -> dict[str, str]:
        second = {} if self.second_head is None else {"second": self.second_head.identity}
        first = {"encoder": checkpoint_identity(self.cfg.encoder), "head": self.head.identity}
        return first | second

    @property
    def second_name(self) -> str | None:
        return None if self.second_head is None else "second head"

    def self_judged(self, labeler: str) -> bool:
        """The head was trained on lexical data: only the encoder that it reads can be the
        labeler."""
        return model_identity(labeler) == model_identity(self.cfg.encoder)

    def load_encoder(self, device: str) -> HeadEncoder:
        heads = [self.head, *([] if self.second_head is None else [self.second_head])]
        layers = tuple(sorted({layer for head in heads for layer in head.encoder_layers}))
        return HeadEncoder(heads, self.head.load_encoder(device, layers))

    def open(self, models: Models) -> Callable[[Sequence[str]], Simulation]:
        encoder = models.encoder()
        return lambda labels: HeadSimulation(encoder, labels)

    def open_second(self, models: Models) -> Callable[[Sequence[str]], Simulation] | None:
        if self.second_head is None:
            return None
        encoder = models.encoder()
        return lambda labels: HeadSimulation(encoder, labels, 1)


def second_of(head: Head, cfg: SimulateConfig) -> Head | None:
    """The head that scores beside `head`, if one is given."""
    if cfg.second_head is None:
        return None
    second = Head.load(cfg.second_head)
    if (second.encoder, second.reads_adapter) != (head.encoder, head.adapter_identity):
        raise ConfigError(
            f"simulate.second_head={cfg.second_head}: it reads another encoder than the head "
            f"(simulate.head={cfg.head}); give one that was trained beside it, or null"
        )
    return second


@dataclass
class HeadEncoder:
    """The token vectors of some heads side by side, which are smaller than their encoder's hidden
    states."""

    heads: Sequence[Head]
    plain: Encoder
    """Reads the layers of all heads."""
    _known: dict[tuple[int, str], NDArray[np.float32]] = field(default_factory=dict, repr=False)
    """Head, label -> its vector, which depends on nothing else."""

    @property
    def layers(self) -> tuple[int, ...]:
        return self.plain.layers

    @property
    def n_tokens(self) -> int:
        return self.plain.n_tokens

    @property
    def n_features(self) -> int:
        return self.plain.n_features

    @property
    def width(self) -> int:
        return sum(head.width for head in self.heads)

    def columns(self, which: int) -> slice:
        """Where the token vectors of a head stand."""
        start = sum(head.width for head in self.heads[:which])
        return slice(start, start + self.heads[which].width)

    @property
    def dtype(self) -> str:
        return self.plain.dtype

    @property
    def multiply_adds(self) -> int:
        return self.plain.multiply_adds + sum(head.token_multiply_adds for head in self.heads)

    def encode(self, texts: Iterable[Sequence[str]]) -> Iterator[NDArray[np.float16]]:
        """In half precision, so that a text gets the same values stored and read anew."""
        for features in self.plain.encode(texts):
            vectors = [head.token_vectors(features, self.layers) for head in self.heads]
            yield np.concatenate(vectors, axis=1).astype(np.float16)

    def label_vectors(self, labels: Sequence[str], which: int = 0) -> NDArray[np.float32]:
        """As `Head.label_vectors`. Each label is read once: layers share most of their
        candidates."""
        new = [label for label in dict.fromkeys(labels) if (which, label) not in self._known]
        made = self.heads[which].label_vectors(self.plain, new)
        self._known.update({(which, label): row for label, row in zip(new, made, strict=True)})
        return np.stack([self._known[which, label] for label in labels]) if labels else made


class HeadSimulation(Simulation):
    """A head's simulation of some labels. which: the first or the second head of the encoder."""

    def __init__(self, encoder: HeadEncoder, labels: Sequence[str], which: int = 0) -> None:
        self._encoder, self._head = encoder, encoder.heads[which]
        self._columns = encoder.columns(which)
        self._vectors = encoder.label_vectors(labels, which)

    def __call__(self, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        # Text by text: the last bits of a product depend on its number of rows.
        return np.concatenate([self.of_encoded(rows) for rows in self._encoder.encode(texts)])

    def of_encoded(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        return self._head.simulate(rows[:, self._columns], self._vectors)
