"""LM losses of a model whose nodes are set to something else, and the reading of blocks that they
share with `function`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from interp_by_construction.corpus import load_blocks
from interp_by_construction.engine.progress import track
from interp_by_construction.stats.bootstrap import paired_difference_ci95
from interp_by_construction.subject.hooks import activations, changed


class SimulatedBlocks(NamedTuple):
    """What the labels say about the first tokens of some blocks of a split."""

    split: str
    blocks: NDArray[np.int64]
    """Block index in the split, [block]."""
    values: NDArray
    """Simulated activations, [block, pos, node]; any float type, may be a memory map."""
    mask: NDArray[np.bool_]
    """Where they count (not on end-of-text tokens), [block, pos]."""


class Intervention(NamedTuple):
    """What some nodes are set to."""

    nodes: NDArray[np.int64]
    values: Callable[[NDArray], NDArray]
    """Simulated activations [batch, pos, node] -> values that broadcast to [batch, pos,
    len(nodes)]."""


class Losses(NamedTuple):
    """Summed LM loss of each document, in nats."""

    document: NDArray[np.int64]
    """Document ids, ascending, [document]."""
    tokens: NDArray[np.int64]
    """Predicted tokens, [document]."""
    nats: dict[str, NDArray[np.float64]]
    """Intervention (`none` for the untouched model) -> [document]."""


def replaced(
    model: nn.Module, layer: int, nodes: Tensor, values: Tensor, where: Tensor
) -> AbstractContextManager[None]:
    """Forward passes inside the block see other activations of some nodes.

    nodes: ids, long [node]; values broadcast to [batch, pos, node]; where: bool [batch, pos] or,
    each node for itself, [batch, pos, node]; elsewhere they stay what they are.
    """
    each = where if where.dim() == 3 else where[..., None]

    def change(real: Tensor) -> Tensor:
        # Some families flatten batch and pos before the MLP.
        wanted = (
            values.expand(*where.shape[:2], len(nodes))
            .reshape(*real.shape[:-1], len(nodes))
            .to(real.dtype)
        )
        new = real.clone()
        new[..., nodes] = torch.where(
            each.reshape(*real.shape[:-1], each.shape[-1]), wanted, real[..., nodes]
        )
        return new

    return changed(model, layer, change)


def intervened_losses(
    model: nn.Module,
    corpus: Path,
    text: SimulatedBlocks,
    layer: int,
    interventions: Mapping[str, Intervention],
    batch_size: int,
    device: Any,
    description: str = "",
) -> Losses:
    """LM loss of the untouched model and under each intervention, on the given blocks cut to the
    simulations' length."""
    dataset = load_blocks(corpus, text.split)
    length = text.mask.shape[1]
    # A token's loss belongs to the document that it stands in, as in `evaluate.losses`.
    of_predicted = (
        rows(dataset, "document", text.blocks[at], length)[:, 1:]
        for at in batches(len(text.blocks), 1024)
    )
    document, tokens = count_values(of_predicted)
    nats = {name: np.zeros(len(document)) for name in ("none", *interventions)}
    targets = {
        name: torch.as_tensor(each.nodes, device=device) for name, each in interventions.items()
    }
    for at in track(
        batches(len(text.blocks), batch_size), f"ablate and substitute {description}".strip()
    ):
        ids = torch.as_tensor(rows(dataset, "input_ids", text.blocks[at], length), device=device)
        place = np.searchsorted(
            document, rows(dataset, "document", text.blocks[at], length)[:, 1:]
        ).reshape(-1)
        where = torch.as_tensor(text.mask[at], device=device)
        simulated = np.asarray(text.values[at], dtype=np.float64)
        np.add.at(nats["none"], place, token_nats(model, ids))
        for name, each in interventions.items():
            values = torch.as_tensor(
                np.asarray(each.values(simulated), dtype=np.float32), device=device
            )
            with replaced(model, layer, targets[name], values, where):
                np.add.at(nats[name], place, token_nats(model, ids))
    return Losses(document, tokens, nats)


def loss_summary(
    losses: Losses,
    ablations: Sequence[str],
    mean_ablation: str,
    zero_ablation: str,
    n_bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """`loss`, `ablation` and `substitution` of the metrics; intervals are paired over documents.

    ablations: the names that get a record; mean_ablation, zero_ablation: the two whose loss a
    substitution may recover.
    """
    n_tokens = int(losses.tokens.sum())
    mean = {name: float(nats.sum()) / n_tokens for name, nats in losses.nats.items()}

    def increase(name: str) -> dict[str, Any]:
        low, high = paired_difference_ci95(
            losses.nats[name], losses.nats["none"], losses.tokens, n_bootstrap, seed
        )
        return {
            "loss_increase": mean[name] - mean["none"],
            "ci95": None if math.isnan(low) else [low, high],
        }

    def recovered(name: str, baseline: str) -> float | None:
        # Where ablation does no certain harm there is nothing to recover, and the ratio means
        # nothing.
        interval = increase(baseline)["ci95"]
        certain = interval is not None and interval[0] > 0
        return (mean[baseline] - mean[name]) / (mean[baseline] - mean["none"]) if certain else None

    substitution = {
        name: increase(name)
        | {
            "recovered_from_mean": recovered(name, mean_ablation),
            "recovered_from_zero": recovered(name, zero_ablation),
        }
        for name in ("own_labels", "other_labels")
        if name in mean
    }
    return {
        "loss": mean["none"],
        "n_tokens": n_tokens,
        "n_documents": len(losses.document),
        "ablation": {name: increase(name) for name in ablations},
        "substitution": {"own_labels": None, "other_labels": None} | substitution,
    }


def token_nats(model: nn.Module, ids: Tensor) -> NDArray[np.float64]:
    """Loss of every predicted token, flat [batch * (pos - 1)]."""
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        nats = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
    return nats.double().cpu().numpy()


def block_activations(
    model: nn.Module,
    corpus: Path,
    split: str,
    blocks: NDArray[np.int64],
    length: int,
    layer: int,
    batch_size: int,
    device: Any,
    description: str,
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Activations [batch, pos, d_mlp] of the whole layer on the first `length` tokens of each
    block, batch by batch.

    With each batch comes where it stands in `blocks`.
    """
    dataset = load_blocks(corpus, split)
    for at in track(batches(len(blocks), batch_size), description.strip()):
        ids = torch.as_tensor(rows(dataset, "input_ids", blocks[at], length), device=device)
        with torch.inference_mode():
            values = activations(model, layer, ids).float().cpu().numpy()
        yield at, values


def batches(n: int, size: int) -> Sequence[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def rows(dataset: Any, column: str, blocks: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The first `length` tokens' ids or documents, [batch, pos]."""
    return np.asarray(dataset[blocks.tolist()][column], dtype=np.int64)[:, :length]


def count_values(parts: Iterable[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values of all parts, ascending, and how often each occurs."""
    known, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for part in parts:
        new, more = np.unique(part, return_counts=True)
        both = np.union1d(known, new)
        total = np.zeros(len(both), np.int64)
        total[np.searchsorted(both, known)] += counts
        total[np.searchsorted(both, new)] += more
        known, counts = both, total
    return known, counts
