"""The two losses, as pure functions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

_TINY = 1e-12


def lm_loss(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Mean next-token cross-entropy in nats; logits [batch, pos, vocab], input_ids [batch, pos]."""
    # An ignored label at the last position spares two copies of the logits, the largest tensor of a step.
    following = F.pad(input_ids[:, 1:], (0, 1), value=-100)
    flat = rearrange(logits, "batch pos vocab -> (batch pos) vocab")
    return F.cross_entropy(flat.float(), rearrange(following, "batch pos -> (batch pos)"), ignore_index=-100)


class Correlation(NamedTuple):
    """Alignment of a batch."""

    loss: Tensor
    """Mean of 1 - r over the nodes whose target varies; 0 if there are none."""
    r: Tensor
    """Pearson's r [node]; NaN where activation or target is constant."""
    n_constant_targets: Tensor
    """Nodes left out because their target is constant in this batch."""
    n_constant_activations: Tensor
    """Nodes with a varying target that do not vary themselves; they count as 1 in the loss and get no gradient."""


def correlation_loss(activations: Tensor, targets: Tensor, mask: Tensor | None = None) -> Correlation:
    """1 - Pearson's r between activations and targets, both [batch, pos, node], over the tokens of the batch.

    `mask` [batch, pos] is True where the target is defined. Float32 whatever comes in. Scale-free: neither small
    activations nor matching means reduce it.
    """
    if mask is None:
        mask = torch.ones(activations.shape[:2], dtype=torch.bool, device=activations.device)
    x, y = activations[mask].float(), targets[mask].float()
    if len(x) < 2:
        zero = activations.sum() * 0.0
        count = torch.tensor(float(activations.shape[-1]))
        return Correlation(zero, torch.full(activations.shape[-1:], torch.nan), count, torch.zeros(()))
    x, y = x - x.mean(0), y - y.mean(0)
    xx, yy = x.square().sum(0), y.square().sum(0)
    moves, defined = xx > _TINY, yy > _TINY
    # Where nothing varies the divisor is 1, so that neither value nor gradient can become NaN or huge.
    r = (x * y).sum(0) * torch.where(moves, xx, 1.0).rsqrt() * torch.where(defined, yy, 1.0).rsqrt()
    loss = ((1.0 - r) * defined).sum() / defined.sum().clamp(min=1)
    shown = torch.where(moves & defined, r.detach(), torch.nan)
    return Correlation(loss, shown, (~defined).sum().float(), (defined & ~moves).sum().float())


def pearson_columns(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's r of each column in float64: [token, node] twice -> [node]; NaN where a column is constant."""
    x, y = x.double(), y.double()
    x, y = x - x.mean(0), y - y.mean(0)
    xx, yy = x.square().sum(0), y.square().sum(0)
    return torch.where((xx > 0) & (yy > 0), (x * y).sum(0) / (xx * yy).sqrt(), torch.nan)
