"""Where each supported architecture keeps its parts: a table with one row per family.

In every family, gated ones included, the output projection of an MLP reads the neurons behind the
activation function. So a forward pre-hook on it gives access to the nodes. The other columns say
which parameters these activations depend on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from interp_by_construction.errors import SubjectError
from interp_by_construction.subject.solu import Solu
from interp_by_construction.subject.transcoder import Transcoder


class Family(NamedTuple):
    """Module paths of one architecture, as in its state dict."""

    blocks: str
    """Path of the list of blocks."""
    mlp_in: tuple[str, ...]
    """Input projections, relative to the block (two for gated MLPs)."""
    mlp_out: str
    """Output projection, relative to the block."""
    tail: tuple[str, ...]
    """Everything outside the blocks that comes after them."""
    attention_only: tuple[str, ...] = ()
    """Modules that a parallel block's MLP does not read."""
    after_mlp: tuple[str, ...] = ()
    """Modules of the block that come after the output projection."""
    conv1d: bool = False
    """Weights are stored [in, out]."""
    width: str = "intermediate_size"
    """Field of the config that holds the number of neurons per layer."""
    act: str = ""
    """Activation module, relative to the block, if it may have parameters (`subject.solu`)."""
    mlp: str = "mlp"
    """Module of the block that a dictionary replaces."""
    around_mlp: tuple[str, ...] = ()
    """Modules of the block that do nothing beside a dictionary."""
    beside_nodes: tuple[str, ...] = ()
    """Modules of the MLP that its nodes do not read (a dictionary's skip connection)."""


_GATED = ("mlp.gate_proj", "mlp.up_proj")
_LLAMA = Family("model.layers", _GATED, "mlp.down_proj", ("model.norm", "lm_head"))
_GEMMA2 = _LLAMA._replace(after_mlp=("post_feedforward_layernorm",))
_GPT_NEO = Family("transformer.h", ("mlp.c_fc",), "mlp.c_proj", ("transformer.ln_f", "lm_head"))

FAMILIES: dict[str, Family] = {
    "gpt2": _GPT_NEO._replace(conv1d=True, width="n_inner", act="mlp.act"),
    "gpt_neo": _GPT_NEO,
    "gpt_neox": Family(
        "gpt_neox.layers",
        ("mlp.dense_h_to_4h",),
        "mlp.dense_4h_to_h",
        ("gpt_neox.final_layer_norm", "lm_head", "embed_out"),
        attention_only=("input_layernorm", "attention"),
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "smollm3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "opt": Family(
        "model.decoder.layers",
        ("fc1",),
        "fc2",
        ("model.decoder.final_layer_norm", "model.decoder.project_out", "lm_head"),
        width="ffn_dim",
        mlp="fc2",
        around_mlp=("fc1", "activation_fn"),
    ),
}
"""Keyed by `config.model_type`."""


def family_of(model_or_config: Any) -> Family:
    """The row for a model or its config. Raises SubjectError if the table has none."""
    config = getattr(model_or_config, "config", model_or_config)
    kind = getattr(config, "model_type", None)
    if kind not in FAMILIES:
        raise SubjectError(
            f"architecture {kind!r} is not supported; use a checkpoint of one of: {', '.join(FAMILIES)}"
        )
    family = FAMILIES[kind]
    if kind == "gpt_neox" and not config.use_parallel_residual:
        family = family._replace(attention_only=())
    if kind == "opt" and not config.do_layer_norm_before:
        family = family._replace(after_mlp=("final_layer_norm",))
    return family


def transcoder_of(model: nn.Module, layer: int) -> Transcoder | None:
    """The dictionary that replaces a layer's MLP, or None."""
    found = block(model, layer).get_submodule(family_of(model).mlp)
    return found if isinstance(found, Transcoder) else None


def layer_family(model: nn.Module, layer: int) -> Family:
    """The row for one layer, adjusted if a dictionary replaces its MLP."""
    family, found = family_of(model), transcoder_of(model, layer)
    if found is None:
        return family
    path = family.mlp
    skip = () if found.skip is None else (f"{path}.skip",)
    encoder, decoder = (f"{path}.encoder",), f"{path}.decoder"
    return family._replace(mlp_in=encoder, mlp_out=decoder, conv1d=False, act="", beside_nodes=skip)


def blocks(model: nn.Module) -> nn.ModuleList:
    """The transformer blocks, lowest first."""
    found = model.get_submodule(family_of(model).blocks)
    assert isinstance(found, nn.ModuleList)
    return found


def n_layers(model: nn.Module) -> int:
    """Number of blocks."""
    return len(blocks(model))


def block(model: nn.Module, layer: int) -> nn.Module:
    """One block. Raises SubjectError if there is no such layer."""
    count = n_layers(model)
    if not 0 <= layer < count:
        raise SubjectError(f"layer {layer} does not exist; this model has layers 0 to {count - 1}")
    return blocks(model)[layer]


def mlp_in(model: nn.Module, layer: int) -> list[nn.Module]:
    """Input projections of a layer's MLP: one, or gate and up."""
    return [block(model, layer).get_submodule(name) for name in layer_family(model, layer).mlp_in]


def mlp_out(model: nn.Module, layer: int) -> nn.Module:
    """Output projection of a layer's MLP; its input is the layer's nodes."""
    return block(model, layer).get_submodule(layer_family(model, layer).mlp_out)


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def d_mlp(model: nn.Module, layer: int) -> int:
    """Number of nodes of a layer."""
    return _weight(mlp_out(model, layer)).shape[0 if layer_family(model, layer).conv1d else 1]


def mixes_nodes(model: nn.Module, layer: int) -> bool:
    """Whether each node of a layer depends on the inputs of all nodes, as with SoLU and TopK."""
    found, name = transcoder_of(model, layer), family_of(model).act
    if found is not None:
        return found.shape.k is not None
    return bool(name) and isinstance(block(model, layer).get_submodule(name), Solu)


def input_directions(model: nn.Module, layer: int) -> list[Tensor]:
    """What each node reads: one [node, d_model] view per input projection."""
    conv1d = layer_family(model, layer).conv1d
    weights = [_weight(module).detach() for module in mlp_in(model, layer)]
    return [weight.T if conv1d else weight for weight in weights]


def output_directions(model: nn.Module, layer: int) -> Tensor:
    """What each node writes: a [node, d_model] view of the output projection."""
    weight = _weight(mlp_out(model, layer)).detach()
    return weight if layer_family(model, layer).conv1d else weight.T


def incoming_weights(
    model: nn.Module, layer: int, nodes: Sequence[int], below: Sequence[int]
) -> Tensor:
    """Direct path weights from nodes of layer - 1 to nodes of `layer`, [node, below].

    Norms and attention are left out. In a gated MLP these are weights to the gate, since it decides
    whether a node fires.
    """
    writes = output_directions(model, layer - 1)[list(below)]
    return input_directions(model, layer)[0][list(nodes)] @ writes.T
