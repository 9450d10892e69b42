"""Several layers aligned at once, on a stream in which text with targets and plain text alternate.

The stream spreads the loop's batches evenly over all of joint training: as many of the align split
and of the train split as the loop reads layer by layer. One forward pass captures all layers; a
batch without targets trains the LM loss alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from interp_by_construction.config import TrainerConfig
from interp_by_construction.subject.freeze import Frozen
from interp_by_construction.subject.hooks import capture
from interp_by_construction.training.fit import Batches, TokenBlocks, batch_indices
from interp_by_construction.training.losses import (
    Correlation,
    Objective,
    alignment_loss,
    alignment_weight,
)
from interp_by_construction.training.modules import Distill, FreeAblation, LanguageModelModule


@dataclass(frozen=True)
class AlignedNodes:
    """What one layer's nodes are trained towards."""

    layer: int
    nodes: list[int]
    poles: list[int]
    values: Tensor
    """float16 [block, pos, node]: targets on the first blocks of the align split."""
    mask: Tensor
    """bool [block, pos]: where a target is defined."""


class LayeredBlocks(TokenBlocks):
    """Blocks with `targets_<layer>` [block, pos, node] and `mask_<layer>` [block, pos] of every
    layer that has aligned nodes."""

    def __init__(self, dataset: Any, layers: Sequence[AlignedNodes], n_blocks: int) -> None:
        if n_blocks > len(dataset) or any(len(layer.values) != n_blocks for layer in layers):
            raise ValueError(
                f"targets of every layer must cover the same {n_blocks} blocks of {len(dataset)}"
            )
        super().__init__(dataset, n_blocks)
        self.layers = [layer for layer in layers if layer.nodes]

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        where, batch = torch.from_numpy(indices), super().batch(indices)
        for each in self.layers:
            batch[f"targets_{each.layer}"] = each.values[where].float()
            batch[f"mask_{each.layer}"] = each.mask[where].bool()
        return batch


@dataclass(frozen=True)
class MixedStream:
    """`n_align` batches of `align` among `n_total`, as evenly spread as whole steps allow; the
    others are of `train`."""

    align: Batches
    train: Batches
    n_align: int
    n_total: int
    align_batch: int
    train_batch: int
    seeds: tuple[int, int]
    """Seeds of the order of the align and of the train blocks."""

    def at(self, step: int) -> dict[str, Tensor]:
        """The batch of a step from 0 to n_total - 1."""
        before = step * self.n_align // self.n_total
        if (step + 1) * self.n_align // self.n_total > before:
            return self.align.batch(
                batch_indices(self.seeds[0], len(self.align), self.align_batch, before)
            )
        return self.train.batch(
            batch_indices(self.seeds[1], len(self.train), self.train_batch, step - before)
        )


class JointModule(LanguageModelModule):
    """LM loss (and distillation, if asked for) + weight * sum over layers of their alignment
    losses, where the batch has targets.

    `objective` and `schedule` are those of `AlignmentModule`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layers: Sequence[AlignedNodes],
        *,
        weight: float,
        steps: int,
        lr: float,
        trainer_cfg: TrainerConfig,
        frozen: Frozen | None = None,
        distill: Distill | None = None,
        ablation: FreeAblation | None = None,
        objective: Objective = "correlation",
        schedule: Literal["constant", "ramp"] = "constant",
    ) -> None:
        super().__init__(
            model,
            steps=steps,
            lr=lr,
            trainer_cfg=trainer_cfg,
            frozen=frozen,
            distill=distill,
            ablation=ablation,
        )
        self.weight, self.layers = weight, [layer for layer in layers if layer.nodes]
        self.objective: Objective = objective
        self.schedule: Literal["constant", "ramp"] = schedule

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        input_ids = batch["input_ids"]
        targeted = [each for each in self.layers if f"targets_{each.layer}" in batch]
        with ExitStack() as stack:
            captures = [stack.enter_context(capture(self.model, each.layer)) for each in targeted]
            logits = self._logits(input_ids)
        loss, shown = self._language(logits, input_ids)
        # Without layers and distillation the loss is the LM loss, whose curve is kept anyway.
        self.terms = {"lm": shown["lm_loss"].detach()} if self.layers or len(shown) > 1 else {}
        weight = alignment_weight(self.weight, self.schedule, self.global_step, self.steps)
        for each, captured in zip(targeted, captures, strict=True):
            alignment = layer_alignment(self.objective, each, captured.of(input_ids), batch)
            loss = loss + weight * alignment.loss
            shown[f"r_{each.layer}"] = alignment.r.nanmean()
            self.terms[f"alignment_{each.layer}"] = alignment.shown
        return self._logged(loss, **shown)


def layer_alignment(
    objective: Objective, aligned: AlignedNodes, values: Tensor, batch: dict[str, Tensor]
) -> Correlation:
    """The alignment of one layer's activations `values` [batch, pos, d_mlp] with its targets in
    `batch`."""
    poles = torch.as_tensor(aligned.poles, dtype=torch.float32, device=values.device)
    targets, mask = batch[f"targets_{aligned.layer}"], batch[f"mask_{aligned.layer}"]
    return alignment_loss(objective, values[..., aligned.nodes] * poles, targets, mask)
