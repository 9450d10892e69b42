"""A labeler's checkpoint with a low-rank adapter in its weights.

A small model copies words into a label, and its digits hardly depend on the label that it reads.
An adapter teaches it to label, to simulate and to judge by short prompts without solved examples
(`tools/tune_labeler`). It is merged once into a checkpoint in the user cache, from where vLLM and
transformers read it as any other.
"""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import LabelerConfig, user_path
from interp_by_construction.engine.disk import sha256_file
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.embedded import local_path
from interp_by_construction.llm.pretrained import CheckpointError, pinned
from interp_by_construction.llm.user_cache import cache_dir, made_once

WEIGHTS = "model.safetensors"


def adapter_of(cfg: LabelerConfig) -> Path | None:
    """File of the adapter that a labeler is served with; None for the plain model. Raises
    LabelerError where the file is missing."""
    if cfg.adapter is None:
        return None
    file = user_path(cfg.adapter, "labeler.adapter")
    if not file.is_file():
        raise LabelerError(
            f"labeler.adapter={cfg.adapter}: no such file; give an adapter's safetensors file, or "
            "null for the plain model"
        )
    return file


def labeler_source(cfg: LabelerConfig) -> str:
    """Where the labeler's checkpoint is: a directory, or a hub model with its revision. With an
    adapter, that of the merged checkpoint, which the first call makes (seconds). Of an endpoint,
    which has merged its own, only the tokenizer is read.

    Raises LabelerError for a revision of a directory, and for an adapter that does not fit.
    """
    source, adapter = plain_source(cfg), adapter_of(cfg)
    if adapter is None or cfg.backend == "endpoint":
        return source
    return str(adapted_checkpoint(Path(source), adapter, cfg))


def plain_source(cfg: LabelerConfig) -> str:
    """The same without an adapter. Raises LabelerError for a revision of a directory."""
    try:
        return pinned(local_path(cfg.model), cfg.revision)
    except CheckpointError as error:
        raise LabelerError(f"labeler.revision={cfg.revision}: {error}") from error


def adapter_identity(cfg: LabelerConfig) -> str | None:
    """sha256 of the adapter's file; None for the plain model."""
    adapter = adapter_of(cfg)
    return None if adapter is None else _hash(adapter, adapter.stat().st_mtime_ns)


def adapted_checkpoint(source: Path, adapter: Path, cfg: LabelerConfig) -> Path:
    """Directory of the checkpoint `source` with the adapter in its weights, made on the first
    call."""
    if not (source / WEIGHTS).is_file():
        raise LabelerError(
            f"labeler.adapter={cfg.adapter}: labeler.model={cfg.model} is no directory with one "
            f"{WEIGHTS}, into which an adapter could be merged; download the model, merge the "
            "adapter yourself, or set labeler.adapter=null"
        )
    files = (source / WEIGHTS, adapter)
    told = "-".join(_hash(file, file.stat().st_mtime_ns)[:8] for file in files)

    def make(partial: Path) -> None:
        for file in source.iterdir():
            if file.is_file() and file.name != WEIGHTS:
                shutil.copy(file, partial)
        _merge(source / WEIGHTS, adapter, partial / WEIGHTS, cfg)

    return made_once(cache_dir() / f"adapted-{told}", make)


def _merge(weights: Path, adapter: Path, out: Path, cfg: LabelerConfig) -> None:
    """W + up @ down for every map of the adapter, computed in single precision."""
    import torch
    from safetensors import SafetensorError
    from safetensors.numpy import load_file as load_arrays
    from safetensors.torch import load_file, save_file

    try:
        found: dict[str, NDArray[np.float16]] = load_arrays(adapter)
    except (OSError, SafetensorError) as error:
        raise LabelerError(
            f"labeler.adapter={cfg.adapter}: {adapter} cannot be read: {error}"
        ) from error
    state = load_file(weights)
    for name in sorted({key.rpartition(".")[0] for key in found}):
        weight = state.get(f"model.{name}.weight")
        up, down = (found.get(f"{name}.{part}") for part in ("up", "down"))
        shape = None if up is None or down is None else (up.shape[0], down.shape[1])
        if weight is None or up is None or down is None or tuple(weight.shape) != shape:
            raise LabelerError(
                f"labeler.adapter={cfg.adapter} changes {name}, which labeler.model={cfg.model} does "
                "not have in that shape; give the adapter of this model, or labeler.adapter=null"
            )
        up_down = torch.from_numpy(up).float() @ torch.from_numpy(down).float()
        weight.copy_(weight.float() + up_down)
    save_file(state, out, metadata={"format": "pt"})


@lru_cache(maxsize=16)
def _hash(file: Path, stamp: int) -> str:
    """stamp: the time of the file, so that a changed one is read again."""
    return sha256_file(file)
