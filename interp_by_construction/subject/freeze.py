"""Which parameters are frozen (invariant 1), and a guard that keeps them bit for bit.

A frozen set maps names of parameters to None (the whole parameter) or to a bool mask of its shape
(True: frozen). It holds everything that the aligned activations of some layer depend on, so the
sets grow from layer to layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from interp_by_construction.subject.families import Family, family_of, layer_family, mixes_nodes

Frozen = dict[str, Tensor | None]
LayerNodes = tuple[int, Sequence[int]]
"""A layer and its aligned nodes."""


def _under(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def _place(name: str, family: Family) -> tuple[int | None, str]:
    """Block index and the name within the block; (None, name) outside the blocks."""
    prefix = family.blocks + "."
    if not name.startswith(prefix):
        return None, name
    index, rest = name[len(prefix) :].split(".", 1)
    return int(index), rest


def _below(model: nn.Module, layer: int) -> Frozen:
    """Embeddings and all blocks below a layer."""
    family = family_of(model)
    frozen: Frozen = {}
    for name, _ in model.named_parameters():
        index, rest = _place(name, family)
        is_below = index < layer if index is not None else not _under(rest, family.tail)
        if is_below:
            frozen[name] = None
    return frozen


def frozen_below(model: nn.Module, start_layer: int) -> Frozen:
    """Embeddings and all blocks below `start_layer`. Nothing for layer 0: its align trains them."""
    return _below(model, start_layer) if start_layer else {}


def upstream(model: nn.Module, layer: int, nodes: Sequence[int]) -> Frozen:
    """Everything that the activations of `nodes` in `layer` depend on.

    These are the embeddings, all lower blocks, and in block `layer` the norms, the attention (not
    in a parallel block) and the nodes' own rows of every input projection, biases included. If the
    activation mixes the nodes, as SoLU and TopK do, they depend on every input row, and with SoLU
    also on their own entries of the norm. Unknown modules count as upstream.
    """
    family, mixed = layer_family(model, layer), mixes_nodes(model, layer)
    own_rows = (family.act,) if mixed else family.mlp_in
    unread = (family.mlp_out, *family.beside_nodes, *family.attention_only, *family.after_mlp)
    frozen = _below(model, layer)
    for name, parameter in model.named_parameters():
        index, rest = _place(name, family)
        if index == layer and not _under(rest, unread):
            frozen[name] = _rows(parameter, nodes, family) if _under(rest, own_rows) else None
    return frozen


def _rows(parameter: Tensor, nodes: Sequence[int], family: Family) -> Tensor:
    mask = torch.zeros_like(parameter, dtype=torch.bool)
    chosen = torch.as_tensor(list(nodes), dtype=torch.long, device=mask.device)
    # A Linear weight is [node, d_model]; a Conv1D weight is [d_model, node] and a bias [node].
    return mask.index_fill_(-1 if family.conv1d else 0, chosen, True)


def frozen_for_align(model: nn.Module, layer: int, below: LayerNodes | None) -> Frozen:
    """What stays fixed while `layer` is aligned: all that the aligned nodes `below` depend on.

    If no layer is aligned yet, this is all that lies below `layer`.
    """
    if below is None:
        return frozen_below(model, layer)
    if below[0] >= layer:
        raise ValueError(f"layer {layer} cannot be aligned after layer {below[0]}")
    return upstream(model, *below)


def frozen_for_local(model: nn.Module, layer: int, below: LayerNodes | None) -> Frozen:
    """As `frozen_for_align`, and everything outside block `layer`."""
    family = family_of(model)
    names = (name for name, _ in model.named_parameters())
    outside: Frozen = {name: None for name in names if _place(name, family)[0] != layer}
    return frozen_for_align(model, layer, below) | outside


def frozen_for_continue(model: nn.Module, layer: int, aligned: Sequence[int]) -> Frozen:
    """What stays fixed from the freeze of `layer` on."""
    return upstream(model, layer, aligned)


def frozen_digest(model: nn.Module, frozen: Mapping[str, Tensor | None]) -> str:
    """sha256 of the frozen entries. Training that respects `frozen` does not change it."""
    digest = hashlib.sha256()
    parameters = dict(model.named_parameters())
    for name in sorted(frozen):
        mask, value = frozen[name], parameters[name].detach().cpu()
        kept = value if mask is None else value[mask.cpu()]
        digest.update(name.encode() + b"\0" + kept.contiguous().numpy().tobytes())
    return digest.hexdigest()


class FreezeGuard:
    """Holds a frozen set fixed during training, until `release`.

    Whole parameters lose `requires_grad` and never reach the optimizer. Masked entries get zero
    gradients, so that they do not count in the clipped norm. Weight decay or momentum may still
    change them: `restore` puts them back bit for bit after every optimizer step.
    """

    def __init__(self, model: nn.Module, frozen: Mapping[str, Tensor | None]) -> None:
        parameters = dict(model.named_parameters())
        unknown = sorted(set(frozen) - set(parameters))
        if unknown:
            raise ValueError(f"no such parameters: {unknown[:3]}")
        self._check_untied(model, {id(parameters[name]) for name in frozen})
        self._parameters = parameters
        self._masked: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._handles: list[Any] = []
        for name, parameter in parameters.items():
            mask = frozen.get(name)
            whole = name in frozen and (mask is None or bool(mask.all()))
            parameter.requires_grad_(not whole)
            if mask is None or whole:
                continue
            mask = mask.to(parameter.device)
            self._masked.append((parameter, mask, parameter.detach().clone()))
            self._handles.append(
                parameter.register_hook(
                    lambda grad, m=mask: grad.masked_fill(m.to(grad.device), 0.0)
                )
            )

    @staticmethod
    def _check_untied(model: Any, frozen_ids: set[int]) -> None:
        get_head = getattr(model, "get_output_embeddings", None)
        head = get_head() if get_head else None
        if (
            head is not None
            and id(head.weight) in frozen_ids
            and head.weight is model.get_input_embeddings().weight
        ):
            raise ValueError(
                "the head is tied to a frozen embedding and could not train; call untie(model) first"
            )

    def trainable(self) -> list[nn.Parameter]:
        """Parameters for the optimizer."""
        return [parameter for parameter in self._parameters.values() if parameter.requires_grad]

    @torch.no_grad()
    def restore(self) -> None:
        """Puts masked entries back; call after every optimizer step."""
        for index, (parameter, mask, reference) in enumerate(self._masked):
            if mask.device != parameter.device:
                mask, reference = mask.to(parameter.device), reference.to(parameter.device)
                self._masked[index] = (parameter, mask, reference)
            parameter.copy_(torch.where(mask, reference, parameter))

    def release(self) -> None:
        """Removes the hooks and makes everything trainable again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._masked.clear()
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
            parameter.grad = None
