"""Fix everything upstream of a layer's aligned activations, and record what later checkpoints must
reproduce."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from interp_by_construction.corpus import load_blocks
from interp_by_construction.subject.freeze import frozen_digest, frozen_for_continue
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject
from interp_by_construction.training.fit import TokenBlocks

PROBE_BLOCKS = 4


def run(
    model_dir: Path, corpus_dir: Path, layer: int, aligned: Sequence[int], out: Path
) -> dict[str, Any]:
    """Writes `out/probe.safetensors` (input_ids [4, pos], activations [4, pos, node]) and
    `out/frozen.json`.

    The probe batch is the first blocks of the test split. `frozen.json` names the layer, its nodes,
    and the hash of every frozen weight; the weights themselves are those of `model_dir`.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = load_subject(model_dir)
    blocks = TokenBlocks(load_blocks(corpus_dir, "test"), PROBE_BLOCKS)
    input_ids = blocks.batch(np.arange(len(blocks)))["input_ids"]
    probe = {
        "input_ids": input_ids,
        "activations": probe_activations(model, layer, aligned, input_ids),
    }
    save_file(probe, out / "probe.safetensors")
    frozen = frozen_for_continue(model, layer, aligned)
    n_frozen = sum(
        p.numel() if (m := frozen[n]) is None else int(m.sum())
        for n, p in model.named_parameters()
        if n in frozen
    )
    record = {
        "layer": layer,
        "nodes": [int(node) for node in aligned],
        "sha256": frozen_digest(model, frozen),
    }
    (out / "frozen.json").write_text(json.dumps(record, sort_keys=True))
    return {"n_frozen_weights": n_frozen, "n_weights": sum(p.numel() for p in model.parameters())}


def frozen_identical(model: PreTrainedModel, frozen_dir: Path) -> bool:
    """Whether a later model has the frozen weights and the aligned activations of `frozen_dir`, bit
    for bit."""
    record = json.loads((frozen_dir / "frozen.json").read_text())
    probe = load_file(frozen_dir / "probe.safetensors")
    frozen = frozen_for_continue(model, record["layer"], record["nodes"])
    if frozen_digest(model, frozen) != record["sha256"]:
        return False
    again = probe_activations(model, record["layer"], record["nodes"], probe["input_ids"])
    return bool(torch.equal(again.view(torch.int32), probe["activations"].view(torch.int32)))


@torch.no_grad()
def probe_activations(
    model: PreTrainedModel, layer: int, nodes: Sequence[int], input_ids: Tensor
) -> Tensor:
    """Activations [batch, pos, node] of the given nodes, computed on the CPU by one thread."""
    with _one_thread():
        return activations(model.cpu(), layer, input_ids)[..., list(nodes)].contiguous()


@contextmanager
def _one_thread() -> Iterator[None]:
    # BLAS splits work by thread count, and another split can give other last bits.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
