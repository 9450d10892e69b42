"""Typed records that travel between stages, as JSON or parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray


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


def excerpt_of(
    tokens: Sequence[str], values: NDArray, position: int, window: slice, block: int
) -> Excerpt:
    """The excerpt `window` around one token of a block. tokens, values: of the whole block,
    [pos]."""
    return Excerpt(
        tokens=list(tokens[window]),
        activations=[float(f"{value:.6g}") for value in values[window].tolist()],
        peak=position - window.start,
        block=block,
    )


class AlignedNodes(NamedTuple):
    """The aligned nodes of one layer, [node] each."""

    layer: int
    nodes: NDArray[np.int64]
    poles: NDArray[np.int64]


@dataclass(frozen=True)
class Node:
    """What `collect` found about one pole of one node: the activations of the excerpts are
    multiplied by `pole`."""

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
    random: list[Excerpt] = field(default_factory=list)
    """Around tokens drawn at random from the label split, whatever the node does there."""


@dataclass(frozen=True)
class Label:
    """The natural-language explanation of one node, or the reason why there is none."""

    node: int
    pole: int
    text: str | None
    status: Literal["aligned", "failed"]
    attempts: int
    reason: str | None


@dataclass(frozen=True)
class Proposal:
    """One answer of the labeler for one node: the history of a label, with what was chosen or
    dropped and why."""

    node: int
    pole: int
    """The pole whose excerpts the labeler was shown."""
    round: int
    """0 is the first time that the labeler is asked for this node."""
    origin: Literal["proposal", "contrast", "retry", "last resort", "revision", "audit"]
    """`contrast`: asked what sets the node apart from the one that holds its label; `retry`: asked
    for other labels; `last resort`: its own top words added to a label that is taken; `revision`:
    shown counter-examples of its label; `audit`: the same, found by an audit."""
    text: str | None
    """Null where the answer is no label."""
    score: float | None = None
    """Pearson's r, on the select split, of the node's activations times `pole` with the simulation
    of `text`; null where it is undefined or not asked for."""
    chosen: bool = False
    why: str = ""
    """Why it was chosen or dropped."""
