"""Typed records that travel between stages, as JSON or parquet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Excerpt:
    """A short token window and what one node does on it."""

    tokens: list[str]
    """Decoded subject tokens; joined they give the text."""
    activations: list[float]
    """One value per token."""
    peak: int
    """Index of the token the excerpt was chosen for."""
    block: int
    """Block of the label split the excerpt comes from."""


@dataclass(frozen=True)
class Node:
    """What `collect` found about one node. Excerpts show the dominant pole: activations are multiplied by `pole`."""

    layer: int
    node: int
    pole: int
    """1 or -1: the sign of the activations that the label describes."""
    mean: float
    variance: float
    top: list[Excerpt]
    quantiles: list[Excerpt]
    near_misses: list[Excerpt]
    histogram: list[int]
    bin_edges: list[float]


@dataclass(frozen=True)
class Label:
    """The natural-language explanation of one node, or the reason why there is none."""

    node: int
    pole: int
    text: str | None
    status: Literal["aligned", "failed"]
    attempts: int
    reason: str | None
