"""Interventions: nodes are set to constants or to what their labels say, or MLPs are removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.subject.families import mlp_out
from interp_by_construction.subject.hooks import changed


class Simulated(NamedTuple):
    """What labels say on a passage."""

    passage: Passage
    values: NDArray[Any]
    """Simulated activations, [block, pos, node]; any float type, may be a memory map."""

    def part(self, at: slice | NDArray[np.int64]) -> Simulated:
        """Some of the blocks."""
        return Simulated(self.passage.part(at), self.values[at])

    def on_text(self) -> NDArray[Any]:
        """Simulated activations where there is text, [token, node]."""
        return np.asarray(self.values)[self.passage.is_text]


class Intervention(NamedTuple):
    """What some nodes of one layer are set to."""

    layer: int
    nodes: NDArray[np.int64]
    values: Callable[[slice], NDArray[Any]]
    """Blocks of a passage -> values that broadcast to [batch, pos, node]."""
    places: Callable[[slice], NDArray[np.bool_]] | None = None
    """Blocks of a passage -> where each node is set, [batch, pos, node]; None: on all text."""


def constant(
    layer: int, nodes: NDArray[np.int64], values: NDArray[np.float64] | float
) -> Intervention:
    """Sets nodes to constants. values: [node], or one for all."""
    held = np.broadcast_to(values, len(nodes))
    return Intervention(layer, nodes, lambda _: held)


@contextmanager
def intervened(
    model: nn.Module, interventions: Sequence[Intervention], at: slice, text: Tensor
) -> Iterator[None]:
    """Forward passes inside the block, over blocks `at` of a passage, see all interventions.

    text: where nodes are set that have no `places`, bool [batch, pos].
    """
    device = text.device
    with ExitStack() as stack:
        for each in interventions:
            values = np.asarray(each.values(at), dtype=np.float32)
            where = text if each.places is None else torch.tensor(each.places(at), device=device)
            nodes, wanted = (torch.as_tensor(a, device=device) for a in (each.nodes, values))
            stack.enter_context(replaced(model, each.layer, nodes, wanted, where))
        yield


def replaced(
    model: nn.Module, layer: int, nodes: Tensor, values: Tensor, where: Tensor
) -> AbstractContextManager[None]:
    """Forward passes inside the block see other activations of some nodes.

    nodes: ids, long [node]; values broadcast to [batch, pos, node]; where: bool [batch, pos] or
    [batch, pos, node]. Elsewhere the nodes stay what they are.
    """
    each = where if where.dim() == 3 else where[..., None]

    def change(real: Tensor) -> Tensor:
        # Some families flatten batch and pos before the MLP.
        shape = real.shape[:-1]
        wanted = values.expand(*where.shape[:2], len(nodes)).reshape(*shape, len(nodes))
        chosen = each.reshape(*shape, each.shape[-1])
        new = real.clone()
        new[..., nodes] = torch.where(chosen, wanted.to(real.dtype), real[..., nodes])
        return new

    return changed(model, layer, change)


@torch.no_grad()
def mean_output(model: nn.Module, layer: int, batches: Iterable[Tensor], first: int = 0) -> Tensor:
    """Mean over tokens of what the layer's output projection writes, float32 [d_model], CPU.

    batches: ids [batch, pos]; first: the position from which tokens count. Raises ValueError if
    there is no batch.
    """
    total: Tensor | None = None
    count = n_blocks = 0

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
        nonlocal total, count
        by_block = output.reshape(n_blocks, -1, output.shape[-1])
        flat = by_block[:, first:].flatten(0, 1).double()
        total = flat.sum(dim=0) + (0 if total is None else total)
        count += len(flat)

    with mlp_out(model, layer).register_forward_hook(hook):
        for ids in batches:
            n_blocks = len(ids)
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
