"""Thin LightningModules: a loss, AdamW, and a learning rate that is a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from interp_by_construction.config import OptimizerConfig
from interp_by_construction.subject.freeze import FreezeGuard, Frozen, LayerNodes
from interp_by_construction.subject.hooks import activations, capture, others_at_mean
from interp_by_construction.training.losses import (
    Correlation,
    Objective,
    alignment_loss,
    distill_loss,
    lm_loss,
)
from interp_by_construction.training.targets import LayerTargets

LOG_EVERY = 20
"""Steps between two points of a curve."""


def lr_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up over a share of the steps, then linear decay that would reach 0 at `steps`."""
    ramp = max(1, round(warmup * steps))
    return (step + 1) / ramp if step < ramp else (steps - step) / max(1, steps - ramp)


class Distill(NamedTuple):
    """What a model is held to beside the LM loss."""

    original: PreTrainedModel
    """Never trained. It is no part of a module, so that checkpoints do not hold it."""
    weight: float
    """Of KL(original || model)."""


class FreeAblation(NamedTuple):
    """On a share of the steps a layer's free nodes are set to their mean, so that the layer must
    work through the aligned ones."""

    share: float
    """Of the steps, spread evenly. Each ablates one layer, in turn."""
    aligned: Sequence[LayerNodes]
    """Layer and its aligned nodes."""
    first: int = 0
    """The position from which they are. A block may begin with a token that is no text, where a
    model is far more active."""

    def at(self, step: int) -> LayerNodes | None:
        """The layer that is ablated in this step, with the nodes that are not."""
        before = math.floor(step * self.share)
        hit = math.floor((step + 1) * self.share) > before
        return self.aligned[before % len(self.aligned)] if hit and self.aligned else None


def free_ablation(
    share: float, aligned: Sequence[LayerNodes], first: int = 0
) -> FreeAblation | None:
    """None without a share. Layers without aligned nodes are left out, since all of their nodes are
    free."""
    return FreeAblation(share, [each for each in aligned if each[1]], first) if share else None


@dataclass(frozen=True)
class Plan:
    """How one phase optimizes, and what stays fixed in it."""

    steps: int
    lr: float
    """Peak learning rate."""
    optimizer: OptimizerConfig
    frozen: Frozen = field(default_factory=dict)
    """Stays as it is to the last bit."""
    distill: Distill | None = None
    ablation: FreeAblation | None = None


class LanguageModelModule(pl.LightningModule):
    """Next-token loss, plus distillation if asked for, on batches {"input_ids": [batch, pos]}."""

    def __init__(self, model: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.model, self.plan = model, plan
        self.guard = FreezeGuard(model, plan.frozen)
        self.terms: dict[str, Tensor] = {}
        """Parts of the last step's loss, empty where that is the LM loss alone: `lm`, and
        `alignment_<layer>`, the unweighted mean of 1 - r over the layer's nodes, NaN where no
        target varied. Only curves read it."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss, parts = self._language(self._logits(batch["input_ids"]), batch["input_ids"])
        if len(parts) == 1:
            return self._logged(loss)
        self.terms = {"lm": parts["lm_loss"].detach()}
        return self._logged(loss, **parts)

    def _logits(self, input_ids: Tensor) -> Tensor:
        ablation = self.plan.ablation
        ablated = None if ablation is None else ablation.at(self.global_step)
        text = None
        if ablation is not None and ablation.first:
            text = torch.ones_like(input_ids, dtype=torch.bool)
            text[:, : ablation.first] = False
        with nullcontext() if ablated is None else others_at_mean(self.model, *ablated, text):
            logits: Tensor = self.model(input_ids, use_cache=False).logits
        return logits

    def _language(self, logits: Tensor, input_ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The LM loss with its weighted distillation, and its parts for the log."""
        language = lm_loss(logits, input_ids)
        distill = self.plan.distill
        if distill is None:
            return language, {"lm_loss": language}
        with torch.no_grad():
            original = distill.original.to(input_ids.device)(input_ids, use_cache=False).logits  # type: ignore[arg-type]
        kl = distill_loss(logits, original)
        return language + distill.weight * kl, {"lm_loss": language, "kl": kl}

    def _logged(self, loss: Tensor, **parts: Tensor) -> Tensor:
        # Calls to self.log cost as much as a small layer.
        if (self.global_step + 1) % LOG_EVERY == 0:
            self.log("loss", loss.detach(), prog_bar=True)
            self.log_dict({name: value.detach() for name, value in parts.items()})
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trainable = self.guard.trainable()
        decay = self.plan.optimizer.weight_decay
        groups = [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=self.plan.lr, betas=(0.9, 0.95), fused=True
        )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        plan = self.plan
        factor = lr_factor(self.global_step, plan.steps, plan.optimizer.warmup)
        for group in optimizer.param_groups:
            group["lr"] = plan.lr * factor
        optimizer.step(closure=optimizer_closure)
        self.guard.restore()


class AlignmentModule(LanguageModelModule):
    """LM loss (and distillation, if asked for) + weight * sum over layers of their alignment
    losses, where the batch has targets.

    Batches: input_ids [batch, pos] and, for each layer, targets_<layer> [batch, pos, node] and
    mask_<layer> [batch, pos], or none of them. A target describes the node's pole (1 or -1), so
    activations are multiplied by it. The alignment loss of a layer is the mean over its nodes of
    1 - r, by `objective`.

    `local`: there is one layer, the forward pass stops at it, and only its alignment loss trains.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        plan: Plan,
        layers: Sequence[LayerTargets],
        weight: float,
        objective: Objective,
        local: bool = False,
    ) -> None:
        super().__init__(model, plan)
        self.layers = [layer for layer in layers if layer.nodes]
        self.weight, self.objective, self.local = weight, objective, local

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        input_ids = batch["input_ids"]
        if self.local:
            (layer,) = self.layers
            values = activations(self.model, layer.layer, input_ids)
            alignment = self._alignment(layer, values, batch)
            self.terms = {f"alignment_{layer.layer}": alignment.shown}
            return self._logged(alignment.loss, **{f"r_{layer.layer}": alignment.r.nanmean()})
        targeted = [each for each in self.layers if f"targets_{each.layer}" in batch]
        with ExitStack() as stack:
            captures = [stack.enter_context(capture(self.model, each.layer)) for each in targeted]
            logits = self._logits(input_ids)
        loss, shown = self._language(logits, input_ids)
        # Without layers and distillation the loss is the LM loss, whose curve is kept anyway.
        self.terms = {"lm": shown["lm_loss"].detach()} if self.layers or len(shown) > 1 else {}
        for each, captured in zip(targeted, captures, strict=True):
            alignment = self._alignment(each, captured.of(input_ids), batch)
            loss = loss + self.weight * alignment.loss
            shown[f"r_{each.layer}"] = alignment.r.nanmean()
            self.terms[f"alignment_{each.layer}"] = alignment.shown
        return self._logged(loss, **shown)

    def _alignment(
        self, aligned: LayerTargets, values: Tensor, batch: dict[str, Tensor]
    ) -> Correlation:
        """Of one layer's activations `values` [batch, pos, d_mlp] with its targets in `batch`."""
        poles = torch.as_tensor(aligned.poles, dtype=torch.float32, device=values.device)
        targets, mask = batch[f"targets_{aligned.layer}"], batch[f"mask_{aligned.layer}"]
        return alignment_loss(self.objective, values[..., aligned.nodes] * poles, targets, mask)
