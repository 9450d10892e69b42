"""function: does the label say what the node does, and does the node still do work? For each model
(before, final) of one layer.

1. Own-label rank: is a node's own label the one that predicts it best among all of its layer,
   uncorrected for contrast?
2. Lookup R2: how much of a node is a mean per token id? Near 1 the node is a word detector, and
   context is computed elsewhere.
3. Ablation: LM loss when the aligned nodes, or the free ones, are set to their mean or to 0. If the
   aligned set can go without loss, the labels are true of nodes that do nothing.
4. Substitution: LM loss when the aligned nodes are set to their calibrated simulation (Bills et al.
   2023), and the share of the ablation's loss that this recovers. Beside it the same with other
   nodes' labels, which any label would recover.
5. Clamping with and against the label (`scoring.clamp`), and the output tokens that each node
   promotes (`subject.direct_path`).

Zero ablation flatters MLP sites, so mean ablation and raw differences stand beside it. All losses
are over the same tokens, and every intervention acts on the same positions: those with a
simulation. End-of-text tokens keep their true activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from interp_by_construction.config import FunctionConfig, SimulateConfig
from interp_by_construction.corpus import load_blocks, load_tokenizer
from interp_by_construction.corpus.excerpts import SPLITS, Part, choose_excerpts
from interp_by_construction.corpus.tokenize import separator_id
from interp_by_construction.scoring import clamp
from interp_by_construction.scoring.baselines import other_labels
from interp_by_construction.scoring.calibration import Calibration, LineFit
from interp_by_construction.scoring.lookup import LookupTable
from interp_by_construction.scoring.rank import own_label_ranks, rank_summary
from interp_by_construction.subject.families import d_mlp
from interp_by_construction.subject.intervene import (
    Intervention,
    SimulatedBlocks,
    batches,
    block_activations,
    count_values,
    intervened_losses,
    loss_summary,
    rows,
)
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.promoted import promoted_tokens
from interp_by_construction.subject.tables import write_records

ABLATIONS = ("aligned_mean", "aligned_zero", "free_mean", "free_zero")


class Simulated(NamedTuple):
    """All simulations that `run` needs; node columns in the order of its `nodes`."""

    rank: SimulatedBlocks
    """Uncorrected for contrast, on text that nothing was fitted on."""
    calibrate: SimulatedBlocks
    """By the simulator of `test`; scale, offset and means are fitted here."""
    test: SimulatedBlocks
    """Losses are measured here."""


def read_simulated(
    simulated_dir: Path, corpus: Path, cfg: SimulateConfig
) -> tuple[Simulated, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """What the simulate stage wrote with a head, and the aligned nodes with their poles, [node]."""
    from safetensors.numpy import load_file

    values, targets = (
        load_file(simulated_dir / "simulated.safetensors"),
        load_file(simulated_dir / "targets.safetensors"),
    )

    def part(name: Part) -> SimulatedBlocks:
        text = choose_excerpts(corpus, name, cfg)
        return SimulatedBlocks(
            SPLITS[name], text.blocks, values[name].reshape(*text.is_text.shape, -1), text.is_text
        )

    return Simulated(part("head_score"), part("calibrate"), part("test")), (
        targets["nodes"],
        targets["poles"],
    )


def run(
    models: Mapping[str, Path],
    corpus: Path,
    simulated: Simulated,
    layer: int,
    nodes: NDArray[np.int64],
    poles: NDArray[np.int64],
    lookup_split: str,
    max_lookup_blocks: int | None,
    batch_size: int,
    n_bootstrap: int,
    seed: int,
    out: Path,
    device: Any,
    cfg: FunctionConfig | None = None,
) -> dict[str, Any]:
    """models: moment (before, final) -> model directory; nodes, poles: the aligned nodes, [node].
    Nothing is clamped without `cfg`.

    Writes `function.safetensors`: `nodes`, `poles`, and per moment `<moment>.rank`, `.own_r`,
    `.lookup_r2`, `.scale`, `.offset`, float64 [node], NaN where undefined; and
    `function_losses.safetensors`: `<moment>.document`, `.tokens` and `.<intervention>` (summed
    nats), [document]. With `cfg` also `clamp.jsonl` (per moment, the nodes clamped alone) and
    `promoted.jsonl` (per moment and node). Returns counts and, per moment, `own_label_rank`,
    `lookup_r2`, `loss`, `ablation`, `substitution`, `clamp`; losses in nats per token, increases
    against the untouched model, null where undefined.

    Raises:
        ValueError: shapes that do not fit together, nodes that repeat, or text that is both
        calibrated and tested on.
    """
    from safetensors.numpy import save_file

    nodes, poles = np.asarray(nodes, dtype=np.int64), np.asarray(poles, dtype=np.int64)
    _check(simulated, nodes, poles)
    per_node: dict[str, NDArray] = {"nodes": nodes, "poles": poles}
    per_document: dict[str, NDArray] = {}
    metrics: dict[str, Any] = {"layer": layer, "n_aligned": len(nodes)}
    clamped: list[dict[str, Any]] = []
    promoted: list[dict[str, Any]] = []
    for moment, path in models.items():
        model = load_subject(path).to(device)
        metrics["n_free"] = d_mlp(model, layer) - len(nodes)
        real = (
            _read_nodes(model, corpus, simulated.rank, layer, nodes, batch_size, device, moment)
            * poles
        )
        ranks = own_label_ranks(real, simulated.rank.values[simulated.rank.mask])
        lookup = lookup_r2_of(
            model, corpus, lookup_split, layer, nodes, max_lookup_blocks, batch_size, device, moment
        )
        mean, own, other = calibrate(
            model,
            corpus,
            simulated.calibrate,
            layer,
            nodes,
            poles,
            batch_size,
            seed,
            device,
            moment,
        )
        interventions = standard_interventions(nodes, poles, mean, own, other, seed)
        losses = intervened_losses(
            model, corpus, simulated.test, layer, interventions, batch_size, device, moment
        )
        per_node |= {
            f"{moment}.rank": ranks.rank,
            f"{moment}.own_r": ranks.own_r,
            f"{moment}.lookup_r2": lookup.r2,
        }
        per_node |= {f"{moment}.scale": own.scale, f"{moment}.offset": own.offset}
        per_document |= {f"{moment}.document": losses.document, f"{moment}.tokens": losses.tokens}
        per_document |= {f"{moment}.{name}": nats for name, nats in losses.nats.items()}
        metrics[moment] = {
            "own_label_rank": rank_summary(ranks),
            "lookup_r2": _lookup_summary(lookup),
            **loss_summary(losses, ABLATIONS, "aligned_mean", "aligned_zero", n_bootstrap, seed),
            "calibration": {
                "n_constant": int(own.constant.sum()),
                "n_negative": int(own.negative.sum()),
            },
        }
        if cfg is not None:
            metrics[moment]["clamp"], records = clamp.run(
                model,
                corpus,
                simulated.calibrate,
                simulated.test,
                layer,
                nodes,
                poles,
                own,
                cfg.n_clamped,
                cfg.n_clamp_tokens,
                batch_size,
                seed,
                device,
                moment,
            )
            clamped += records
            promoted += promoted_tokens(model, corpus, layer, nodes, poles, cfg.n_promoted, moment)
    save_file(
        {name: np.ascontiguousarray(value) for name, value in per_node.items()},
        out / "function.safetensors",
    )
    save_file(
        {name: np.ascontiguousarray(value) for name, value in per_document.items()},
        out / "function_losses.safetensors",
    )
    if cfg is not None:
        write_records(out / "clamp.jsonl", clamped)
        write_records(out / "promoted.jsonl", promoted)
    return metrics


def standard_interventions(
    nodes: NDArray[np.int64],
    poles: NDArray[np.int64],
    mean: NDArray[np.float64],
    own: Calibration,
    other: Calibration,
    seed: int,
) -> dict[str, Intervention]:
    """Mean and zero ablation of the aligned and of the free set, and substitution by own and by
    other nodes' labels.

    mean: activation of every node of the layer, [d_mlp]. own and other as from `calibrate` with the
    same seed.
    """
    free = np.setdiff1d(np.arange(len(mean)), nodes)
    shuffled = other_labels(len(nodes), seed)
    return {
        "aligned_mean": Intervention(nodes, lambda _: mean[nodes]),
        "aligned_zero": Intervention(nodes, lambda _: np.zeros(len(nodes))),
        "free_mean": Intervention(free, lambda _: mean[free]),
        "free_zero": Intervention(free, lambda _: np.zeros(len(free))),
        "own_labels": Intervention(
            nodes, lambda simulated: poles * (own.scale * simulated + own.offset)
        ),
        # A single node has no other label.
        **(
            {
                "other_labels": Intervention(
                    nodes,
                    lambda simulated: (
                        poles * (other.scale * simulated[..., shuffled] + other.offset)
                    ),
                )
            }
            if len(nodes) > 1
            else {}
        ),
    }


def calibrate(
    model: nn.Module,
    corpus: Path,
    text: SimulatedBlocks,
    layer: int,
    nodes: NDArray[np.int64],
    poles: NDArray[np.int64],
    batch_size: int,
    seed: int,
    device: Any,
    description: str = "",
) -> tuple[NDArray[np.float64], Calibration, Calibration]:
    """Mean activation of the whole layer [d_mlp], and lines from own and from other nodes'
    simulations to pole * activation."""
    total, count = np.zeros(d_mlp(model, layer)), 0
    own, other = LineFit(len(nodes)), LineFit(len(nodes))
    shuffled = other_labels(len(nodes), seed)
    place = (corpus, text.split, text.blocks, text.mask.shape[1], layer)
    for at, values in block_activations(
        model, *place, batch_size, device, f"calibrate {description}"
    ):
        use = text.mask[at]
        real = values[use].astype(np.float64)
        total, count = total + real.sum(axis=0), count + len(real)
        simulated = np.asarray(text.values[at])[use]
        own.update(simulated, real[:, nodes] * poles)
        other.update(simulated[:, shuffled], real[:, nodes] * poles)
    return total / max(count, 1), own.result(), other.result()


class Lookup(NamedTuple):
    """Lookup R2 of some nodes on a split."""

    r2: NDArray[np.float64]
    """[node], NaN where undefined."""
    n_measured: int
    """Tokens of the measured half whose id occurs in the fitted half."""
    n_unseen: int
    """Tokens of the measured half whose id does not."""


def lookup_r2_of(
    model: nn.Module,
    corpus: Path,
    split: str,
    layer: int,
    nodes: NDArray[np.int64],
    max_blocks: int | None,
    batch_size: int,
    device: Any,
    description: str = "",
) -> Lookup:
    """R2 of some nodes from per-token-id means: fitted on every other document of the split,
    measured on the rest."""
    dataset = load_blocks(corpus, split)
    separator = separator_id(load_tokenizer(corpus))
    n_blocks = min(len(dataset), max_blocks or len(dataset))
    length = len(dataset[0]["input_ids"])
    indices = np.arange(n_blocks)
    documents, _ = count_values(
        rows(dataset, "document", indices[at], length) for at in batches(n_blocks, 1024)
    )

    def fitted(at: slice) -> NDArray[np.bool_]:
        return np.searchsorted(documents, rows(dataset, "document", indices[at], length)) % 2 == 0

    fit_ids = np.zeros(0, np.int64)
    for at in batches(n_blocks, 1024):
        ids = rows(dataset, "input_ids", indices[at], length)
        fit_ids = np.union1d(fit_ids, ids[fitted(at) & (ids != separator)])
    table = LookupTable(fit_ids, len(nodes))
    place = (corpus, split, indices, length, layer)
    for at, values in block_activations(model, *place, batch_size, device, f"lookup {description}"):
        ids, fit = rows(dataset, "input_ids", indices[at], length), fitted(at)
        use = ids != separator
        table.update(
            *(torch.from_numpy(each) for each in (ids[use], values[use][:, nodes], fit[use]))
        )
    return Lookup(table.r2(), int(table.count[1].sum()), table.n_unseen)


def _lookup_summary(lookup: Lookup) -> dict[str, Any]:
    defined = lookup.r2[~np.isnan(lookup.r2)]
    return {
        "mean": float(defined.mean()) if len(defined) else None,
        "median": float(np.median(defined)) if len(defined) else None,
        "n": len(defined),
        "n_undefined": len(lookup.r2) - len(defined),
        "n_measured_tokens": lookup.n_measured,
        "n_unseen_tokens": lookup.n_unseen,
    }


def _read_nodes(
    model: nn.Module,
    corpus: Path,
    text: SimulatedBlocks,
    layer: int,
    nodes: NDArray[np.int64],
    batch_size: int,
    device: Any,
    description: str,
) -> NDArray[np.float32]:
    """Activations [token, node] where the mask is true: as many as the simulations that the caller
    holds."""
    place = (corpus, text.split, text.blocks, text.mask.shape[1], layer)
    read = block_activations(model, *place, batch_size, device, f"rank {description}")
    return np.concatenate([values[text.mask[at]][:, nodes] for at, values in read])


def _check(simulated: Simulated, nodes: NDArray[np.int64], poles: NDArray[np.int64]) -> None:
    if nodes.shape != poles.shape or len(np.unique(nodes)) != len(nodes):
        raise ValueError(
            f"nodes {nodes.shape} and poles {poles.shape} must be [node], each node once"
        )
    for name, text in zip(Simulated._fields, simulated, strict=True):
        wanted = (*text.mask.shape, len(nodes))
        if text.values.shape != wanted or len(text.blocks) != len(text.mask):
            raise ValueError(
                f"{name}: values {text.values.shape}, mask {text.mask.shape}, blocks {text.blocks.shape} do not fit"
            )
    calibrated, tested = simulated.calibrate, simulated.test
    if calibrated.split == tested.split and np.intersect1d(calibrated.blocks, tested.blocks).size:
        raise ValueError(
            f"blocks of {tested.split} are both calibrated and tested on: give other blocks or another split"
        )
