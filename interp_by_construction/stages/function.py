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
from interp_by_construction.corpus.parts import Part, part_passage
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.scoring import clamp
from interp_by_construction.scoring.lookup import LookupTable
from interp_by_construction.scoring.rank import own_label_ranks, rank_summary
from interp_by_construction.scoring.substitution import (
    ABLATIONS,
    AlignedLayer,
    ablations,
    calibrate,
    loss_summary,
    substitutions,
)
from interp_by_construction.subject.families import d_mlp
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.losses import N_COUNTED, count_values, document_losses
from interp_by_construction.subject.nodes import AlignedNodes
from interp_by_construction.subject.promoted import promoted_tokens
from interp_by_construction.subject.reading import activations_on, read_activations


def read_aligned(
    simulated_dir: Path, corpus: Path, layer: int, cfg: SimulateConfig
) -> AlignedLayer:
    """The aligned nodes of a layer, with what the simulate stage wrote with a head."""
    from safetensors.numpy import load_file

    values, targets = (
        load_file(simulated_dir / "simulated.safetensors"),
        load_file(simulated_dir / "targets.safetensors"),
    )

    def part(name: Part) -> Simulated:
        passage = part_passage(corpus, name, cfg)
        return Simulated(passage, values[name].reshape(*passage.shape, -1))

    return AlignedLayer(
        AlignedNodes(layer, targets["nodes"], targets["poles"]),
        part("head_score"),
        part("calibrate"),
        part("test"),
    )


def run(
    models: Mapping[str, Path],
    corpus: Path,
    aligned: AlignedLayer,
    lookup_split: str,
    max_lookup_blocks: int | None,
    batch_size: int,
    n_bootstrap: int,
    seed: int,
    out: Path,
    device: Any,
    cfg: FunctionConfig | None = None,
) -> dict[str, Any]:
    """models: moment (before, final) -> model directory. Nothing is clamped without `cfg`.

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

    _check(aligned)
    (layer, nodes, poles), rank = aligned.nodes, aligned.rank
    lookup_text = Passage.of_split(corpus, lookup_split, n_blocks=max_lookup_blocks, first=True)
    per_node: dict[str, NDArray] = {"nodes": nodes, "poles": poles}
    per_document: dict[str, NDArray] = {}
    metrics: dict[str, Any] = {"layer": layer, "n_aligned": len(nodes)}
    clamped: list[dict[str, Any]] = []
    promoted: list[dict[str, Any]] = []
    for moment, path in models.items():
        model = load_subject(path).to(device)
        metrics["n_free"] = d_mlp(model, layer) - len(nodes)
        real = activations_on(model, rank.passage, layer, nodes, batch_size, f"rank {moment}")
        # Column by column, as the correlations sum.
        real = np.asfortranarray(real[rank.passage.is_text.reshape(-1)]) * poles
        ranks = own_label_ranks(real, rank.on_text())
        lookup = lookup_r2_of(model, lookup_text, layer, nodes, batch_size, moment)
        fitted = calibrate(model, aligned.nodes, aligned.calibrate, batch_size, seed, moment)
        ablated = ablations(layer, nodes, fitted.mean)
        interventions = {name: [ablated[name]] for name in ABLATIONS} | {
            name: [each]
            for name, each in substitutions(aligned.nodes, aligned.test, fitted, seed).items()
        }
        losses = document_losses(
            model,
            aligned.test.passage,
            interventions,
            batch_size,
            f"ablate and substitute {moment}",
        )
        own = fitted.own
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
                aligned.nodes,
                aligned.calibrate,
                aligned.test,
                own,
                clamp.Budget(cfg.n_clamped, cfg.n_clamp_tokens, batch_size, seed),
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
        write_rows(out / "clamp.jsonl", clamped)
        write_rows(out / "promoted.jsonl", promoted)
    return metrics


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
    passage: Passage,
    layer: int,
    nodes: NDArray[np.int64],
    batch_size: int,
    description: str = "",
) -> Lookup:
    """R2 of some nodes from per-token-id means: fitted on every other document of the passage,
    measured on the rest."""
    documents, _ = count_values(part.documents for part in passage.slices(N_COUNTED))

    def fitted(part: Passage) -> NDArray[np.bool_]:
        return np.searchsorted(documents, part.documents) % 2 == 0

    fit_ids = np.zeros(0, np.int64)
    for part in passage.slices(N_COUNTED):
        fit_ids = np.union1d(fit_ids, part.ids[fitted(part) & part.is_text])
    table = LookupTable(fit_ids, len(nodes))
    for at, values in read_activations(
        model, passage, layer, nodes, batch_size, f"lookup {description}"
    ):
        part = passage.part(at)
        use = part.is_text
        table.update(*(torch.from_numpy(each[use]) for each in (part.ids, values, fitted(part))))
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


def _check(aligned: AlignedLayer) -> None:
    layer, nodes, poles = aligned.nodes
    if nodes.shape != poles.shape or len(np.unique(nodes)) != len(nodes):
        raise ValueError(
            f"nodes {nodes.shape} and poles {poles.shape} of layer {layer} must be [node], each node once"
        )
    for name in ("rank", "calibrate", "test"):
        passage, values = getattr(aligned, name)
        if values.shape != (*passage.shape, len(nodes)):
            raise ValueError(f"{name}: values {values.shape} do not fit a passage {passage.shape}")
    calibrated, tested = aligned.calibrate.passage, aligned.test.passage
    same = calibrated.source.name == tested.source.name
    if same and np.intersect1d(calibrated.blocks, tested.blocks).size:
        raise ValueError(
            f"blocks of {tested.source.name} are both calibrated and tested on: give other blocks or another split"
        )
