"""What a simulator is: it predicts how strongly a node with some label is active on every token,
from label and text alone.

A simulator is made from the configuration (`simulators.create`) and answers what the stages have to
know before anything is computed: what is hashed, which parts of the text an encoder reads for it,
which parts it simulates. It gets language models only when it is opened.

To add one, write a file with a subclass of `Simulator` and add a line to `simulators.SIMULATORS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import SimulateConfig, TextAmounts
from interp_by_construction.corpus.parts import Part, part_passage
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.errors import ConfigError
from interp_by_construction.llm.client import Labeler

ROWS = 8192
"""Encoded tokens that are simulated at once."""

TEXT = 256
"""Longest text that is read at once where texts have any length, in subject tokens."""


class TextEncoder(Protocol):
    """Reads text once for all labels; a row per token."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The encoder's layers that are read."""

    @property
    def n_tokens(self) -> int:
        """Encoder tokens read so far."""

    @property
    def n_features(self) -> int:
        """Length of the encoder's hidden states, all layers side by side."""

    @property
    def width(self) -> int:
        """Length of a row: the hidden states, or what is made of them."""

    @property
    def dtype(self) -> str:
        """Precision of the hidden states."""

    @property
    def multiply_adds(self) -> int:
        """Per encoder token."""

    def encode(self, texts: Iterable[Sequence[str]]) -> Iterator[NDArray[np.float16]]:
        """Yields [token, width] per text, in order."""


class Models(NamedTuple):
    """The language models that a simulator may use, none of them loaded before it is asked for."""

    labeler: Callable[[], Labeler]
    encoder: Callable[[], Any]
    """What `Simulator.load_encoder` gives."""


