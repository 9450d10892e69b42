"""Hidden states of a language model on plain text, one row per subject token: the features of the
dense simulators.

A subject token takes the last encoder token of the text up to its own end, cut into tokens without
a look at later text (`simulators.reading`). So no feature knows more than the subject has read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel

from interp_by_construction.engine.runtime import fast_dtype
from interp_by_construction.errors import ConfigError, LabelerError
from interp_by_construction.llm.beginning import beginning
from interp_by_construction.llm.embedded import tokenizer_of
from interp_by_construction.llm.pretrained import CheckpointError, read_weights
from interp_by_construction.simulators.adapter import Adapter, adapter_identity, merge
from interp_by_construction.simulators.reading import BREAK, PrefixTree, cutter, prefix_tree


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


HEADS = ("lm_head", "embed_out")
"""Parts of a language model that read no hidden states for others."""

BRANCH_ERROR = 0.2
"""Largest difference of a feature read in a tree and alone, in standard deviations of a row: far
more than rounding, far less than another position or another text makes."""

TREE = (
    "it cannot read the prefixes of a text as a tree, which keeps later text from the simulator; give a causal model that takes "
    "position_ids and a mask of its own, such as Llama, Qwen, Gemma, GPT-2 or GPT-NeoX"
)

_LAST: dict[tuple[Any, ...], tuple[Any, Any]] = {}
"""What was loaded -> model and tokenizer. One is kept: the jobs of a sweep read the same."""


def _model(path: str, layers: Sequence[int], device: str, adapter: Adapter | None) -> Any:
    try:
        model = read_weights(AutoModel, path, spare=HEADS, dtype=fast_dtype(device))
    except CheckpointError as error:
        raise ConfigError(f"simulate.encoder={path}: it cannot be loaded: {error}") from error
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
        ConfigError for a checkpoint that is missing or incomplete, and if a layer, or what the
        adapter changes, does not exist."""
        key = (path, tuple(layers), device, adapter_identity(adapter or {}))
        if key not in _LAST:
            loaded = _model(path, layers, device, adapter), tokenizer_of(path)
            cls(*loaded, tuple(layers))._check_branches(path)
            _LAST.clear()
            _LAST[key] = loaded
        return cls(*_LAST[key], tuple(layers))

    def _check_branches(self, path: str) -> None:
        """Raises ConfigError for a model that does not read a branch of a tree as the text that it
        stands for, such as one that counts positions itself."""
        n = int(self.model.config.vocab_size)
        ids = np.array([n // 4, n // 3, n // 2])
        tree = PrefixTree(ids, np.array([-1, 0, 0]), np.array([0, 1, 1]), np.array([2]))
        device = next(self.model.parameters()).device
        try:
            branch = self._of_trees([tree])[0, 2]
            alone = self._read(torch.from_numpy(ids[[0, 2]])[None].to(device))[0, 1]
            far = float(np.abs(branch - alone).max() / alone.std())
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise ConfigError(f"simulate.encoder={path}: {TREE} ({error})") from error
        if not far < BRANCH_ERROR:
            raise ConfigError(f"simulate.encoder={path}: {TREE}")

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
        order. Raises LabelerError for a text that is longer than the model's context."""
        every = iter(texts)
        while batch := list(islice(every, batch_size)):
            trees = [self._tree(text) for text in batch]
            for tree, states in zip(trees, self._of_trees(trees), strict=True):
                # float16 holds the massive activations of some positions only after clipping.
                yield np.clip(states[tree.ends], -60000, 60000).astype(np.float16)

    def states(self, texts: Sequence[str], batch_size: int = 16) -> Iterator[NDArray[np.float32]]:
        """Hidden states of each text's own encoder tokens [token, feature], layers side by side, in
        order. The token that the encoder expects before a text is read, too, and left out.

        Raises LabelerError for a text that is longer than the model's context.
        """
        device = next(self.model.parameters()).device
        begin, cut = beginning(self.tokenizer), cutter(self.tokenizer)
        for start in range(0, len(texts), batch_size):
            encoded = [[*begin, *own] for own in cut(list(texts[start : start + batch_size]))]
            self._check_length(max(map(len, encoded)))
            self.n_tokens += sum(map(len, encoded))
            ids, mask = padded(encoded), padded([[1] * len(own) for own in encoded])
            features = self._read(ids.to(device), attention_mask=mask.to(device))
            for row, own in enumerate(encoded):
                yield features[row, len(begin) : len(own)]

    def _tree(self, pieces: Sequence[str]) -> PrefixTree:
        """All prefixes of a text behind what the encoder expects before it. Where nothing has been
        read, a line break is: every subject token has a row."""
        tree = prefix_tree(cutter(self.tokenizer), pieces)
        if (tree.ends < 0).any():
            line_break, stop = cutter(self.tokenizer)([BREAK, "."])
            nothing = line_break or stop
            n = len(tree.ids)
            tree = PrefixTree(
                np.concatenate([tree.ids, nothing]),
                np.concatenate([tree.parents, [-1], n + np.arange(len(nothing) - 1)]),
                np.concatenate([tree.depths, np.arange(len(nothing))]),
                np.where(tree.ends < 0, n + len(nothing) - 1, tree.ends),
            )
        tree = tree.behind(beginning(self.tokenizer))
        self._check_length(int(tree.depths.max(initial=0)) + 1)
        return tree

    def _of_trees(self, trees: Sequence[PrefixTree]) -> NDArray[np.float32]:
        """Hidden states of each tree's nodes, [tree, node, feature], padded."""
        device = next(self.model.parameters()).device
        ids, positions = padded([t.ids for t in trees]), padded([t.depths for t in trees])
        longest = ids.shape[1]
        seen = torch.eye(longest, dtype=torch.bool).repeat(len(trees), 1, 1)
        for row, tree in enumerate(trees):
            n = len(tree.ids)
            seen[row, :n, :n] = torch.from_numpy(tree.ancestors())
        self.n_tokens += sum(len(tree.ids) for tree in trees)
        mask = torch.zeros(seen.shape, dtype=self.model.dtype)
        mask.masked_fill_(~seen, torch.finfo(self.model.dtype).min)
        return self._read(
            ids.to(device),
            attention_mask=mask[:, None].to(device),
            position_ids=positions.to(device),
        )

    def _read(self, ids: Tensor, **how: Tensor) -> NDArray[np.float32]:
        """Hidden states of the layers side by side, [text, pos, feature]."""
        with torch.inference_mode():
            states = self.model(
                input_ids=ids, **how, output_hidden_states=True, use_cache=False
            ).hidden_states
            joined = torch.cat([states[layer] for layer in self.layers], dim=-1)
        features: NDArray[np.float32] = joined.float().cpu().numpy()
        return features

    def _check_length(self, n: int) -> None:
        context = getattr(self.model.config, "max_position_embeddings", None)
        if context is not None and n > context:
            raise LabelerError(
                f"a text of {n} tokens is longer than the encoder's context of {context}: cut it"
            )


def padded(rows: Sequence[Sequence[int] | NDArray[np.int64]]) -> Tensor:
    """[row, longest], zeros behind each row."""
    found = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for at, own in zip(found, rows, strict=True):
        at[: len(own)] = torch.as_tensor(own)
    return found
