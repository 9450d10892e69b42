"""Layers whose MLP is a transcoder; the checkpoint's config.json names them."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from interp_by_construction.subject.families import block, family_of, n_layers, transcoder_of
from interp_by_construction.subject.transcoder import Transcoder
from interp_by_construction.subject.transcoder_files import Shape

KEY = "dictionary_layers"
"""Entry of config.json: layer -> shape of its transcoder."""


def dictionaries(model_or_config: Any) -> dict[int, Shape]:
    """Layer -> shape of the transcoder that is its MLP; empty for a plain checkpoint."""
    config = getattr(model_or_config, "config", model_or_config)
    entries = getattr(config, KEY, None) or {}
    return {
        int(layer): Shape(*(entry[name] for name in Shape._fields))
        for layer, entry in entries.items()
    }


def gated(model_or_config: Any, layer: int) -> bool:
    """Whether a layer's nodes are products of two projections; features of a transcoder are not."""
    return len(family_of(model_or_config).mlp_in) > 1 and layer not in dictionaries(model_or_config)


def put_in_place(model: nn.Module, layer: int, transcoder: Transcoder) -> None:
    """Makes `transcoder` the MLP of `layer`."""
    family, where = family_of(model), block(model, layer)
    for name in family.around_mlp:
        where.set_submodule(name, nn.Identity())
    where.set_submodule(family.mlp, transcoder)


def describe_dictionaries(model: PreTrainedModel) -> None:
    """Writes the dictionary layers into the config; that of a plain model stays as it is."""
    found = {
        layer: transcoder
        for layer in range(n_layers(model))
        if (transcoder := transcoder_of(model, layer)) is not None
    }
    if found or hasattr(model.config, KEY):
        entries = {
            str(layer): {"kind": t.shape.kind, **t.shape._asdict()} for layer, t in found.items()
        }
        setattr(model.config, KEY, entries)
