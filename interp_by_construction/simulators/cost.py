"""What a simulation costs, in numbers that two identical runs share: tokens read and multiply-adds.
Seconds are for the benches."""

from __future__ import annotations

from typing import Any

from interp_by_construction.llm.checkpoints import local_path
from interp_by_construction.simulators.encoder import block_weights

MILLION = 1_000_000


def labeler_multiply_adds(model: str) -> int | None:
    """Multiply-adds per token of a labeler that may run anywhere, from its config alone; None where
    that cannot be read."""
    import torch
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(local_path(model))
        with torch.device("meta"):
            return block_weights(AutoModel.from_config(config)) or None
    except (OSError, ValueError):
        return None


def per_million(
    exact_tokens: float, exact_weights: int | None, dense_tokens: float, dense_multiply_adds: float
) -> dict[str, Any]:
    """Cost of one million node-tokens (one node's simulation on one token).

    exact_tokens: labeler tokens per node-token; exact_weights: multiply-adds per labeler token;
    dense_tokens: encoder tokens per node-token; dense_multiply_adds: per node-token, the encoder's
    share included.
    """
    exact = exact_tokens * exact_weights if exact_weights is not None else None
    return {
        "exact": {
            "labeler_tokens": round(exact_tokens * MILLION),
            "multiply_adds": round(exact * MILLION) if exact is not None else None,
        },
        "dense": {
            "encoder_tokens": round(dense_tokens * MILLION),
            "multiply_adds": round(dense_multiply_adds * MILLION),
        },
        "exact_over_dense": exact / dense_multiply_adds if exact is not None else None,
    }
