"""Thin LightningModules: a loss, AdamW, and a learning rate that is a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from interp_by_construction.config import TrainerConfig
from interp_by_construction.subject.freeze import FreezeGuard, Frozen
from interp_by_construction.subject.hooks import activations, capture, others_at_mean
from interp_by_construction.training.losses import (
    Correlation,
    Objective,
    alignment_loss,
    alignment_weight,
    distill_loss,
    lm_loss,
)

LOG_EVERY = 20
"""Steps between two points of a curve."""


def lr_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up over a share of the steps, then linear decay that would reach 0 at `steps`."""
    ramp = max(1, round(warmup * steps))
    return (step + 1) / ramp if step < ramp else (steps - step) / max(1, steps - ramp)


class Distill(NamedTuple):
    """What a model is held to beside the LM loss."""

    original: PreTrainedModel
    """Never trained."""
    weight: float
    """Of KL(original || model)."""


class FreeAblation(NamedTuple):
    """On a share of the steps a layer's free nodes stand at their mean, so that its work must flow
    through the aligned ones."""

    share: float
    """Of the steps, spread evenly; each ablates one layer, in turn."""
    aligned: Sequence[tuple[int, Sequence[int]]]
    """Layer and its aligned nodes."""

    def at(self, step: int) -> tuple[int, Sequence[int]] | None:
        """The layer that is ablated in this step, with the nodes that are not."""
        before = math.floor(step * self.share)
        hit = math.floor((step + 1) * self.share) > before
        return self.aligned[before % len(self.aligned)] if hit and self.aligned else None


class LanguageModelModule(pl.LightningModule):
    """Next-token loss, plus distillation if asked for, on batches {"input_ids": [batch, pos]};
    `frozen` stays fixed to the bit."""

    def __init__(
        self,
        model: nn.Module,
        *,
        steps: int,
        lr: float,
        trainer_cfg: TrainerConfig,
        frozen: Frozen | None = None,
        distill: Distill | None = None,
        ablation: FreeAblation | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.steps, self.lr, self.trainer_cfg = steps, lr, trainer_cfg
        self.guard = FreezeGuard(model, frozen or {})
        # In a tuple, so that it is no part of the module: checkpoints need not hold what never
        # changes.
        self._distill = (distill,)
        self.ablation = ablation
        self.terms: dict[str, Tensor] = {}
        """What the last step's loss is made of where that is not the LM loss alone: `lm`, and
        `alignment_<layer>`, the mean 1 - r of the layer's nodes before any weight, NaN where no
        target varied. Only curves read it."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss, parts = self._language(self._logits(batch["input_ids"]), batch["input_ids"])
        if len(parts) == 1:
            return self._logged(loss)
        self.terms = {"lm": parts["lm_loss"].detach()}
        return self._logged(loss, **parts)

    def _logits(self, input_ids: Tensor) -> Tensor:
        ablated = None if self.ablation is None else self.ablation.at(self.global_step)
        with nullcontext() if ablated is None else others_at_mean(self.model, *ablated):
            logits: Tensor = self.model(input_ids, use_cache=False).logits
        return logits

    def _language(self, logits: Tensor, input_ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The LM loss with its weighted distillation, and its parts for the log."""
        language = lm_loss(logits, input_ids)
        (distill,) = self._distill
        if distill is None:
            return language, {"lm_loss": language}
        with torch.no_grad():
            original = distill.original.to(input_ids.device)(input_ids, use_cache=False).logits  # type: ignore[arg-type]
        kl = distill_loss(logits, original)
        return language + distill.weight * kl, {"lm_loss": language, "kl": kl}

    def _logged(self, loss: Tensor, **parts: Tensor) -> Tensor:
        # Calls to self.log cost as much as a small layer; most steps are not shown anyway.
        if (self.global_step + 1) % LOG_EVERY == 0:
            self.log("loss", loss.detach(), prog_bar=True)
            self.log_dict({name: value.detach() for name, value in parts.items()})
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trainable = self.guard.trainable()
        decay = self.trainer_cfg.weight_decay
        groups = [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=self.lr, betas=(0.9, 0.95), fused=True
        )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.lr * lr_factor(self.global_step, self.steps, self.trainer_cfg.warmup)
        optimizer.step(closure=optimizer_closure)
        self.guard.restore()


class AlignmentModule(LanguageModelModule):
    """Alignment of `node_ids` in `layer` with targets, alone (`local`) or beside the LM loss.

    Batches: input_ids [batch, pos], targets [batch, pos, node], mask [batch, pos]. A target
    describes the node's pole (1 or -1), so activations are multiplied by it. Loss: LM loss + weight
    * mean over nodes of (1 - r), by `objective`; `schedule` says how the weight grows. `local`
    stops the forward pass at the layer and keeps only the second term, unweighted.
    """

    node_ids: Tensor
    poles: Tensor

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        layer: int,
        node_ids: Sequence[int],
        poles: Sequence[int],
        weight: float,
        local: bool,
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
            ablation=None if local else ablation,
        )
        self.layer, self.weight, self.local = layer, weight, local
        self.objective: Objective = objective
        self.schedule: Literal["constant", "ramp"] = schedule
        self.register_buffer(
            "node_ids", torch.as_tensor(list(node_ids), dtype=torch.long), persistent=False
        )
        self.register_buffer(
            "poles", torch.as_tensor(list(poles), dtype=torch.float32), persistent=False
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        input_ids = batch["input_ids"]
        if self.local:
            alignment = self._alignment(activations(self.model, self.layer, input_ids), batch)
            self.terms = {f"alignment_{self.layer}": alignment.shown}
            return self._logged(alignment.loss, r=alignment.r.nanmean())
        with capture(self.model, self.layer) as captured:
            logits = self._logits(input_ids)
        alignment = self._alignment(captured.of(input_ids), batch)
        language, parts = self._language(logits, input_ids)
        self.terms = {"lm": parts["lm_loss"].detach(), f"alignment_{self.layer}": alignment.shown}
        weight = alignment_weight(self.weight, self.schedule, self.global_step, self.steps)
        return self._logged(language + weight * alignment.loss, **parts, r=alignment.r.nanmean())

    def _alignment(self, values: Tensor, batch: dict[str, Tensor]) -> Correlation:
        return alignment_loss(
            self.objective, values[..., self.node_ids] * self.poles, batch["targets"], batch["mask"]
        )
