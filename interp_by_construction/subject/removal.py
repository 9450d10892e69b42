"""A layer without its MLP: a constant stands in for what the output projection writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interp_by_construction.subject.families import mlp_out


@torch.no_grad()
def mean_output(model: nn.Module, layer: int, batches: Iterable[Tensor]) -> Tensor:
    """Mean over all tokens of what the layer's output projection writes, float32 [d_model], CPU.

    batches: ids [batch, pos]. Raises ValueError if there is no batch.
    """
    total: Tensor | None = None
    count = 0

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
        nonlocal total, count
        flat = output.reshape(-1, output.shape[-1]).double()
        total = flat.sum(dim=0) + (0 if total is None else total)
        count += len(flat)

    with mlp_out(model, layer).register_forward_hook(hook):
        for ids in batches:
            model(ids, use_cache=False)
    if total is None:
        raise ValueError("a mean needs text")
    return (total / count).float().cpu()


@contextmanager
def constant_outputs(model: nn.Module, values: Mapping[int, Tensor]) -> Iterator[None]:
    """Inside the block, the MLP of each layer in `values` writes that constant [d_model].

    The MLP's parameters get no gradient, so that no optimizer changes them.
    """
    with ExitStack() as stack:
        for layer, value in values.items():

            def hook(
                _module: nn.Module, _args: Any, output: Tensor, value: Tensor = value
            ) -> Tensor:
                return value.to(output).expand_as(output)

            stack.enter_context(mlp_out(model, layer).register_forward_hook(hook))
        yield
