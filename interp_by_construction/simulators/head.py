"""Dense simulator for labels it was never trained on: a tower over token features and a tower over
label features.

Both towers read hidden states of one frozen encoder. A label costs one short encoder pass, a text
one pass for all labels:

    token vector t = W2 gelu(W1 x) + W3 x
    label vector l = V2 gelu(V1 z) + V3 z + S s
    simulated      = sigmoid(<t, l> / sqrt(d) + b(l))

x: standardised hidden states of the token, several layers side by side. z: the same of the label's
text, as the mean over its tokens, its last token and, where the head has a suffix, the suffix's
last token. s: the token vectors of that mean and of the label's last token.

`tools/train_simulator.py` trains it on lexical supervision and writes the file that ships with
the package.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from interp_by_construction.config import SimulateConfig
from interp_by_construction.engine.disk import sha256_file
from interp_by_construction.errors import ConfigError
from interp_by_construction.llm.embedded import model_identity, resolve_model
from interp_by_construction.llm.identity import checkpoint_identity
from interp_by_construction.simulators.adapter import Adapter, adapter_identity
from interp_by_construction.simulators.base import Models, Simulation, Simulator
from interp_by_construction.simulators.encoder import Encoder

EMBEDDED = Path(__file__).with_name("head_smollm2.safetensors")
"""Trained for the embedded SmolLM2-135M-Instruct."""

LABEL_PREFIX = "A list of "
"""Stands before a label when it is encoded: a label is a phrase, not the beginning of a text."""

CLIP = 6.0
"""Standardised features beyond this are outliers of the encoder (attention sinks)."""

ADAPTER = "adapter."
"""Before the names of the adapter's weights in a head's file."""

GROUP = 8
"""Labels that the encoder reads at once (see `label_features`)."""


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


@dataclass(frozen=True)
class Head:
    """Weights of both towers, and what they were trained for."""

    weights: dict[str, NDArray[np.float32]]
    encoder: str
    """Name of the encoder whose hidden states it reads."""
    encoder_layers: tuple[int, ...]
    identity: str
    """sha256 of the file."""
    record: dict[str, Any]
    """How it was trained, and what was measured."""
    label_suffix: str = ""
    """What stands behind a label when it is encoded."""
    reads_adapter: str | None = None
    """Of a second head: hash of the adapter of the first, with which its encoder is read."""

    @classmethod
    def load(cls, path: str | Path | None = None) -> Head:
        """Reads a file that `tools/train_simulator.py` wrote; None: the embedded one. Raises
        ConfigError if it is not one."""
        file = Path(path) if path is not None else EMBEDDED
        if not file.is_file():
            raise ConfigError(
                f"simulate.head={path}: no such file; give a head's safetensors file, or null for the embedded one"
            )
        stat = file.stat()
        return _read(file, stat.st_mtime_ns, stat.st_size)

    @property
    def adapter(self) -> Adapter:
        """What the encoder's linear maps gain; empty for a head on the plain encoder."""
        return {
            name.removeprefix(ADAPTER): weight
            for name, weight in self.weights.items()
            if name.startswith(ADAPTER)
        }

    @property
    def adapter_identity(self) -> str:
        """Hash of the adapter, by which a second head knows it."""
        return adapter_identity(self.adapter)

    def load_encoder(self, device: str, layers: Sequence[int] | None = None) -> Encoder:
        """The encoder that this head reads, with its adapter. layers: None reads the head's own."""
        read = self.encoder_layers if layers is None else layers
        return Encoder.load(resolve_model(self.encoder), read, device, self.adapter)

    @property
    def width(self) -> int:
        """Length of token and label vectors."""
        return int(self.weights["token.out.bias"].shape[0])

    @property
    def token_multiply_adds(self) -> int:
        """Of the token tower, per token."""
        return sum(
            weight.size
            for name, weight in self.weights.items()
            if name.startswith("token.") and weight.ndim == 2
        )

    def token_vectors(
        self, features: NDArray[Any], layers: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Hidden states of `layers` (None: its own) side by side [token, feature] -> token vectors
        [token, width]."""
        return self._tower("token", self._own(features, layers))

    def _own(
        self, features: NDArray[Any], layers: Sequence[int] | None, n_blocks: int = 1
    ) -> NDArray[Any]:
        """Its own layers' columns of `n_blocks` blocks, each of all `layers` side by side."""
        if layers is None or tuple(layers) == self.encoder_layers:
            return features
        at = [list(layers).index(layer) for layer in self.encoder_layers]
        parts = features.reshape(len(features), n_blocks, len(layers), -1)[:, :, at]
        return parts.reshape(len(features), -1)

    def label_vectors(self, encoder: Encoder, labels: Sequence[str]) -> NDArray[np.float32]:
        """labels -> [label, width + 1]; the last column is b(label). Bit by bit the same whatever
        labels are beside one."""
        if not labels:
            # A layer in which every label failed has none.
            return np.zeros((0, self.width + 1), dtype=np.float32)
        read = label_features(encoder, labels, self.label_suffix)
        features = self._own(read, encoder.layers, 3 if self.label_suffix else 2)
        # One by one: the order in which a matrix product sums depends on the number of its rows.
        return np.concatenate([self._label_vector(row[None]) for row in features])

    def _label_vector(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors: NDArray[Any] = self._tower("label", features)
        if "label.shared.weight" in self.weights:
            n = self.weights["token.mean"].shape[0]
            parts = (features[:, :n], features[:, n : 2 * n])
            shared = np.concatenate([self._tower("token", part) for part in parts], axis=1)
            vectors = vectors + shared @ self.weights["label.shared.weight"].T
        return vectors

    def simulate(
        self, token_vectors: NDArray[Any], label_vectors: NDArray[Any]
    ) -> NDArray[np.float32]:
        """Simulated activations in (0, 1), [token, label]."""
        vectors, bias = label_vectors[:, :-1], label_vectors[:, -1]
        products = np.einsum("td,ld->tl", token_vectors.astype(np.float32), vectors, optimize=True)
        # A Python float keeps single precision, which the exponential of 80 does not overflow.
        logits = np.clip(products / float(np.sqrt(self.width)) + bias, -80.0, 80.0)
        return 1.0 / (1.0 + np.exp(-logits))

    def _tower(self, name: str, features: NDArray[Any]) -> NDArray[np.float32]:
        w = self.weights
        x = (features.astype(np.float32) - w[f"{name}.mean"]) / w[f"{name}.scale"]
        x = np.clip(x, -CLIP, CLIP)
        hidden = _gelu(x @ w[f"{name}.hidden.weight"].T + w[f"{name}.hidden.bias"])
        out = hidden @ w[f"{name}.out.weight"].T + w[f"{name}.out.bias"]
        return np.asarray(out + x @ w[f"{name}.skip.weight"].T, dtype=np.float32)


@lru_cache(maxsize=4)
def _read(file: Path, changed: int, size: int) -> Head:
    """Every stage of a graph asks for the head; the file is read again where it has changed."""
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            weights = {
                name: opened.get_tensor(name).astype(np.float32)
                for name in opened.keys()  # noqa: SIM118
            }
        described = json.loads(metadata["head"])
        return Head(
            weights,
            described["encoder"],
            tuple(described["encoder_layers"]),
            sha256_file(file),
            described["record"],
            described.get("label_suffix", ""),
            described.get("adapter"),
        )
    except (SafetensorError, KeyError, ValueError) as error:
        raise ConfigError(
            f"simulate.head={file}: not a head's file ({error}); see tools/train_simulator.py"
        ) from error


def label_features(
    encoder: Encoder, labels: Sequence[str], suffix: str = ""
) -> NDArray[np.float32]:
    """Hidden states of each label's text: mean over its tokens, last token, last token of the
    suffix, [label, 2 or 3 * feature].

    suffix: text behind the label, after which the encoder expects a member; without one there are
    two parts. A row depends on its label alone, to the last bit: texts are not padded, and all
    batches have one size. Raises ConfigError for a label without text.
    """
    if not all(label.strip() for label in labels):
        raise ConfigError("a label is empty: give at least one word")

    def n_tokens(text: str) -> int:
        return len(encoder.tokenizer.encode(text, add_special_tokens=False))

    # The prefix is one piece; what follows is the label, token by token.
    texts = [f"{LABEL_PREFIX}{label.strip()}{suffix}" for label in labels]
    n_prefix = n_tokens(LABEL_PREFIX.rstrip())
    n_suffix = n_tokens(suffix) if suffix else 0
    rows: dict[int, NDArray[np.float32]] = {}
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, text in enumerate(texts):
        by_length[n_tokens(text)].append(i)
    for same in by_length.values():
        for start in range(0, len(same), GROUP):
            chunk = same[start : start + GROUP]
            # Filled up with copies, so that the shape of every product, and with it the last bits,
            # depends on the label's own length alone.
            filled = [texts[i] for i in (*chunk, *[chunk[0]] * (GROUP - len(chunk)))]
            for i, states in zip(chunk, encoder.states(filled, batch_size=GROUP), strict=False):
                own = states[n_prefix : len(states) - n_suffix]
                parts = [own.mean(axis=0), own[-1]]
                rows[i] = np.concatenate([*parts, states[-1]] if suffix else parts)
    return np.stack([rows[i] for i in range(len(texts))]).astype(np.float32)


def _gelu(x: NDArray[Any]) -> NDArray[Any]:
    """The tanh approximation, as in torch's gelu(approximate="tanh")."""
    return 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))
