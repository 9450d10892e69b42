"""Hidden states of a language model on plain text, one row per subject token: the features of the
dense simulators.

A subject token takes the last encoder token that ends at or before its last character, never a
later one, so that no feature knows more text than the subject has read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel

from interp_by_construction.engine.runtime import fast_dtype
from interp_by_construction.errors import ConfigError, LabelerError
from interp_by_construction.llm.embedded import tokenizer_of
from interp_by_construction.shown import excerpt
from interp_by_construction.simulators.adapter import Adapter, merge


def last_encoder_tokens(
    pieces: Sequence[str], offsets: Sequence[tuple[int, int]], first: int = 0
) -> list[int]:
    """Index of the last encoder token that ends at or before the end of each piece of text.

    pieces: consecutive substrings; offsets: (start, end) of each encoder token in their
    concatenation. Pieces that end before the first encoder token does take index `first`.
    """
    ends = np.cumsum([len(piece) for piece in pieces])
    encoder_ends = np.array([end for _, end in offsets])
    return [int(i) - 1 if i else first for i in np.searchsorted(encoder_ends, ends, side="right")]


def block_weights(model: Any) -> int:
    """Weights of a transformer's blocks: the multiply-adds per token of its matrix products,
    embeddings and head not counted.

    Attention's own products (context length times width, per layer) come on top; at a few hundred
    tokens they are a few percent.
    """
    return sum(
        p.numel()
        for name, p in model.named_parameters()
        if ".layers." in f".{name}" or ".h." in f".{name}"
    )


_LAST: dict[tuple[Any, ...], tuple[Any, Any]] = {}
"""What was loaded -> model and tokenizer. One is kept: the jobs of a sweep read the same."""


def _model(path: str, layers: Sequence[int], device: str, adapter: Adapter | None) -> Any:
    try:
        model = AutoModel.from_pretrained(path, dtype=fast_dtype(device), trust_remote_code=False)
    except Exception as error:
        # A pickle that holds more than tensors, which is not read, has a type of its own.
        raise ConfigError(
            f"simulate.encoder={path} cannot be loaded: {excerpt(str(error))}"
        ) from error
    n_layers = model.config.num_hidden_layers
    if not layers or max(layers) > n_layers or min(layers) < 0:
        raise ConfigError(
            f"simulate.encoder_layers={list(layers)}: {path} has layers 0 to {n_layers}"
        )
    if hasattr(model, "layers") and hasattr(model, "norm"):
        if max(layers) < n_layers:
            # The last hidden state passes through the final norm, which no other layer's does.
            model.norm = torch.nn.Identity()
        model.layers = model.layers[: max(layers)]
    if adapter:
        merge(model, adapter)
    return model.eval().to(device)


@dataclass
class Encoder:
    """A causal LM cut off above the highest layer that is read."""

    model: Any
    tokenizer: Any
    layers: tuple[int, ...]
    n_tokens: int = 0
    """Encoder tokens read so far."""

    @classmethod
    def load(
        cls, path: str, layers: Sequence[int], device: str, adapter: Adapter | None = None
    ) -> Encoder:
        """Loads a checkpoint directory or hub name, or takes the one that was loaded last. Raises
        ConfigError if a layer, or what the adapter changes, does not exist."""
        parts = [
            part
            for name in sorted(adapter or {})
            for part in (name.encode(), (adapter or {})[name].tobytes())
        ]
        key = (path, tuple(layers), device, hashlib.sha256(b"".join(parts)).hexdigest())
        if key not in _LAST:
            loaded = _model(path, layers, device, adapter), tokenizer_of(path)
            _LAST.clear()
            _LAST[key] = loaded
        return cls(*_LAST[key], tuple(layers))

    @property
    def n_features(self) -> int:
        return len(self.layers) * int(self.model.config.hidden_size)

    @property
    def width(self) -> int:
        return self.n_features

    @property
    def dtype(self) -> str:
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def multiply_adds(self) -> int:
        return block_weights(self.model)

    def encode(
        self, texts: Iterable[Sequence[str]], batch_size: int = 16
    ) -> Iterator[NDArray[np.float16]]:
        """texts: subject tokens as strings, per text; yields features [token, feature] per text, in
        order."""
        every = iter(texts)
        while batch := list(islice(every, batch_size)):
            joined = ["".join(text) or " " for text in batch]
            states = self.states(joined, batch_size)
            for text, whole, own in zip(batch, joined, states, strict=True):
                encoded = self.tokenizer(
                    whole, return_offsets_mapping=True, add_special_tokens=False
                )
                read = own[last_encoder_tokens(text, encoded["offset_mapping"])]
                # float16 holds the massive activations of some positions only after clipping.
                yield np.clip(read, -60000, 60000).astype(np.float16)

    def states(self, texts: Sequence[str], batch_size: int = 16) -> Iterator[NDArray[np.float32]]:
        """Hidden states of each text's own encoder tokens [token, feature], layers side by side, in
        order.

        Raises LabelerError for a text that is longer than the model's context.
        """
        device = next(self.model.parameters()).device
        context = getattr(self.model.config, "max_position_embeddings", None)
        for start in range(0, len(texts), batch_size):
            encoded = [
                self.tokenizer.encode(text, add_special_tokens=False)
                for text in texts[start : start + batch_size]
            ]
            longest = max(map(len, encoded))
            if context is not None and longest > context:
                raise LabelerError(
                    f"a text of {longest} tokens is longer than the encoder's context of {context}: cut it"
                )
            self.n_tokens += sum(map(len, encoded))
            ids = torch.zeros(len(encoded), longest, dtype=torch.long)
            mask = torch.zeros(len(encoded), longest, dtype=torch.long)
            for row, own in enumerate(encoded):
                ids[row, : len(own)] = torch.tensor(own)
                mask[row, : len(own)] = 1
            with torch.inference_mode():
                states = self.model(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    output_hidden_states=True,
                    use_cache=False,
                ).hidden_states
                joined = torch.cat([states[layer] for layer in self.layers], dim=-1)
            features = joined.float().cpu().numpy()
            for row, own in enumerate(encoded):
                yield features[row, : len(own)]
