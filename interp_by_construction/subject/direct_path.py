"""What a node writes straight into the logits: its output direction read through the final norm and
the unembedding.

The logit lens (nostalgebraist 2020, https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru) applied to
the value vectors of an MLP (Geva et al. 2022, https://arxiv.org/abs/2203.14680). Everything between
the layer and the head is left out, so the lower the layer, the smaller the part of its effect that
is seen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from interp_by_construction.subject.families import block, family_of, output_directions


@torch.no_grad()
def direct_logits(model: PreTrainedModel, layer: int, nodes: Any) -> Tensor:
    """Change of the logits per unit of activation of each node, [node, vocab], float32 on the CPU,
    mean over the vocabulary 0.

    Norms are linear here: their scale is that of the residual stream and is held fixed (it is a
    positive factor, which changes no order and is set to 1), so that a LayerNorm centres and
    multiplies by its weight and an RMSNorm multiplies by its weight. Biases move all nodes alike
    and are left out.
    """
    family, head = family_of(model), model.get_output_embeddings()
    effect = output_directions(model, layer)[torch.as_tensor(nodes, dtype=torch.long)].float()
    for name in family.after_mlp:
        effect = _linear(block(model, layer).get_submodule(name), effect)
    for name in family.tail:
        module = _module(model, name)
        if module is not None and module is not head:
            effect = _linear(module, effect)
    logits = torch.einsum("nd,vd->nv", effect, head.weight.float())
    return (logits - logits.mean(dim=1, keepdim=True)).cpu()


def _module(model: nn.Module, path: str) -> nn.Module | None:
    """None where this checkpoint does without it."""
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Module) else None


def _linear(module: nn.Module, x: Tensor) -> Tensor:
    """x: [node, d_model] through a projection, or through a norm of scale 1."""
    if isinstance(module, nn.Linear):
        return nn.functional.linear(x, module.weight.float())
    if isinstance(module, nn.LayerNorm):
        centred = x - x.mean(dim=1, keepdim=True)
        return centred if module.weight is None else centred * module.weight.float()
    # Some RMS norms multiply by 1 + weight: a vector of ones has scale 1 and shows the factor.
    return x * module(torch.ones(1, x.shape[1], device=x.device)).float()
