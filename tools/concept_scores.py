"""How well simulated activations tell the members of held-out concepts, on held-out texts.

The training scripts choose their weights by it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from lexical_words import IGNORE, Concept
from torch import Tensor

DEV_TEXTS = 0.08
"""Share of the texts that are held out."""
MIN_DEV_TOKENS = 8
"""A held-out concept with fewer tokens in the held-out texts says nothing."""


def scores(simulated: Tensor, member: Tensor, concepts: list[Concept]) -> dict[str, Any]:
    """Mean r and AUC of the concepts with `MIN_DEV_TOKENS` members, NaN without any; also by kind.

    simulated: [token, concept]; member: the same, 1, 0 or IGNORE.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for i, concept in enumerate(concepts):
        known = member[:, i] != IGNORE
        truth, s = (member[known, i] == 1).double(), simulated[known, i].double()
        n = float(truth.sum())
        if n < MIN_DEV_TOKENS:
            continue
        r = float(torch.corrcoef(torch.stack([truth, s]))[0, 1])
        ranks = torch.empty_like(s)
        ranks[s.argsort()] = torch.arange(1.0, len(s) + 1, dtype=s.dtype, device=s.device)
        auc = (float(ranks[truth == 1].sum()) - n * (n + 1) / 2) / (n * (len(s) - n))
        found.setdefault(concept.kind, []).append((r, auc))
    every = np.array([pair for pairs in found.values() for pair in pairs]).reshape(-1, 2)
    r, auc = every.mean(axis=0).tolist() if len(every) else (math.nan, math.nan)
    return {
        "r": r,
        "auc": auc,
        "n": len(every),
        "by_kind": {
            kind: round(float(np.mean([r for r, _ in pairs])), 3) for kind, pairs in found.items()
        },
    }
