"""Train one layer until its nodes do what their labels say.

0. The layer gets its free neurons (free.count).
1. Local phase: the forward pass stops at the layer; the alignment loss alone trains the block up to
   its activations.
2. Joint phase: LM loss + weight * alignment loss trains everything that is not frozen.

With align.target=shuffled or random the run is a control: the same training towards targets that
are not the nodes' own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from interp_by_construction.config import AlignConfig, TrainerConfig
from interp_by_construction.corpus import load_blocks
from interp_by_construction.subject.freeze import frozen_for_align, frozen_for_local
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject, save_subject, untie
from interp_by_construction.subject.widen import widen
from interp_by_construction.training.fit import TargetBlocks, fit
from interp_by_construction.training.losses import pearson_columns
from interp_by_construction.training.modules import AlignmentModule, Distill, FreeAblation
from interp_by_construction.training.targets import resemblance, trained_targets
from interp_by_construction.training.warm_start import warm_start

LOCAL, JOINT, CONTINUE = range(3)

N_MEASURED_BLOCKS = 64
"""Blocks of the align split on which a control's fit to its own targets is measured."""


class Targets(NamedTuple):
    """What the aligned nodes should output on the first blocks of the align split."""

    values: Tensor
    """float16 [block, pos, node]."""
    mask: Tensor
    """bool [block, pos]: where a target is defined."""
    nodes: list[int]
    poles: list[int]


def read_targets(path: Path) -> Targets:
    """Reads `path/targets.safetensors`."""
    tensors = load_file(path / "targets.safetensors")
    return Targets(
        tensors["values"],
        tensors["mask"].bool(),
        tensors["nodes"].tolist(),
        tensors["poles"].tolist(),
    )


def data_seed(seed: int, layer: int, phase: int) -> int:
    """Seed of the data order of one phase; the control uses the same, so both see the same tokens
    in the same order."""
    return seed * 1000 + layer * 10 + phase


def widening_seed(seed: int, layer: int) -> int:
    """Seed of the free neurons of a layer; controls get the same ones."""
    return seed * 1000 + layer


def run(
    model_dir: Path,
    corpus_dir: Path,
    targets_dir: Path,
    layer: int,
    cfg: AlignConfig,
    trainer: TrainerConfig,
    seed: int,
    start_layer: int,
    previous: tuple[int, Sequence[int]] | None,
    out: Path,
    scratch: Path,
    logger: Any = None,
    original_dir: Path | None = None,
    free_count: int = 0,
) -> dict[str, Any]:
    """Writes `out/model/` and `out/aligned.json`; `previous` is (layer, aligned ids) of the last
    frozen layer, or None.

    `original_dir`: the model to distil from, needed with `cfg.distill`. Where `cfg.target` is not
    `label` the metrics say, under `target`, how far the model learned what it was trained towards.

    With no aligned node (every label failed) both phases train on the LM loss alone, so that
    compute stays matched.
    """
    model = load_subject(model_dir)
    untie(model)
    widen(model, layer, free_count, widening_seed(seed, layer))
    targets = read_targets(targets_dir)
    trained = targets._replace(
        values=trained_targets(cfg.target, targets.values, targets.mask, seed, layer)
    )
    blocks = TargetBlocks(load_blocks(corpus_dir, "align"), trained.values, targets.mask)
    distill = distill_from(original_dir, cfg.distill)
    metrics: dict[str, Any] = {"n_aligned": len(targets.nodes), "n_blocks": len(blocks)}
    alone = bool(targets.nodes)
    metrics["start"] = warm_start(
        model,
        layer,
        targets.nodes,
        targets.poles,
        trained.values,
        targets.mask,
        blocks,
        seed,
        cfg.start,
    )
    phases = [
        (
            "local",
            LOCAL,
            cfg.local_steps,
            cfg.local_lr if alone else cfg.lr,
            frozen_for_local if alone else frozen_for_align,
        ),
        ("joint", JOINT, cfg.steps, cfg.lr, frozen_for_align),
    ]
    for name, phase, steps, lr, freeze in phases:
        module = AlignmentModule(
            model,
            layer=layer,
            node_ids=targets.nodes,
            poles=targets.poles,
            weight=cfg.weight,
            local=alone and name == "local",
            steps=steps,
            lr=lr,
            trainer_cfg=trainer,
            frozen=freeze(model, layer, previous, start_layer),
            distill=distill,
            ablation=free_ablation(cfg.ablate_free, [(layer, targets.nodes)]),
            objective=cfg.objective,
            schedule=cfg.schedule,
        )
        metrics[name] = fit(
            module,
            blocks,
            seed=data_seed(seed, layer, phase),
            batch_size=cfg.batch_size,
            scratch=scratch / name,
            logger=logger,
            description=f"align layer {layer} ({name})",
        )
    if cfg.target != "label":
        metrics["target"] = fit_to(model, layer, blocks, trained)
        metrics["target"] |= {
            "kind": cfg.target,
            "r_with_label": resemblance(targets.values, trained.values, targets.mask),
        }
    save_subject(model, out / "model")
    aligned = {"layer": layer, "nodes": targets.nodes, "poles": targets.poles}
    (out / "aligned.json").write_text(json.dumps(aligned, sort_keys=True))
    return metrics


def distill_from(original_dir: Path | None, weight: float) -> Distill | None:
    """None without weight. Raises ValueError where there is nothing to distil from."""
    if weight == 0:
        return None
    if original_dir is None:
        raise ValueError("align.distill needs the original model")
    return Distill(load_subject(original_dir).requires_grad_(False), weight)


def free_ablation(
    share: float, aligned: Sequence[tuple[int, Sequence[int]]]
) -> FreeAblation | None:
    """None without a share. Layers without aligned nodes are left alone: nothing of them may carry
    the work."""
    return FreeAblation(share, [each for each in aligned if each[1]]) if share else None


@torch.no_grad()
def fit_to(model: Any, layer: int, blocks: TargetBlocks, trained: Targets) -> dict[str, Any]:
    """Mean r of the nodes with the targets they were trained towards, on text that was trained on:
    `r_in_sample`, null where it is defined for no node, and its `n` and `n_undefined`."""
    read = blocks.batch(np.arange(min(len(blocks), N_MEASURED_BLOCKS)))
    poles = torch.tensor(trained.poles, dtype=torch.float32)
    # Block by block, so that memory does not grow with the layer's width.
    real = torch.cat(
        [
            activations(model, layer, each[None])[0][:, trained.nodes] * poles
            for each in read["input_ids"]
        ]
    )
    kept = read["mask"].flatten()
    r = pearson_columns(real[kept], read["targets"].flatten(0, 1)[kept])
    n = int((~r.isnan()).sum())
    return {"r_in_sample": float(r.nanmean()) if n else None, "n": n, "n_undefined": len(r) - n}
