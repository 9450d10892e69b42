"""Freeze a layer: record the weights and activations that later models must reproduce."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from interp_by_construction.corpus import load_blocks
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.runtime import torch_threads
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.labels import aligned_nodes
from interp_by_construction.subject.freeze import frozen_digest, frozen_for_continue
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject
from interp_by_construction.training.batches import TokenBlocks

PROBE_BLOCKS = 4


@dataclass(frozen=True)
class FreezeRecord(Record):
    """How much is fixed."""

    n_frozen_weights: int
    n_weights: int


@dataclass(frozen=True)
class Freeze(Stage[FreezeRecord]):
    """Fixes everything upstream of the layer's aligned activations.

    Writes `probe.safetensors` (input_ids [4, pos], activations [4, pos, node]) on the first blocks
    of the test split, and `frozen.json`: the layer, its nodes, and the hash of every frozen weight.
    The weights themselves are those of `model`.
    """

    name = "freeze"
    version = 2
    record = FreezeRecord
    says = "fixes the labelled neurons for good"

    corpus: Stage[Any]
    model: Stage[Any]
    labels: Stage[Any]
    layer: int

    def effort(self, sizes: Sizes) -> Effort:
        return Effort(seconds=0.5)

    def compute(self, job: Job) -> FreezeRecord:
        aligned = aligned_nodes(job.path(self.labels))
        model = load_subject(job.model(self.model))
        blocks = TokenBlocks(load_blocks(job.path(self.corpus), "test"), PROBE_BLOCKS)
        input_ids = blocks.batch(np.arange(len(blocks)))["input_ids"]
        activations = probe_activations(model, self.layer, aligned, input_ids)
        probe = {"input_ids": input_ids, "activations": activations}
        save_file(probe, job.out / "probe.safetensors")
        frozen = frozen_for_continue(model, self.layer, aligned)
        digest = frozen_digest(model, frozen)
        kept = {"layer": self.layer, "nodes": aligned, "sha256": digest}
        (job.out / "frozen.json").write_text(json.dumps(kept, sort_keys=True))
        n_frozen = sum(
            p.numel() if (rows := frozen[name]) is None else int(rows.sum())
            for name, p in model.named_parameters()
            if name in frozen
        )
        return FreezeRecord(n_frozen, sum(p.numel() for p in model.parameters()))


def frozen_identical(model: PreTrainedModel, frozen_dir: Path) -> bool:
    """Whether `model` has the frozen weights and activations of `frozen_dir`, bit for bit."""
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
    # BLAS splits work by the number of threads, and another split can give other last bits.
    with torch_threads(1):
        return activations(model.cpu(), layer, input_ids)[..., list(nodes)].contiguous()
