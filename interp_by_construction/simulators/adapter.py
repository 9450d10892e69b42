"""Low-rank adapters of an encoder (Hu et al. 2022): a linear map W of the model becomes W + up @
down.

`tools/tune_encoder.py` trains them together with a head, which then carries them in its file.
They are merged when the encoder is loaded, so that an adapted encoder costs what the plain one
does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from interp_by_construction.errors import ConfigError

Adapter = Mapping[str, NDArray[np.float32]]
"""`MODULE.down` [rank, in] and `MODULE.up` [out, rank] for every module that is adapted."""


def adapter_identity(adapter: Adapter) -> str:
    """sha256 of all names and weights."""
    digest = hashlib.sha256()
    for name in sorted(adapter):
        digest.update(name.encode() + adapter[name].tobytes())
    return digest.hexdigest()


def merge(model: nn.Module, adapter: Adapter) -> None:
    """Adds `up @ down` to the weights of the modules that `adapter` names, in place; computed in
    single precision.

    Raises ConfigError where the model has no such linear map.
    """
    modules = dict(model.named_modules())
    with torch.no_grad():
        for name in sorted({key.rpartition(".")[0] for key in adapter}):
            up, down = (
                torch.as_tensor(adapter[f"{name}.{part}"]).float() for part in ("up", "down")
            )
            weight = getattr(modules.get(name), "weight", None)
            if weight is None or tuple(weight.shape) != (up.shape[0], down.shape[1]):
                raise ConfigError(
                    f"simulate.encoder: the head's adapter changes {name} ({up.shape[0]} x {down.shape[1]}), which this encoder "
                    "does not have; use the encoder that the head was trained for"
                )
            weight.copy_(weight.float() + (up @ down).to(weight.device))
