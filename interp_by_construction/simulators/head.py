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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from interp_by_construction.engine.disk import sha256_file
from interp_by_construction.errors import ConfigError
from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.simulators.adapter import Adapter, adapter_identity
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
