"""Checkpoints that plain transformers cannot build from their config: layers of different widths,
dictionaries, and SoLU.

Beside the usual config.json and model.safetensors stands `mlp_widths.json`, {"d_mlp": [width of
each layer]}, where widths differ; the config then names the widest. SoLU and the dictionary layers
are named in the config.
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
    # Some configs leave the width out where it is the usual multiple of d_model.
    width: int = getattr(config, family_of(config).width) or 4 * config.hidden_size
    return width


def describe_widths(model: PreTrainedModel, path: Path) -> None:
    """Makes the config name the widest layer and writes `path/mlp_widths.json` where the layers
    differ."""
    found = widths(model)
    if max(found) != config_width(model.config):
        setattr(model.config, family_of(model).width, max(found))
    if len(set(found)) > 1:
        (path / WIDTHS).write_text(json.dumps({"d_mlp": found}))
    else:
        (path / WIDTHS).unlink(missing_ok=True)


def build(path: Path, config: Any) -> PreTrainedModel:
    """The model of a checkpoint that is not plain (see `is_plain`), in float32.

    Raises:
        OSError: a file is missing or unreadable.
        ValueError: weights and config do not fit together.
    """
    file = path / WIDTHS
    found = (
        [int(width) for width in json.loads(file.read_text())["d_mlp"]] if file.is_file() else None
    )
    with torch.random.fork_rng(devices=[]):
        model = empty_model(config, found)
    missing, unexpected = model.load_state_dict(load_file(path / "model.safetensors"), strict=False)
    # A tied head is saved once and has its weight already.
    lost = set(missing) - set(getattr(model, "all_tied_weights_keys", {}))
    if lost or unexpected:
        raise ValueError(
            f"missing weights {sorted(lost)[:3]}, unknown weights {list(unexpected)[:3]}"
        )
    return model


def empty_model(config: Any, found: list[int] | None = None) -> PreTrainedModel:
    """Random weights; `found`: the layers' widths (None: as the config says). Dictionaries and SoLU
    are where it has them."""
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
    # Set in place: submodules hold the same object.
    setattr(model.config, field, getattr(config, field))
    if has_solu(config):
        model.config.activation_function = NAME
    return model
