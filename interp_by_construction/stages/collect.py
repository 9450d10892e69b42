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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from interp_by_construction.config import CollectConfig, NodesConfig
from interp_by_construction.corpus import load_blocks, load_tokenizer
from interp_by_construction.engine.device import resolve_device
from interp_by_construction.engine.progress import track
from interp_by_construction.errors import ConfigError
from interp_by_construction.subject.activation_statistics import FirstPass, SecondPass
from interp_by_construction.subject.families import d_mlp
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.records import Excerpt, Node
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
    collector = _Collector(model_dir, corpus_dir, layer, cfg, device)
    width = d_mlp(collector.model, layer)
    counted = nodes_cfg.select != "all" and nodes_cfg.fraction is None
    if counted and nodes_cfg.count is not None and nodes_cfg.count > width:
        raise ConfigError(
            f"nodes.count={nodes_cfg.count}, but layer {layer} has {width} nodes; use nodes.count<={width}"
        )
    first = FirstPass(width, cfg.top_k, reservoir=256 * cfg.n_quantiles, seed=seed)
    for indices, input_ids, values in collector.batches(
        range(collector.n_blocks), f"collect layer {layer}: moments"
    ):
        first.update(indices, input_ids, values)
    if chosen is None:
        selected = choose_nodes(first.variance, nodes_cfg, seed * 1000 + layer)
        nodes, poles = _views(first, selected, nodes_cfg)
    else:
        selected = nodes = np.array(sorted(chosen), np.int64)
        poles = torch.tensor([chosen[int(node)] for node in nodes])
    second = SecondPass(first, nodes, poles, cfg, vocab_size=len(collector.tokenizer))
    for indices, input_ids, values in collector.batches(
        range(collector.n_blocks), f"collect layer {layer}: near misses"
    ):
        second.update(indices, input_ids, values[..., nodes])
    picked = [
        first.picks(int(node), int(pole), cfg, seed)
        for node, pole in zip(nodes, poles, strict=True)
    ]
    for column, picks in enumerate(picked):
        picks["near_misses"] = second.near_misses(column)
    excerpts = collector.cut(nodes, poles, picked)
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


class _Collector:
    """Model, blocks and decoder of one collection."""

    def __init__(
        self, model_dir: Path, corpus_dir: Path, layer: int, cfg: CollectConfig, device: str
    ) -> None:
        self.layer, self.cfg, self.device = layer, cfg, resolve_device(device)
        model: Any = load_subject(model_dir)
        self.model = model.to(self.device)
        self.dataset = load_blocks(corpus_dir, "label")
        self.n_blocks = min(len(self.dataset), cfg.max_blocks or len(self.dataset))
        self.tokenizer = load_tokenizer(corpus_dir)
        self._decoded: dict[int, str] = {}

    @torch.no_grad()
    def batches(self, blocks: Any, description: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Block ids [batch], input_ids [batch, pos] and activations [batch, pos, d_mlp] on the
        CPU."""
        order = list(blocks)
        starts = range(0, len(order), self.cfg.batch_size)
        for start in track(starts, description, total=len(starts)):
            indices = order[start : start + self.cfg.batch_size]
            input_ids = torch.from_numpy(
                np.asarray(self.dataset[indices]["input_ids"], dtype=np.int64)
            )
            values = activations(self.model, self.layer, input_ids.to(self.device)).float().cpu()
            yield torch.tensor(indices), input_ids, values

    def cut(
        self, nodes: np.ndarray, poles: Tensor, picked: list[dict[str, list[tuple[int, int]]]]
    ) -> list[dict[str, Any]]:
        """Excerpts around (block, position) picks, in the order of the picks: {kind: [Excerpt]} for
        each node and its pole."""
        wanted: dict[int, list[tuple[int, str, int, int]]] = defaultdict(list)
        cut: list[dict[str, Any]] = [
            {kind: [None] * len(picks) for kind, picks in node.items()} for node in picked
        ]
        for column, node in enumerate(picked):
            for kind, picks in node.items():
                for rank, (block, position) in enumerate(picks):
                    wanted[block].append((column, kind, rank, position))
        for indices, input_ids, values in self.batches(
            sorted(wanted), f"collect layer {self.layer}: excerpts"
        ):
            documents = self.dataset[indices.tolist()].get("document")
            for row, block in enumerate(indices.tolist()):
                document = None if documents is None else np.asarray(documents[row])
                for column, kind, rank, position in wanted[block]:
                    start, end = self._window(position, input_ids.shape[1], document)
                    poled = values[row, start:end, nodes[column]] * poles[column]
                    cut[column][kind][rank] = Excerpt(
                        tokens=[
                            self._decode(token) for token in input_ids[row, start:end].tolist()
                        ],
                        activations=[float(f"{value:.6g}") for value in poled.tolist()],
                        peak=position - start,
                        block=block,
                    )
        return cut

    def _window(self, position: int, length: int, document: np.ndarray | None) -> tuple[int, int]:
        """Mostly what stands before the peak, since the model reads from left to right; never
        another document."""
        window = min(self.cfg.window, length)
        start = min(max(0, position - (3 * window) // 4), length - window)
        end = start + window
        if document is not None:
            same = np.flatnonzero(document[start:end] == document[position])
            start, end = start + int(same[0]), start + int(same[-1]) + 1
        return start, end

    def _decode(self, token: int) -> str:
        if token not in self._decoded:
            self._decoded[token] = str(self.tokenizer.decode([token]))
        return self._decoded[token]
