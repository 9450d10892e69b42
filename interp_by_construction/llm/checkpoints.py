"""Checkpoints of language models: where they are, and their tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.embedded import resolve_model


def local_path(model: str) -> str:
    """Absolute directory of a local or the embedded model, else the hub name."""
    path = Path(resolve_model(model)).expanduser()
    return str(path.resolve()) if path.is_dir() else model


def load_tokenizer(path: str, model: str) -> Any:
    """The transformers tokenizer of a checkpoint directory or hub name. Raises LabelerError if
    there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise LabelerError(
            f"the tokenizer of labeler.model={model} cannot be loaded (a directory or hub name is needed): {error}"
        ) from error
