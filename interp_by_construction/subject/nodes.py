"""What is known about the nodes of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.engine.rows import read_rows

VIEWER_VERSION = 2
"""Of the artifacts of the viewer stage. It stands here and not in the stage, whose imports take
seconds that `ibc show` does not have."""


@dataclass(frozen=True)
class Excerpt:
    """A short token window and what one node does on it."""

    tokens: list[str]
    """Decoded subject tokens; joined they give the text. A part of a character is empty, but for
    the last part (`corpus.token_texts`)."""
    activations: list[float]
    """One value per token."""
    peak: int
    """Index of the token the excerpt was chosen for."""
    block: int
    """Block of the label split the excerpt comes from."""


def shown_at(tokens: Sequence[str], position: int) -> int:
    """Where the text of a token is shown: its own position, or that of the last part of the
    character that it is a part of."""
    shown = (i for i in range(position, len(tokens)) if tokens[i])
    return next(shown, position)


def excerpt_of(
    tokens: Sequence[str], values: NDArray[Any], position: int, window: slice, block: int
) -> Excerpt:
    """The excerpt `window` around a token of a block. tokens, values: of the whole block, [pos]."""
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
    """What `collect` found about a pole of a node. Activations of excerpts are times `pole`."""

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
    """Around random tokens of the label split."""


def read_nodes(path: Path) -> list[Node]:
    """The dominant poles of the chosen nodes, of a collect artifact."""
    return _nodes(path / "nodes.jsonl")


def read_opposites(path: Path) -> list[Node]:
    """The other poles of nodes that take both signs; none with nodes.poles=dominant."""
    return _nodes(path / "opposites.jsonl")


def _nodes(file: Path) -> list[Node]:
    nodes = []
    for record in read_rows(file):
        for kind in ("top", "quantiles", "near_misses", "random"):
            record[kind] = [Excerpt(**excerpt) for excerpt in record[kind]]
        nodes.append(Node(**record))
    return nodes


def read_promoted(path: Path) -> dict[int, dict[str, Any]]:
    """Node -> output tokens that it promotes in the final model; empty if `path` has no file."""
    file = path / "promoted.jsonl"
    rows = read_rows(file) if file.is_file() else []
    return {each["node"]: each for each in rows if each["moment"] == "final"}
