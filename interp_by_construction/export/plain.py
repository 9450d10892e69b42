"""What a checkpoint needs so that plain transformers loads it: one width for all layers, and a
known activation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoConfig

from interp_by_construction.errors import ConfigError
from interp_by_construction.export.dictionaries import check_dictionaries, without_dictionaries
from interp_by_construction.subject.dictionary import dictionaries
from interp_by_construction.subject.load import load_subject, save_subject
from interp_by_construction.subject.shapes import WIDTHS, config_width
from interp_by_construction.subject.solu import NAME as SOLU
from interp_by_construction.subject.widen import pad, widths


def check_plain(model_dir: Path) -> None:
    """Raises ConfigError, with the reason, if no plain checkpoint can hold the model."""
    config = json.loads((model_dir / "config.json").read_text())
    if config.get("activation_function") == SOLU:
        raise ConfigError(
            "model.activation=solu: not exported, because plain transformers has no SoLU (its LayerNorm stands between activation "
            f"and output projection); load {model_dir} with interp_by_construction.subject.load.load_subject"
        )
    check_dictionaries(AutoConfig.from_pretrained(model_dir), model_dir)


def write_model(model_dir: Path, output: Path) -> list[int]:
    """Writes the model's files to the directory `output`. Layers of different widths are padded to
    the widest. Returns the width of each layer before that."""
    config = AutoConfig.from_pretrained(model_dir)
    if not (model_dir / WIDTHS).is_file() and not dictionaries(config):
        shutil.copytree(model_dir, output, dirs_exist_ok=True)
        return [config_width(config)] * config.num_hidden_layers
    model = load_subject(model_dir)
    if dictionaries(model):
        model = without_dictionaries(model)
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
