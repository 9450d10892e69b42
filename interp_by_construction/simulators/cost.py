"""What a simulation costs, in numbers that two identical runs share: tokens read and multiply-adds.
Seconds are for the benches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from transformers import AutoConfig, AutoModel

from interp_by_construction.llm.embedded import local_path
from interp_by_construction.simulators.encoder import block_weights

MILLION = 1_000_000


def labeler_multiply_adds(model: str) -> int | None:
    """Multiply-adds per token of a labeler that may run anywhere, from its config alone; None where
    that cannot be read."""
    try:
        config = AutoConfig.from_pretrained(local_path(model), trust_remote_code=False)
        with torch.device("meta"):
            return block_weights(AutoModel.from_config(config)) or None
    except (OSError, ValueError):
        return None


class ExactCost(NamedTuple):
    """Of the labeler."""

    labeler_tokens: int
    multiply_adds: int | None
    """None where the labeler's size cannot be read."""


class DenseCost(NamedTuple):
    """Of a simulator with an encoder."""

    encoder_tokens: int
    multiply_adds: int


class Cost(NamedTuple):
    """Of one million node-tokens (one node's simulation on one token)."""

    exact: ExactCost
    dense: DenseCost
    exact_over_dense: float | None
    """In multiply-adds."""


def per_million(
    exact_tokens: float, exact_weights: int | None, dense_tokens: float, dense_multiply_adds: float
) -> Cost:
    """The cost of one million node-tokens from that of one.

    exact_tokens: labeler tokens per node-token; exact_weights: multiply-adds per labeler token;
    dense_tokens: encoder tokens per node-token; dense_multiply_adds: per node-token, the encoder's
    share included.
    """
    exact = exact_tokens * exact_weights if exact_weights is not None else None
    return Cost(
        ExactCost(round(exact_tokens * MILLION), None if exact is None else round(exact * MILLION)),
        DenseCost(round(dense_tokens * MILLION), round(dense_multiply_adds * MILLION)),
        None if exact is None else exact / dense_multiply_adds,
    )
