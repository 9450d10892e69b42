"""Trainable low-rank adapters (LoRA, Hu et al. 2022) beside the frozen linear maps of a model."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class LowRank(nn.Module):
    """x -> base(x) + up(down(x)), of which only `up` and `down` are trained; `up` starts at zero,
    so nothing changes at first."""

    def __init__(self, base: nn.Linear, rank: int, dropout: float) -> None:
        super().__init__()
        self.base = base
        device = base.weight.device
        self.down = nn.Linear(
            base.in_features, rank, bias=False, device=device, dtype=torch.float32
        )
        self.up = nn.Linear(rank, base.out_features, bias=False, device=device, dtype=torch.float32)
        nn.init.zeros_(self.up.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.up(self.down(self.dropout(x)))
        return self.base(x) + added


def attach(model: nn.Module, rank: int, dropout: float, first: int = 0) -> dict[str, LowRank]:
    """Freezes `model` and puts an adapter beside every linear map of its blocks from the `first`
    on, in place.

    Returns the adapters by module name.
    """
    model.requires_grad_(False)
    linear = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "layers." in name and _block(name) >= first
    ]
    found = {}
    for name, module in linear:
        parent, _, own = name.rpartition(".")
        found[name] = LowRank(module, rank, dropout)
        setattr(model.get_submodule(parent), own, found[name])
    return found


def weights_of(adapters: dict[str, LowRank]) -> dict[str, NDArray[np.float32]]:
    """`NAME.down` [rank, in] and `NAME.up` [out, rank] of every adapter."""
    return {
        f"{name}.{part}": getattr(adapter, part).weight.detach().float().cpu().numpy()
        for name, adapter in adapters.items()
        for part in ("down", "up")
    }


def set_weights(adapters: dict[str, LowRank], weights: dict[str, NDArray[np.floating]]) -> None:
    """Sets the adapters to what `weights_of` gave; raises ValueError where it does not fit."""
    names = {f"{name}.{part}" for name in adapters for part in ("down", "up")}
    if odd := names ^ weights.keys():
        raise ValueError(f"these weights are of other adapters: {sorted(odd)[0]} is not in both")
    for name, adapter in adapters.items():
        for part in ("down", "up"):
            own, new = getattr(adapter, part).weight, torch.from_numpy(weights[f"{name}.{part}"])
            if own.shape != new.shape:
                raise ValueError(f"{name}.{part}: {list(new.shape)}, needed {list(own.shape)}")
            own.data.copy_(new)


def _block(name: str) -> int:
    """Number of the block that a module is in."""
    return int(name.partition("layers.")[2].partition(".")[0])
