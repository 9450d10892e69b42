"""Dictionary layers in a plain checkpoint: a ReLU transcoder without a skip is a wider MLP."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from interp_by_construction.errors import ConfigError
from interp_by_construction.subject.dictionary import KEY, dictionaries
from interp_by_construction.subject.families import family_of, n_layers, transcoder_of
from interp_by_construction.subject.shapes import empty_model
from interp_by_construction.subject.widen import widths

ACTIVATION = ("activation_function", "hidden_act")
"""Field of a config that names the MLP's activation function: one of these."""


def check_dictionaries(config: Any, model_dir: Path) -> None:
    """Raises ConfigError, with all reasons, if a plain checkpoint cannot hold the dictionary layers
    of `config`."""
    found = dictionaries(config)
    if not found:
        return
    reasons = []
    if sparse := [layer for layer, shape in found.items() if shape.k is not None]:
        reasons.append(f"layers {sparse} keep only the k largest features of a token (TopK)")
    if skipping := [layer for layer, shape in found.items() if shape.skip]:
        reasons.append(f"layers {skipping} have a skip connection beside the features")
    if len(family_of(config).mlp_in) > 1:
        reasons.append(f"an MLP of {config.model_type} is gated and a transcoder is not")
    others = [layer for layer in range(config.num_hidden_layers) if layer not in found]
    activation = getattr(config, _activation_field(config))
    if others and activation != "relu":
        reasons.append(
            f"layers {sorted(found)} use relu and layers {others} {activation}; a plain checkpoint has one activation"
        )
    if not getattr(config, "enable_bias", True):
        reasons.append("this checkpoint's MLPs have no biases and transcoders have")
    if reasons:
        raise ConfigError(
            f"nodes=transcoder: not exported, because {'; '.join(reasons)}. "
            f"Load {model_dir} with interp_by_construction.subject.load.load_subject"
        )


def without_dictionaries(model: PreTrainedModel) -> PreTrainedModel:
    """The same function with plain MLPs of uneven widths, of a model that `check_dictionaries`
    accepts."""
    config, family = copy.deepcopy(model.config), family_of(model)
    delattr(config, KEY)
    state = model.state_dict()
    for layer in range(n_layers(model)):
        transcoder = transcoder_of(model, layer)
        if transcoder is None:
            continue
        setattr(config, _activation_field(config), "relu")
        for path, linear in (
            (family.mlp_in[0], transcoder.encoder),
            (family.mlp_out, transcoder.decoder),
        ):
            state[f"{family.blocks}.{layer}.{path}.weight"] = (
                linear.weight.T if family.conv1d else linear.weight
            )
            state[f"{family.blocks}.{layer}.{path}.bias"] = linear.bias
    plain = empty_model(config, widths(model))
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain.eval()


def _activation_field(config: Any) -> str:
    return next(name for name in ACTIVATION if hasattr(config, name))