class Simulation:
    """Simulates some labels, on text, on encoded text, or on both."""

    def __call__(self, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """texts: subject tokens as strings -> [token, label], tokens of all texts in order."""
        raise TypeError(f"{type(self).__name__} reads encoded text only")

    def of_encoded(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """rows: what the simulator's encoder read beforehand, [token, width] -> [token, label]."""
        raise TypeError(f"{type(self).__name__} reads no encoded text")

    def on(
        self, texts: Sequence[Sequence[str]], rows: NDArray[Any] | None, use: Any = slice(None)
    ) -> NDArray[np.float32]:
        """The tokens `use` of some texts, from `rows` where an encoder has read all of their
        tokens beforehand, [token, label]."""
        return self(texts)[use] if rows is None else self.of_encoded(rows[use])


@dataclass(frozen=True)
class Texts:
    """The parts of a corpus, and what an encoder read of them."""

    corpus: Path
    amounts: TextAmounts
    encoded: Path | None = None
    """Directory of the encode stage; None for a simulator that has no encoder."""

    def passage(self, part: Part) -> Passage:
        return part_passage(self.corpus, part, self.amounts)

    def rows(self, part: Part) -> NDArray[np.float16] | None:
        """Encoded tokens of a part, [token, width]; None where no encoder reads it."""
        file = None if self.encoded is None else self.encoded / f"{part}.npy"
        return None if file is None else np.load(file, mmap_mode="r")

    def simulated(self, part: Part, simulation: Simulation) -> Iterator[NDArray[np.float32]]:
        """[token, label] in pieces, so that memory does not grow with the part; none of an empty
        part."""
        if not len(self.passage(part)):
            return
        rows = self.rows(part)
        if rows is None:
            for piece in self.passage(part).slices():
                yield simulation(piece.tokens)
        else:
            for start in range(0, len(rows), ROWS):
                yield simulation.of_encoded(rows[start : start + ROWS])


@dataclass(frozen=True)
class Fitted:
    """A simulator of one layer's labels."""

    simulation: Simulation
    saved: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """What it was fitted on, for `simulated.safetensors`."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """How well it was fitted; whatever this kind of simulator knows of that."""


class Simulator(ABC):
    """One kind of simulator, as configured."""

    name: ClassVar[str]
    """As `simulate.simulator` has it."""
    any_text: ClassVar[bool] = False
    """Whether it simulates any label on any text cheaply. Only then are labels matched with nodes,
    revised by default, audited, and substituted for activations."""
    any_label: ClassVar[bool] = True
    """Whether it simulates a label that it was not fitted to."""
    reads_all: ClassVar[bool] = True
    """Whether it simulates every label, however it is worded (`reads`)."""
    is_exact: ClassVar[bool] = False
    """Whether its targets are the labeler's own simulations, so that there is no fidelity to
    measure."""
    encoded_parts: ClassVar[tuple[Part, ...]] = ()
    """Parts of the text that its encoder reads beforehand; none without an encoder."""
    exact_parts: ClassVar[tuple[Part, ...]] = ("score",)
    """Parts that the labeler simulates itself."""
    simulated_parts: ClassVar[tuple[Part, ...]] = ()
    """Parts beside targets and `score` that it simulates, for scores, calibration and
    substitution."""
    scored_part: ClassVar[Part] = "score"
    """Part on which nodes are scored."""
    calibration_part: ClassVar[Part] = "align"
    """Part on which simulations are brought to the scale of activations."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Fields of `simulate` that it reads. Those that it does not name have their defaults in
    `cfg`, so that its results cannot depend on anything that is not hashed."""
    encoder_settings: ClassVar[tuple[str, ...]] = ()
    """Those of `settings` that decide what its encoder reads."""
    models: ClassVar[tuple[str, ...]] = ()
    """Further fields that it reads: they name files or models, which `identity` hashes."""

    def __init__(self, cfg: SimulateConfig) -> None:
        """Raises ConfigError for settings that this simulator cannot work with."""
        names = ("simulator", *self.settings, *self.models)
        self.cfg = replace(SimulateConfig(), **{name: getattr(cfg, name) for name in names})

    @property
    def identity(self) -> dict[str, str]:
        """What it reads beside label, text and settings, by the hash of its content. The labeler is
        not part of it."""
        return {}

    @classmethod
    def parts(cls) -> tuple[Part, ...]:
        """All parts of the text that the simulate stage reads."""
        return ("align", "score", *cls.exact_parts, *cls.simulated_parts)

    @property
    def target_name(self) -> str:
        """What score records call the simulator of the targets."""
        return self.name

    @property
    def score_name(self) -> str:
        """What score records call the simulator that nodes are scored by."""
        return self.name

    def self_judged(self, labeler: str) -> bool:
        """Whether the model that wrote the labels also simulates them. labeler: its name."""
        return False

    def reads(self, label: str) -> bool:
        """Whether it simulates this label. A run drops the others before it chooses labels."""
        return True

    def load_encoder(self, device: str) -> TextEncoder:
        """Reads the text for `encoded_parts`. Raises ConfigError for an encoder that does not fit,
        and for a simulator that has none."""
        raise ConfigError(f"simulate.simulator={self.name} has no encoder")

    @abstractmethod
    def open(self, models: Models) -> Callable[[Sequence[str]], Simulation]:
        """Loads what simulating takes; the result simulates any labels (with `any_label` the way
        targets are simulated, else the way scores are).

        Such a simulation depends on nothing but the label and the text. It raises LabelerError for
        a label or a text that cannot be simulated.
        """

    @property
    def second_name(self) -> str | None:
        """What score records call the simulator that only scores; None without one."""
        return None

    def open_second(self, models: Models) -> Callable[[Sequence[str]], Simulation] | None:
        """As `open`, of a simulator that takes no part in training, on the same encoded text; None
        without one."""
        return None

    def fit(self, labels: Sequence[str], texts: Texts, models: Models) -> Fitted:
        """The simulator of the targets for the labels of one layer, of which there may be none."""
        return Fitted(self.open(models)(labels))

    def cut(self, tokens: Sequence[str], models: Models) -> list[Sequence[str]]:
        """A text of any length as pieces that are short enough to be read at once."""
        return [tokens[start : start + TEXT] for start in range(0, len(tokens), TEXT)]
