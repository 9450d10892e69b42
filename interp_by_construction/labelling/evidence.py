"""Evidence about the nodes of a layer, in memory that does not grow with the text.

1. A first pass over the text: mean, variance and extremes of every node, its strongest tokens for
   each pole, and a random sample of tokens that all nodes share.
2. Nodes are chosen, and the dominant pole of each. With nodes.poles=both, nodes that take both
   signs are shown from both sides.
3. A second pass for the chosen nodes: histograms, and near misses (tokens of top excerpts that have
   a low activation elsewhere).
4. A third pass over blocks with chosen tokens: excerpts are cut around these tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from interp_by_construction.config import CollectConfig
from interp_by_construction.config.labels import SelectionConfig
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.errors import ConfigError
from interp_by_construction.subject.activation_statistics import FirstPass, Picks, SecondPass
from interp_by_construction.subject.nodes import Excerpt, Node, excerpt_of
from interp_by_construction.subject.reading import read_activations

Activations = Callable[
    [Passage, NDArray[np.int64] | None, str], Iterator[tuple[slice, NDArray[np.float32]]]
]
"""Passage, nodes (None: all) and a description -> what `read_activations` gives."""


def of_model(model: nn.Module, layer: int, batch_size: int) -> Activations:
    """The activations of a layer of a model."""
    return lambda passage, nodes, description: read_activations(
        model, passage, layer, nodes, batch_size, f"collect layer {layer}: {description}"
    )


@dataclass(frozen=True)
class Evidence:
    """What was found out about the nodes of a layer."""

    nodes: list[Node]
    """The dominant poles of the chosen nodes, by ascending id."""
    opposites: list[Node]
    """The other poles of chosen nodes that take both signs, if asked for."""
    mean: Tensor
    """Of all nodes of the layer, float64 [node]."""
    variance: Tensor
    """Of all nodes of the layer, float64 [node]."""
    n_tokens: int


class _View(NamedTuple):
    """A node, seen from one side."""

    node: int
    pole: int


def gather_evidence(
    read: Activations,
    passage: Passage,
    layer: int,
    cfg: CollectConfig,
    which: SelectionConfig | Mapping[int, int],
    seed: int,
) -> Evidence:
    """Evidence about some nodes of a layer. which: how they are chosen, or node -> pole."""
    read = _on_text(read)
    first = _first_pass(read, passage, cfg, seed)
    n_chosen, views = _views(first, which, seed * 1000 + layer)
    nodes = np.array([view.node for view in views], dtype=np.int64)
    poles = torch.tensor([view.pole for view in views], dtype=torch.int64)
    second = SecondPass(first, nodes, poles, cfg)
    for at, values in read(passage, nodes, "near misses"):
        second.update(_rows(at), _ids(passage.part(at)), torch.from_numpy(values))
    picks = [
        first.picks(*view, cfg, seed) | {"near_misses": second.near_misses(column)}
        for column, view in enumerate(views)
    ]
    cut = _cut(read, passage, views, picks, cfg.window)
    records = [
        Node(
            layer=layer,
            node=node,
            pole=pole,
            mean=float(first.mean[node]),
            variance=float(first.variance[node]),
            histogram=second.histogram[column].tolist(),
            bin_edges=second.edges[column].tolist(),
            **cut[column],
        )
        for column, (node, pole) in enumerate(views)
    ]
    return Evidence(records[:n_chosen], records[n_chosen:], first.mean, first.variance, first.count)


def _first_pass(read: Activations, passage: Passage, cfg: CollectConfig, seed: int) -> FirstPass:
    first: FirstPass | None = None
    for at, values in read(passage, None, "moments"):
        if first is None:
            first = FirstPass(values.shape[-1], cfg.top_k, 256 * cfg.n_quantiles, seed)
        first.update(_rows(at), _ids(passage.part(at)), torch.from_numpy(values))
    assert first is not None, "a passage has blocks"
    return first


def _on_text(read: Activations) -> Activations:
    """The same without what a block begins with (`Passage.n_begin`)."""

    def cropped(
        passage: Passage, nodes: NDArray[np.int64] | None, description: str
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for at, values in read(passage, nodes, description):
            yield at, values[:, passage.n_begin :]

    return cropped


def _ids(part: Passage) -> Tensor:
    """Token ids, [block, pos], of the positions that `_on_text` leaves."""
    return torch.from_numpy(part.ids[:, part.n_begin :])


def _rows(at: slice) -> Tensor:
    """The numbers of blocks in the passage."""
    return torch.arange(at.start, at.stop)


def _views(
    first: FirstPass, which: SelectionConfig | Mapping[int, int], seed: int
) -> tuple[int, list[_View]]:
    """How many nodes were chosen, and what is shown: dominant poles, then the other ones."""
    if isinstance(which, Mapping):
        return len(which), [_View(*each) for each in sorted(which.items())]
    chosen = choose_nodes(first.variance, which, seed)
    dominant = first.poles()
    views = [_View(node, int(dominant[node])) for node in chosen.tolist()]
    if which.poles == "dominant":
        return len(chosen), views
    signed = ((first.low < 0) & (first.high > 0)).tolist()
    others = [_View(node, -pole) for node, pole in views if signed[node]]
    return len(chosen), [*views, *others]


def check_count(cfg: SelectionConfig, layer: int, width: int) -> None:
    """Raises ConfigError if more nodes are asked for than the layer has."""
    counted = cfg.select != "all" and cfg.fraction is None
    if counted and cfg.count is not None and cfg.count > width:
        raise ConfigError(
            f"nodes.count={cfg.count}, but layer {layer} has {width} nodes; use nodes.count<={width}"
        )


def choose_nodes(variance: Tensor, cfg: SelectionConfig, seed: int) -> NDArray[np.int64]:
    """Sorted ids of the nodes that are labelled: all, the top by variance, or a random set."""
    width = len(variance)
    if cfg.fraction is not None:
        count = round(cfg.fraction * width)
    else:
        count = width if cfg.select == "all" or cfg.count is None else cfg.count
    if cfg.select == "random":
        return np.sort(np.random.default_rng(seed).permutation(width)[:count])
    return np.sort(torch.argsort(variance, descending=True, stable=True)[:count].numpy())


def _cut(
    read: Activations,
    passage: Passage,
    views: Sequence[_View],
    picks: Sequence[Mapping[str, Picks]],
    width: int,
) -> list[dict[str, list[Excerpt]]]:
    """{kind: excerpts} for each view, in the order of its picks."""
    wanted: dict[int, list[tuple[int, str, int, int]]] = defaultdict(list)
    cut: list[dict[str, Any]] = []
    for column, kinds in enumerate(picks):
        cut.append({kind: [None] * len(chosen) for kind, chosen in kinds.items()})
        for kind, chosen in kinds.items():
            for rank, (row, position) in enumerate(chosen):
                wanted[row].append((column, kind, rank, position))
    rows = np.array(sorted(wanted), dtype=np.int64)
    picked = passage.part(rows)
    for at, values in read(picked, None, "excerpts"):
        part = picked.part(at)
        for i, row in enumerate(rows[at].tolist()):
            tokens = part.tokens[i][part.n_begin :]
            for column, kind, rank, position in wanted[row]:
                node, pole = views[column]
                found = part.around(i, position + part.n_begin, width)
                window = slice(found.start - part.n_begin, found.stop - part.n_begin)
                cut[column][kind][rank] = excerpt_of(
                    tokens, values[i, :, node] * pole, position, window, int(part.blocks[i])
                )
    return cut
