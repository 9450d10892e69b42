"""What a checkpoint needs so that plain transformers loads it: one width for all layers, a known
activation, and plain MLPs. A ReLU transcoder without a skip is a wider MLP."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoConfig, PreTrainedModel

from interp_by_construction.errors import ConfigError
from interp_by_construction.subject.dictionary import KEY, dictionaries
from interp_by_construction.subject.families import family_of, n_layers, transcoder_of
from interp_by_construction.subject.load import load_subject, save_subject
from interp_by_construction.subject.shapes import WIDTHS, config_width, empty_model
from interp_by_construction.subject.solu import NAME as SOLU
from interp_by_construction.subject.widen import pad, widths

ACTIVATION = ("activation_function", "hidden_act")
"""Field of a config that names the MLP's activation function: one of these."""


def check_plain(model_dir: Path) -> None:
    """Raises ConfigError, with all reasons, if no plain checkpoint can hold the model."""
    config = json.loads((model_dir / "config.json").read_text())
    if config.get("activation_function") == SOLU:
        raise ConfigError(
            "model.activation=solu: not exported, because plain transformers has no SoLU (its LayerNorm stands between activation "
            f"and output projection); load {model_dir} with interp_by_construction.subject.load.load_subject"
        )
    reasons = _why_no_dictionaries(AutoConfig.from_pretrained(model_dir, trust_remote_code=False))
    if reasons:
        raise ConfigError(
            f"nodes=transcoder: not exported, because {'; '.join(reasons)}. "
            f"Load {model_dir} with interp_by_construction.subject.load.load_subject"
        )


def write_model(model_dir: Path, output: Path) -> list[int]:
    """Writes the model's files to the directory `output`. Layers of different widths are padded to
    the widest. Returns the width of each layer before that."""
    config = AutoConfig.from_pretrained(model_dir, trust_remote_code=False)
    if not (model_dir / WIDTHS).is_file() and not dictionaries(config):
        shutil.copytree(model_dir, output, dirs_exist_ok=True)
        return [config_width(config)] * config.num_hidden_layers
    model = load_subject(model_dir)
    if dictionaries(model):
        model = _without_dictionaries(model)
    before = widths(model)
    pad(model)
    save_subject(model, output)
    return before


def write_nodes(nodes: Path, widths: list[int], output: Path) -> None:
    """Writes the table of nodes to the file `output`. widths: of the layers before the padding.

    A neuron that the exported moment does not have yet (free.count) is left out. A neuron of zeros
    has status `padding`.
    """
    table = pq.read_table(nodes)
    kept = [row for row in table.to_pylist() if row["node"] < widths[row["layer"]]]
    padding: list[dict[str, Any]] = [
        {"layer": layer, "node": node, "pole": 1, "status": "padding"}
        for layer, width in enumerate(widths)
        for node in range(width, max(widths))
    ]
    if not padding and len(kept) == len(table):
        shutil.copyfile(nodes, output)
        return
    pq.write_table(pa.Table.from_pylist([*kept, *padding], schema=table.schema), output)


def _why_no_dictionaries(config: Any) -> list[str]:
    """Why plain transformers cannot hold the dictionary layers of `config`; empty if it can."""
    found = dictionaries(config)
    if not found:
        return []
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
    return reasons


def _without_dictionaries(model: PreTrainedModel) -> PreTrainedModel:
    """The same function with plain MLPs of uneven widths, of a model that `check_plain` accepts."""
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
