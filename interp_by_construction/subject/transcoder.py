"""A sparse transcoder as a module that replaces an MLP. Its features are the layer's nodes.

    features = activation(encoder(x))
    output   = decoder(features) + skip(x)

activation: ReLU, or ReLU and then only the k largest features of each token. skip: an optional
linear map without bias.

Dunefsky et al. 2024 (https://arxiv.org/abs/2406.11944), Paulo et al. 2025 (skip,
https://arxiv.org/abs/2501.18823), Gao et al. 2024 (TopK, https://arxiv.org/abs/2406.04093). On
disk: the format of EleutherAI's `sparsify`, `cfg.json` beside `sae.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from interp_by_construction.errors import ConfigError
from interp_by_construction.llm.pretrained import CheckpointError, check_fetched
from interp_by_construction.subject.transcoder_files import (
    CONFIG,
    WEIGHTS,
    Shape,
    is_early,
    read_shape,
)

_PARAMETERS = {
    "encoder.weight": "encoder.weight",
    "encoder.bias": "encoder.bias",
    "W_dec": "decoder.weight",
    "b_dec": "decoder.bias",
    "W_skip": "skip.weight",
}
"""Tensor of a file -> parameter of a `Transcoder`. `W_dec` is stored transposed."""


class TopK(nn.Module):
    """ReLU; all but the k largest values of the last axis become 0."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        top = torch.topk(torch.relu(x), self.k, dim=-1, sorted=False)
        return torch.zeros_like(x).scatter(-1, top.indices, top.values)

    def extra_repr(self) -> str:
        return f"k={self.k}"


class Transcoder(nn.Module):
    """[..., d_model] -> [..., d_model] through n_features sparse features."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.encoder = nn.Linear(shape.d_model, shape.n_features)
        self.activation: nn.Module = nn.ReLU() if shape.k is None else TopK(shape.k)
        self.decoder = nn.Linear(shape.n_features, shape.d_model)
        self.skip = nn.Linear(shape.d_model, shape.d_model, bias=False) if shape.skip else None

    @property
    def shape(self) -> Shape:
        """All but the weights."""
        n_features, d_model = self.encoder.weight.shape
        k = getattr(self.activation, "k", None)
        return Shape(d_model, n_features, k, self.skip is not None)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.activation(self.encoder(x)), x)

    def decode(self, features: Tensor, x: Tensor) -> Tensor:
        """features [..., n_features] and the input they came from -> [..., d_model]."""
        output: Tensor = self.decoder(features)
        return output if self.skip is None else output + self.skip(x)


def new_transcoder(shape: Shape, mean_output: Tensor, seed: int) -> Transcoder:
    """A new transcoder as `sparsify` makes it: a random encoder, and all else zero.

    It outputs `mean_output` [d_model], the bias of the decoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transcoder = Transcoder(shape)
    with torch.no_grad():
        transcoder.encoder.bias.zero_()
        transcoder.decoder.weight.zero_()
        transcoder.decoder.bias.copy_(mean_output)
        if transcoder.skip is not None:
            transcoder.skip.weight.zero_()
    return transcoder


def save_transcoder(transcoder: Transcoder, path: Path, extra: Mapping[str, Any]) -> None:
    """Writes `path/cfg.json`, with `extra` entries, and `path/sae.safetensors`."""
    shape = transcoder.shape
    config = {
        "activation": shape.kind,
        "num_latents": shape.n_features,
        "k": shape.k,
        "skip_connection": shape.skip,
        "transcode": True,
        "normalize_decoder": False,
        "d_in": shape.d_model,
        **extra,
    }
    state = transcoder.state_dict()
    tensors = {
        name: (state[own].T if name == "W_dec" else state[own]).cpu().contiguous()
        for name, own in _PARAMETERS.items()
        if own in state
    }
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path / WEIGHTS)
    (path / CONFIG).write_text(json.dumps(config, sort_keys=True))


def load_transcoder(path: Path) -> Transcoder:
    """A transcoder in float32, from a folder as `sparsify` writes it or once wrote it (`is_early`).

    Raises:
        ConfigError: unreadable, not a transcoder, or of a kind that cannot be computed here.
    """
    shape = read_shape(path)
    try:
        check_fetched(path)
    except CheckpointError as error:
        raise ConfigError(f"nodes.path={path}: {error}") from error
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path / WEIGHTS).items()}
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"nodes.path={path}: {WEIGHTS} cannot be read ({error})") from error
    names = [name for name in _PARAMETERS if shape.skip or name != "W_skip"]
    if set(tensors) != set(names):
        raise ConfigError(
            f"nodes.path={path}: {WEIGHTS} holds {sorted(tensors)}, but {CONFIG} asks for {sorted(names)}"
        )
    transcoder = Transcoder(shape)
    state = {
        _PARAMETERS[name]: tensor.T if name == "W_dec" else tensor
        for name, tensor in tensors.items()
    }
    try:
        transcoder.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(
            f"nodes.path={path}: the weights do not have the shapes of {CONFIG}: {error}"
        ) from error
    if is_early(path):
        with torch.no_grad():
            # W (x - b_dec) + b is W x + (b - W b_dec).
            encoder = transcoder.encoder
            encoder.bias.sub_(encoder.weight @ transcoder.decoder.bias)
    return transcoder
