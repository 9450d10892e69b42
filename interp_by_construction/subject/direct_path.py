"""What a node writes straight into the logits, through the final norm and the unembedding.

This is the logit lens (nostalgebraist 2020, https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru),
applied to the value vectors of an MLP (Geva et al. 2022, https://arxiv.org/abs/2203.14680). The
layers in between are left out, so the direct path of a low layer is a small part of its effect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from interp_by_construction.corpus import load_tokenizer
from interp_by_construction.corpus.token_texts import TokenTexts
from interp_by_construction.subject.families import block, family_of, output_directions


def promoted_tokens(
    model: PreTrainedModel,
    corpus: Path,
    layer: int,
    nodes: NDArray[Any],
    poles: NDArray[Any],
    n: int,
) -> list[dict[str, Any]]:
    """Per node the `n` tokens whose logits rise most (`promotes`), and fall most (`suppresses`).

    This is for activations in the direction of the node's pole. `*_logits`: the changes, see
    `direct_logits`.
    """
    tokenizer = load_tokenizer(corpus)
    texts = TokenTexts(tokenizer)
    # A head may have more rows than there are tokens.
    logits = direct_logits(model, layer, nodes)[:, : len(tokenizer)]
    effects = logits * torch.as_tensor(poles)[:, None]
    order = torch.argsort(effects, dim=1, descending=True, stable=True)
    records: list[dict[str, Any]] = []
    for node, effect, ids in zip(nodes.tolist(), effects, order, strict=True):
        record: dict[str, Any] = {"node": node}
        for name, chosen in (("promotes", ids[:n]), ("suppresses", ids.flip(0)[:n])):
            record[name] = [texts.alone(token) for token in chosen.tolist()]
            record[f"{name}_logits"] = [float(f"{value:.6g}") for value in effect[chosen].tolist()]
        records.append(record)
    return records


@torch.no_grad()
def direct_logits(model: PreTrainedModel, layer: int, nodes: Any) -> Tensor:
    """Change of the logits per unit of activation of each node, [node, vocab], float32 on the CPU.

    The mean over the vocabulary is 0. Norms are linear here: their scale, a positive factor that
    changes no order, is set to 1. So a LayerNorm centres and multiplies by its weight, and an
    RMSNorm multiplies by its weight. Biases are the same for all nodes and are left out.
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
    """The module, or None if this checkpoint has none of this name."""
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
