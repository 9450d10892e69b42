"""The device that a run computes on."""

from __future__ import annotations

import torch

from interp_by_construction.errors import ConfigError


def resolve_device(device: str) -> str:
    """`auto` becomes cuda where there is one.

    Raises:
        ConfigError: cuda was asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.device=cuda, but torch sees no CUDA device; use trainer.device=auto or cpu"
        )
    return device
