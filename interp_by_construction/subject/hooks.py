"""Node activations: what a layer's output projection reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from interp_by_construction.subject.families import mlp_in, mlp_out


class _Stop(Exception):
    """Ends a forward pass at the hooked layer."""


class Captured:
    """Filled by the forward pass inside `capture`."""

    value: Tensor | None = None

    def of(self, input_ids: Tensor) -> Tensor:
        """Activations [batch, pos, d_mlp] of the pass over `input_ids` [batch, pos]."""
        if self.value is None:
            raise RuntimeError("no forward pass has run inside capture()")
        # Some families flatten batch and pos before the MLP.
        return self.value.reshape(*input_ids.shape, self.value.shape[-1])


@contextmanager
def capture(model: nn.Module, layer: int, stop: bool = False) -> Iterator[Captured]:
    """Records a layer's activations, with their gradients, during forward passes inside the block.

    With `stop` the pass ends there, and a private exception ends the block.
    """
    captured = Captured()

    def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
        captured.value = args[0]
        if stop:
            raise _Stop

    with suppress(_Stop), mlp_out(model, layer).register_forward_pre_hook(hook):
        yield captured


def activations(model: nn.Module, layer: int, input_ids: Tensor, stop: bool = True) -> Tensor:
    """Post-activation nodes [batch, pos, d_mlp] of `layer` for `input_ids` [batch, pos].

    With `stop` nothing above the layer is computed. Gradients flow.
    """
    with capture(model, layer, stop=stop) as captured:
        model(input_ids, use_cache=False)
    return captured.of(input_ids)


@contextmanager
def changed(model: nn.Module, layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Forward passes inside the block go on with `change` of the layer's activations.

    Their shape is [batch, pos, d_mlp] or, in some families, [token, d_mlp].
    """

    def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(args[0]), *args[1:])

    with mlp_out(model, layer).register_forward_pre_hook(hook):
        yield


def others_at_mean(
    model: nn.Module, layer: int, nodes: Sequence[int], text: Tensor | None = None
) -> AbstractContextManager[None]:
    """In forward passes inside the block, nodes other than `nodes` have their mean over the batch.

    They get no gradient. text: where they do and what the mean is over, bool [batch, pos]; None:
    everywhere.
    """

    def change(real: Tensor) -> Tensor:
        flat = real.detach().flatten(0, -2)
        if text is None:
            new = flat.mean(0).expand_as(real).clone()
        else:
            where = text.flatten()
            new = torch.where(where[:, None], flat[where].mean(0), flat).reshape(real.shape)
        new[..., nodes] = real[..., nodes]
        return new

    return changed(model, layer, change)


class MlpFlow(NamedTuple):
    """What an MLP reads (after the norm) and what it writes (before any norm that follows)."""

    read: Tensor
    """[token, d_model]"""
    written: Tensor
    """[token, d_model]"""


@torch.no_grad()
def mlp_flow(model: nn.Module, layer: int, input_ids: Tensor, first: int = 0) -> MlpFlow:
    """Input and output of a layer's MLP for `input_ids` [batch, pos], tokens in reading order.
    first: the position from which tokens are kept."""
    seen: list[Tensor] = []

    def reads(_module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0])

    def writes(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        seen.append(output)
        raise _Stop

    with (
        suppress(_Stop),
        mlp_in(model, layer)[0].register_forward_pre_hook(reads),
        mlp_out(model, layer).register_forward_hook(writes),
    ):
        model(input_ids, use_cache=False)
    if not first:
        return MlpFlow(*(each.flatten(0, -2) for each in seen))
    by_block = (each.reshape(*input_ids.shape, each.shape[-1]) for each in seen)
    return MlpFlow(*(each[:, first:].flatten(0, 1) for each in by_block))
