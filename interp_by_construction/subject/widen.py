"""Adds neurons to a layer that write zero until they are trained.

This is function-preserving widening (Chen et al. 2016, https://arxiv.org/abs/1511.05641), with
fresh neurons in place of copies. New neurons come after the old ones, so that node ids stay. If
layers get different widths, `pad` makes a plain transformers checkpoint of the model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interp_by_construction.errors import ConfigError
from interp_by_construction.subject.families import (
    d_mlp,
    layer_family,
    mixes_nodes,
    mlp_in,
    mlp_out,
    n_layers,
)


def widths(model: nn.Module) -> list[int]:
    """Number of neurons of every layer."""
    return [d_mlp(model, layer) for layer in range(n_layers(model))]


def widen(model: nn.Module, layer: int, count: int, seed: int) -> None:
    """Appends `count` free neurons to a layer in place; the model computes the same as before.

    Input rows depend on `seed` alone: weights are normal with the root mean square of the layer's
    own, biases normal with their mean and spread. Output weights are zero, but get a gradient.
    Raises ConfigError if the layer cannot be widened.
    """
    if not count:
        return
    old = d_mlp(model, layer)
    resize(model, layer, old + count)
    generator = torch.Generator().manual_seed(seed)
    conv1d = layer_family(model, layer).conv1d
    with torch.no_grad():
        for module in mlp_in(model, layer):
            weight, bias = _tensor(module, "weight"), _tensor(module, "bias")
            assert weight is not None
            rows = weight.T if conv1d else weight
            scale = float(rows[:old].square().mean().sqrt())
            rows[old:] = _normal(rows[old:], 0.0, scale, generator)
            if bias is not None:
                mean, std = float(bias[:old].mean()), float(bias[:old].std(correction=0))
                bias[old:] = _normal(bias[old:], mean, std, generator)


def pad(model: nn.Module) -> list[int]:
    """Brings every layer to the width of the widest, in place, with neurons whose weights are zero.

    Returns the number of neurons added per layer. Raises ConfigError if a layer cannot be widened.
    """
    before = widths(model)
    for layer in range(len(before)):
        resize(model, layer, max(before))
    return [max(before) - width for width in before]


def resize(model: nn.Module, layer: int, width: int) -> None:
    """Appends neurons of zeros to a layer, in place, until it has `width`.

    Raises ConfigError if the activation mixes the neurons, so that new ones would change old ones.
    """
    old, family = d_mlp(model, layer), layer_family(model, layer)
    if width < old:
        raise ValueError(f"layer {layer} has {old} neurons; it cannot be cut to {width}")
    if width == old:
        return
    if mixes_nodes(model, layer):
        raise ConfigError(
            f"free.count={width - old}: the activation of layer {layer} (SoLU's softmax and LayerNorm, or TopK) runs over all "
            "nodes of the layer, so new ones would change the old ones; set free.count=0, or use relu"
        )
    for module in mlp_in(model, layer):
        _append(module, "weight", 1 if family.conv1d else 0, width - old)
        if _tensor(module, "bias") is not None:
            _append(module, "bias", 0, width - old)
        _describe(module, outputs=width)
    _append(mlp_out(model, layer), "weight", 0 if family.conv1d else 1, width - old)
    _describe(mlp_out(model, layer), inputs=width)


def _append(module: nn.Module, name: str, axis: int, count: int) -> None:
    old = _tensor(module, name)
    assert old is not None
    shape = list(old.shape)
    shape[axis] = count
    # Contiguous, so that a loaded copy gives the same last bits.
    grown = torch.cat([old.detach(), old.new_zeros(shape)], dim=axis).contiguous()
    setattr(module, name, nn.Parameter(grown, requires_grad=old.requires_grad))


def _describe(module: nn.Module, inputs: int | None = None, outputs: int | None = None) -> None:
    """Sets the sizes that the module states beside its weight; a Conv1D computes with `nf`."""
    names = ("nx", "nf") if hasattr(module, "nf") else ("in_features", "out_features")
    for name, value in zip(names, (inputs, outputs), strict=True):
        if value is not None:
            setattr(module, name, value)


def _normal(like: Tensor, mean: float, std: float, generator: torch.Generator) -> Tensor:
    # Drawn on the CPU, so that a seed means the same on every device.
    return (mean + std * torch.randn(like.shape, generator=generator)).to(like)


def _tensor(module: nn.Module, name: str) -> Tensor | None:
    value = getattr(module, name, None)
    assert value is None or isinstance(value, Tensor)
    return value
