"""The losses, as pure functions."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

_TINY = 1e-12

Objective = Literal["correlation", "mse"]


def lm_loss(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Mean next-token cross-entropy in nats; logits [batch, pos, vocab], input_ids [batch, pos]."""
    # An ignored label at the last position saves two copies of the logits, the largest tensor of a
    # step.
    following = F.pad(input_ids[:, 1:], (0, 1), value=-100)
    flat = rearrange(logits, "batch pos vocab -> (batch pos) vocab")
    return F.cross_entropy(
        flat.float(), rearrange(following, "batch pos -> (batch pos)"), ignore_index=-100
    )


def distill_loss(logits: Tensor, original: Tensor) -> Tensor:
    """KL(original || model) of the next-token distributions in nats, mean over tokens; both logits
    [batch, pos, vocab].

    Distillation as in Hinton et al. (2015), https://arxiv.org/abs/1503.02531, at temperature 1. No
    gradient reaches `original`.
    """
    flat, soft = (
        rearrange(each, "batch pos vocab -> (batch pos) vocab").float()
        for each in (logits, original.detach())
    )
    return F.kl_div(
        F.log_softmax(flat, -1), F.log_softmax(soft, -1), log_target=True, reduction="batchmean"
    )


class Correlation(NamedTuple):
    """Alignment of a batch."""

    loss: Tensor
    """Mean of 1 - r over the nodes whose target varies; 0 if there are none. Only its gradient
    depends on the objective."""
    r: Tensor
    """Pearson's r [node]; NaN where activation or target is constant."""
    n_constant_targets: Tensor
    """Nodes left out because their target is constant in this batch."""
    n_constant_activations: Tensor
    """Nodes with a varying target that do not vary themselves; they count as 1 in the loss and get
    no gradient."""

    @property
    def shown(self) -> Tensor:
        """The loss for a curve: no gradient, and NaN where no target varied, since that 0 is no
        good alignment."""
        loss = self.loss.detach()
        return torch.where(self.n_constant_targets.to(loss.device) < len(self.r), loss, torch.nan)


def correlation_loss(
    activations: Tensor, targets: Tensor, mask: Tensor | None = None
) -> Correlation:
    """1 - Pearson's r between activations and targets, both [batch, pos, node], over the tokens of
    the batch where `mask` [batch, pos] is True (None: everywhere).

    It is computed in float32. It is free of scale: neither small activations nor matching means
    reduce it.
    """
    return alignment_loss("correlation", activations, targets, mask)


def alignment_loss(
    objective: Objective, activations: Tensor, targets: Tensor, mask: Tensor | None = None
) -> Correlation:
    """Alignment of activations with targets; arguments as of `correlation_loss`.

    `correlation`: see `correlation_loss`. `mse`: calibrated mean squared error. Per node, over the
    tokens of the batch, with s for the standard deviation,

        calibrated = mean(x) + s(x) / s(y) * (y - mean(y))
        loss       = mean((x - calibrated)^2) / (2 s(x)^2)

    The line from target to activation is the linear calibration of Bills et al. (2023), but its
    slope matches variances. The slope of least squares is r * s(x) / s(y): a node that does not
    correlate yet would be drawn to its mean and die, and one that correlates negatively would be
    trained to do so more. s(x), mean(x) and the divisor get no gradient, or else the activations
    could shrink towards a target that shrinks with them. The value is 1 - r, so that a weight means
    as much as with `correlation`. The gradient differs: it also draws outliers in, where that of r
    leaves the node's scale alone.
    """
    if mask is None:
        mask = torch.ones(activations.shape[:2], dtype=torch.bool, device=activations.device)
    x, y = activations[mask].float(), targets[mask].float()
    if len(x) < 2:
        zero = activations.sum() * 0.0
        count = torch.tensor(float(activations.shape[-1]))
        return Correlation(
            zero, torch.full(activations.shape[-1:], torch.nan), count, torch.zeros(())
        )
    x, y = x - x.mean(0), y - y.mean(0)
    xx, yy = x.square().sum(0), y.square().sum(0)
    moves, defined = xx > _TINY, yy > _TINY
    # Where nothing varies the divisor is 1: neither value nor gradient can become NaN or huge.
    to_x, to_y = torch.where(moves, xx, 1.0).rsqrt(), torch.where(defined, yy, 1.0).rsqrt()
    r = (x * y).sum(0) * to_x * to_y
    if objective == "mse":
        squares = ((x * to_x.detach() - y * to_y).square()).sum(0) / 2
        each = torch.where(moves, squares, 1.0)
    else:
        each = 1.0 - r
    loss = (each * defined).sum() / defined.sum().clamp(min=1)
    shown = torch.where(moves & defined, r.detach(), torch.nan)
    return Correlation(loss, shown, (~defined).sum().float(), (defined & ~moves).sum().float())


def pearson_columns(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's r of each column in float64: [token, node] twice -> [node]; NaN where a column is
    constant."""
    x, y = x.double(), y.double()
    x, y = x - x.mean(0), y - y.mean(0)
    xx, yy = x.square().sum(0), y.square().sum(0)
    return torch.where((xx > 0) & (yy > 0), (x * y).sum(0) / (xx * yy).sqrt(), torch.nan)
