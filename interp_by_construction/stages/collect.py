"""What the nodes of a layer do on the label split, in memory that does not grow with the corpus.

1. One pass over the split: sums for mean and variance, extremes, the strongest token of every block
   for each pole (merged into a running top k), and a uniform reservoir of tokens, shared by all
   nodes.
2. Choose the nodes and the dominant pole of each; with nodes.poles=both, nodes that take both signs
   are shown from both sides.
3. A second pass for the chosen nodes: histogram, and near misses (a token of a top excerpt with low
   activation).
4. A third pass over the blocks that were picked: cut the excerpts (top, quantiles, near misses,
   random).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from interp_by_construction.config import CollectConfig, NodesConfig
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.device import resolve_device
from interp_by_construction.errors import ConfigError
from interp_by_construction.subject.activation_statistics import FirstPass, SecondPass
from interp_by_construction.subject.families import d_mlp
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.reading import read_activations
from interp_by_construction.subject.records import Node, excerpt_of
from interp_by_construction.subject.tables import write_records


def run(
    model_dir: Path,
    corpus_dir: Path,
    layer: int,
    cfg: CollectConfig,
    nodes_cfg: NodesConfig,
    seed: int,
    out: Path,
    device: str = "auto",
    chosen: Mapping[int, int] | None = None,
) -> dict[str, Any]:
    """chosen: node -> pole, in place of the nodes that `nodes_cfg` selects and of the poles it asks
    for.

    Writes `out/nodes.jsonl` (the chosen nodes, dominant poles), `out/opposites.jsonl` (other poles,
    where asked for) and `out/moments.safetensors` (mean and variance of the whole layer).

    Raises:
        ConfigError: more nodes asked for than the layer has.
    """
    out.mkdir(parents=True, exist_ok=True)
    model: Any = load_subject(model_dir)
    model = model.to(resolve_device(device))
    passage = Passage.of_split(corpus_dir, "label", n_blocks=cfg.max_blocks, first=True)
    width = d_mlp(model, layer)
    counted = nodes_cfg.select != "all" and nodes_cfg.fraction is None
    if counted and nodes_cfg.count is not None and nodes_cfg.count > width:
        raise ConfigError(
            f"nodes.count={nodes_cfg.count}, but layer {layer} has {width} nodes; use nodes.count<={width}"
        )
    first = FirstPass(width, cfg.top_k, reservoir=256 * cfg.n_quantiles, seed=seed)
    _update(first, model, passage, layer, None, cfg.batch_size, "moments")
    if chosen is None:
        selected = choose_nodes(first.variance, nodes_cfg, seed * 1000 + layer)
        nodes, poles = _views(first, selected, nodes_cfg)
    else:
        selected = nodes = np.array(sorted(chosen), np.int64)
        poles = torch.tensor([chosen[int(node)] for node in nodes])
    second = SecondPass(first, nodes, poles, cfg, vocab_size=len(passage.source.tokenizer))
    _update(second, model, passage, layer, nodes, cfg.batch_size, "near misses")
    picked = [
        first.picks(int(node), int(pole), cfg, seed)
        for node, pole in zip(nodes, poles, strict=True)
    ]
    for column, picks in enumerate(picked):
        picks["near_misses"] = second.near_misses(column)
    views = list(zip(nodes.tolist(), poles.tolist(), picked, strict=True))
    excerpts = _cut(model, passage, layer, views, cfg)
    records = [
        Node(
            layer=layer,
            node=int(node),
            pole=int(poles[column]),
            mean=float(first.mean[node]),
            variance=float(first.variance[node]),
            histogram=second.histogram[column].tolist(),
            bin_edges=second.edges[column].tolist(),
            **excerpts[column],
        )
        for column, node in enumerate(nodes)
    ]
    write_records(
        out / "nodes.jsonl", (dataclasses.asdict(record) for record in records[: len(selected)])
    )
    write_records(
        out / "opposites.jsonl", (dataclasses.asdict(record) for record in records[len(selected) :])
    )
    save_file(
        {"mean": first.mean.clone(), "variance": first.variance.clone()},
        out / "moments.safetensors",
    )
    n_opposite, n_dead = len(records) - len(selected), int((first.variance == 0).sum())
    return {
        "n_nodes": len(selected),
        "n_opposite_poles": n_opposite,
        "n_tokens": first.count,
        "n_dead": n_dead,
    }


def choose_nodes(variance: Tensor, cfg: NodesConfig, seed: int) -> np.ndarray:
    """Sorted ids of the nodes that are labelled: all, the top by variance, or a seeded random
    set."""
    width = len(variance)
    if cfg.fraction is not None:
        count = round(cfg.fraction * width)
    else:
        count = width if cfg.select == "all" or cfg.count is None else cfg.count
    if cfg.select == "random":
        return np.sort(np.random.default_rng(seed).permutation(width)[:count])
    return np.sort(torch.argsort(variance, descending=True, stable=True)[:count].numpy())


def _views(first: FirstPass, chosen: np.ndarray, cfg: NodesConfig) -> tuple[np.ndarray, Tensor]:
    """Node and pole of each record: the chosen nodes' dominant poles, then the other pole of those
    that take both signs."""
    poles = first.poles()[chosen]
    if cfg.poles == "dominant":
        return chosen, poles
    signed = (first.low[chosen] < 0) & (first.high[chosen] > 0)
    return np.concatenate([chosen, chosen[signed.numpy()]]), torch.cat([poles, -poles[signed]])


def _update(
    statistics: FirstPass | SecondPass,
    model: nn.Module,
    passage: Passage,
    layer: int,
    nodes: np.ndarray | None,
    batch_size: int,
    description: str,
) -> None:
    """One pass over the passage; nodes: null for the whole layer."""
    for at, values in read_activations(
        model, passage, layer, nodes, batch_size, f"collect layer {layer}: {description}"
    ):
        ids = torch.from_numpy(passage.part(at).ids)
        statistics.update(torch.from_numpy(passage.blocks[at]), ids, torch.from_numpy(values))


Picks = Mapping[str, Sequence[tuple[int, int]]]
"""Kind of excerpt -> (block, position) of its peaks."""


def _cut(
    model: nn.Module,
    passage: Passage,
    layer: int,
    views: Sequence[tuple[int, int, Picks]],
    cfg: CollectConfig,
) -> list[dict[str, Any]]:
    """views: (node, pole, picks). {kind: [Excerpt]} for each of them, in the order of the picks;
    the passage begins with the split's first block."""
    wanted: dict[int, list[tuple[int, str, int, int]]] = defaultdict(list)
    cut: list[dict[str, Any]] = []
    for column, (_, _, picks) in enumerate(views):
        cut.append({kind: [None] * len(chosen) for kind, chosen in picks.items()})
        for kind, chosen in picks.items():
            for rank, (block, position) in enumerate(chosen):
                wanted[block].append((column, kind, rank, position))
    passage = passage.part(np.array(sorted(wanted), dtype=np.int64))
    decoded = cache(lambda token: str(passage.source.tokenizer.decode([token])))
    for at, values in read_activations(
        model,
        passage,
        layer,
        batch_size=cfg.batch_size,
        description=f"collect layer {layer}: excerpts",
    ):
        part = passage.part(at)
        for row, block in enumerate(part.blocks.tolist()):
            tokens = [decoded(token) for token in part.ids[row].tolist()]
            for column, kind, rank, position in wanted[block]:
                node, pole, _ = views[column]
                window = part.around(row, position, cfg.window)
                cut[column][kind][rank] = excerpt_of(
                    tokens, values[row, :, node] * pole, position, window, block
                )
    return cut
