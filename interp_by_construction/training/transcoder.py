"""Training of a sparse transcoder on what one MLP reads and writes.

TopK: loss = FVU of the batch + AUXILIARY * FVU of what the strongest dead features make of the
error (Gao et al. 2024, https://arxiv.org/abs/2406.04093, appendix A.2), as in EleutherAI's
`sparsify`. ReLU: loss = FVU of the batch + sparsity * mean over tokens of sum_i f_i |d_i| /
deviation, where d_i is what feature i writes and deviation the root mean square of |y - mean y|
(the penalty of Templeton et al. 2024, https://transformer-circuits.pub/2024/april-update, made free
of the layer's scale).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from interp_by_construction.config import DictionaryConfig, OptimizerConfig
from interp_by_construction.subject.hooks import MlpFlow, mlp_flow
from interp_by_construction.subject.transcoder import Transcoder
from interp_by_construction.training.modules import LanguageModelModule, Plan

AUXILIARY = 1 / 32
"""Weight of the dead features' loss, from the paper."""

_TINY = 1e-12


def fvu(y: Tensor, output: Tensor) -> Tensor:
    """Fraction of variance unexplained, sum |y - output|^2 / sum |y - mean y|^2, both [token,
    d_model]; 1 for output = mean y."""
    return (y - output).square().sum() / (y - y.mean(0)).square().sum().clamp(min=_TINY)


def sparsity_penalty(features: Tensor, transcoder: Transcoder, y: Tensor) -> Tensor:
    """Mean over tokens of sum_i f_i |d_i|, in units of the deviation of y; features [token,
    feature], y [token, d_model]."""
    deviation = (y - y.mean(0)).square().sum(-1).mean().clamp(min=_TINY).sqrt()
    return (features * transcoder.decoder.weight.norm(dim=0)).sum(-1).mean() / deviation


def dead_features_loss(
    before: Tensor, error: Tensor, transcoder: Transcoder, dead: Tensor
) -> Tensor:
    """How badly the strongest d_model / 2 dead features explain the error that the live ones left,
    as a FVU; 0 if none is dead.

    before: pre-activations [token, feature]; error [token, d_model]; dead: bool [feature].
    """
    n_dead, wanted = int(dead.sum()), error.shape[-1] // 2
    if n_dead == 0:
        return error.sum() * 0.0
    k = min(wanted, n_dead)
    top = torch.topk(torch.where(dead, torch.relu(before), -torch.inf), k, dim=-1, sorted=False)
    features = torch.zeros_like(before).scatter(-1, top.indices, top.values)
    explained = nn.functional.linear(features, transcoder.decoder.weight)
    return (k / wanted) * fvu(error.detach(), explained)


class Scales(NamedTuple):
    """Units in which an MLP's input and output have size 1, so that learning rates suit any
    layer."""

    read: float
    """Root mean square of the input."""
    written: float
    """Root mean square of the output's deviation from its mean."""
    mean: Tensor
    """Mean output in those units, [d_model]."""

    @classmethod
    def of(cls, flow: MlpFlow) -> Scales:
        """Measured on the tokens of `flow`."""
        away = flow.written - flow.written.mean(0)
        read, written = (
            float(t.square().mean().sqrt().clamp(min=_TINY)) for t in (flow.read, away)
        )
        return cls(read, written, flow.written.mean(0) / written)


@torch.no_grad()
def unscale(transcoder: Transcoder, scales: Scales) -> None:
    """Turns a transcoder between scaled input and output into one between real ones, in place; its
    features stay the same."""
    transcoder.encoder.weight.div_(scales.read)
    transcoder.decoder.weight.mul_(scales.written)
    transcoder.decoder.bias.mul_(scales.written)
    if transcoder.skip is not None:
        transcoder.skip.weight.mul_(scales.written / scales.read)


class TranscoderModule(LanguageModelModule):
    """Batches {"input_ids": [batch, pos]}: the subject runs up to the layer's MLP, the transcoder
    learns what the MLP does, in the units of `scales`.

    The subject is no part of the module: it is neither trained nor checkpointed. `idle` is
    checkpointed.
    """

    idle: Tensor
    """Tokens since each feature was active, [feature]."""

    def __init__(
        self,
        transcoder: Transcoder,
        subject: nn.Module,
        layer: int,
        scales: Scales,
        cfg: DictionaryConfig,
        optimizer: OptimizerConfig,
        first: int = 0,
    ) -> None:
        """first: the position from which the tokens of a block are learned."""
        super().__init__(transcoder, Plan(cfg.steps, cfg.lr, optimizer))
        self.first = first
        self.transcoder, self.layer, self.scales, self.cfg = transcoder, layer, scales, cfg
        # A tuple hides the subject from module lists.
        self._subject = (subject,)
        self.register_buffer("idle", torch.zeros(transcoder.shape.n_features, dtype=torch.long))

    def on_fit_start(self) -> None:
        self._subject[0].to(self.device)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        flow = mlp_flow(self._subject[0], self.layer, batch["input_ids"], self.first)
        x, y = flow.read / self.scales.read, flow.written / self.scales.written
        before = self.transcoder.encoder(x)
        features = self.transcoder.activation(before)
        output = self.transcoder.decode(features, x)
        loss = unexplained = fvu(y, output)
        if self.transcoder.shape.k is None:
            loss = loss + self.cfg.sparsity * sparsity_penalty(features, self.transcoder, y)
        else:
            dead = self.idle > self.cfg.dead_tokens
            loss = loss + AUXILIARY * dead_features_loss(before, y - output, self.transcoder, dead)
        active = features > 0
        self.idle = torch.where(active.any(0), 0, self.idle + len(x))
        return self._logged(loss, fvu=unexplained, l0=active.sum(-1).float().mean())
