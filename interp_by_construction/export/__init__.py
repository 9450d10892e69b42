"""A plain transformers checkpoint with tokenizer, node table and model card."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interp_by_construction.errors import ConfigError, StoreError
from interp_by_construction.export.plain import check_plain, write_model, write_nodes

_CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [interpretability]
---

# Interpretable by construction

A causal language model whose neurons were aligned with natural-language labels, layer by layer, and frozen
(interpretability by construction). It loads with `AutoModelForCausalLM.from_pretrained`, without custom code.

`nodes.parquet` has one row per node: layer, node, pole, label, status, scores. A label describes `pole` times the
input of the layer's MLP output projection.
{padded}
| | |
|---|---|
{rows}
"""

_PADDED = """
In training the layers had different numbers of neurons. A plain checkpoint has one width, here {width}: the narrower layers are
filled up with neurons that are zero in every weight and change no output ({padding}). In `nodes.parquet` their status is `padding`.
"""


def export_checkpoint(
    model_dir: Path, tokenizer_dir: Path, nodes: Path, output: Path, card: Mapping[str, Any]
) -> None:
    """Copies model and tokenizer to `output` with `nodes.parquet` and `README.md`, in one rename.

    Weights stay equal to the bit. Where the layers differ in width, neurons of zeros are added (see
    `export.plain`). card: rows of the model card.

    Raises:
        ConfigError: `output` exists and is not an empty directory, or the model cannot be a plain
        checkpoint.
        StoreError: it cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(
            f"output={output} exists and is not an empty directory; choose another output"
        )
    check_plain(model_dir)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise StoreError(
            f"output={output} cannot be written ({error.strerror}); choose another output"
        ) from error
    try:
        # The tokenizer comes first: where both hold a file of one name, the model's replaces it.
        shutil.copytree(tokenizer_dir, building, dirs_exist_ok=True)
        widths = write_model(model_dir, building)
        write_nodes(nodes, widths, building / "nodes.parquet")
        (building / "README.md").write_text(_model_card(card, widths), encoding="utf-8")
        building.chmod(0o755)
        building.replace(output)
    except OSError as error:
        raise StoreError(
            f"output={output} cannot be written ({error.strerror or error})"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _model_card(card: Mapping[str, Any], widths: list[int]) -> str:
    def cell(value: Any) -> str:
        return str(value).replace("|", "\\|").replace("\n", " ")

    rows = "\n".join(f"| {cell(key)} | {cell(value)} |" for key, value in card.items())
    width, padded = max(widths), ""
    if min(widths) < width:
        padding = ", ".join(
            f"{width - each} in layer {layer}" for layer, each in enumerate(widths) if each < width
        )
        padded = _PADDED.format(width=width, padding=padding)
    return _CARD.format(padded=padded, rows=rows)
