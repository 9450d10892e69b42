"""Checkpoints that plain transformers cannot build: different widths, dictionaries or SoLU.

The config names SoLU and the dictionary layers. If widths differ, the checkpoint has a file
`mlp_widths.json`, {"d_mlp": [width of each layer]}, and the config names the widest layer.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from interp_by_construction.subject.dictionary import dictionaries, put_in_place
from interp_by_construction.subject.families import block, family_of, n_layers
from interp_by_construction.subject.solu import NAME, Solu
from interp_by_construction.subject.transcoder import Transcoder
from interp_by_construction.subject.widen import resize, widths

WIDTHS = "mlp_widths.json"


def is_plain(path: str | Path, config: Any) -> bool:
    """Whether plain transformers loads the checkpoint."""
    return not has_solu(config) and not dictionaries(config) and not (Path(path) / WIDTHS).is_file()


def has_solu(config: Any) -> bool:
    """Whether the checkpoint's activation function is SoLU."""
    return getattr(config, "activation_function", None) == NAME


def config_width(config: Any) -> int:
    """Neurons per layer of a plain checkpoint."""
    # Some configs leave out the width if it is the usual multiple of d_model.
    return getattr(config, family_of(config).width) or 4 * config.hidden_size


def describe_widths(model: PreTrainedModel, path: Path) -> None:
    """Writes the widest layer into the config, and `path/mlp_widths.json` if layers differ."""
    found = widths(model)
    if max(found) != config_width(model.config):
        setattr(model.config, family_of(model).width, max(found))
    if len(set(found)) > 1:
        (path / WIDTHS).write_text(json.dumps({"d_mlp": found}))
    else:
        (path / WIDTHS).unlink(missing_ok=True)


def build(path: Path, config: Any) -> PreTrainedModel:
    """The model of a checkpoint that is not plain (see `is_plain`), in float32.

    Raises OSError if a file is unreadable, and ValueError if weights and config do not fit.
    """
    file = path / WIDTHS
    found = None
    if file.is_file():
        found = [int(width) for width in json.loads(file.read_text())["d_mlp"]]
    with torch.random.fork_rng(devices=[]):
        model = empty_model(config, found)
    missing, unexpected = model.load_state_dict(load_file(path / "model.safetensors"), strict=False)
    # A tied head has the weight of the embedding already.
    lost = set(missing) - set(getattr(model, "all_tied_weights_keys", {}))
    if lost or unexpected:
        raise ValueError(
            f"missing weights {sorted(lost)[:3]}, unknown weights {list(unexpected)[:3]}"
        )
    return model


def empty_model(config: Any, found: list[int] | None = None) -> PreTrainedModel:
    """A model with random weights and all that `config` names. found: the widths of its layers."""
    plain, field = copy.deepcopy(config), family_of(config).width
    if has_solu(config):
        plain.activation_function = "relu"
    if found is not None:
        setattr(plain, field, min(found))
    model: PreTrainedModel = AutoModelForCausalLM.from_config(plain, dtype=torch.float32)
    if found is not None and len(found) != n_layers(model):
        raise ValueError(
            f"{WIDTHS} has {len(found)} widths, but the model has {n_layers(model)} layers"
        )
    for layer, shape in dictionaries(config).items():
        put_in_place(model, layer, Transcoder(shape))
    for layer, width in enumerate(found or []):
        resize(model, layer, width)
    if has_solu(config):
        for layer, width in enumerate(widths(model)):
            if layer in dictionaries(config):
                continue
            path, name = family_of(model).act.rsplit(".", 1)
            setattr(block(model, layer).get_submodule(path), name, Solu(width))
    # Set in place, since submodules hold the same config.
    setattr(model.config, field, getattr(config, field))
    if has_solu(config):
        model.config.activation_function = NAME
    return model
