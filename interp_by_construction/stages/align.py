"""Train one layer until its nodes do what their labels say.

0. The layer gets its free neurons (free.count).
1. Local phase: the forward pass stops at the layer; the alignment loss alone trains the block up to its activations.
2. Joint phase: LM loss + weight * alignment loss trains everything that is not frozen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from interp_by_construction.config import AlignConfig, TrainerConfig
from interp_by_construction.corpus import load_blocks
from interp_by_construction.subject.freeze import frozen_for_align, frozen_for_local
from interp_by_construction.subject.load import load_subject, save_subject, untie
from interp_by_construction.subject.widen import widen
from interp_by_construction.training.fit import TargetBlocks, fit
from interp_by_construction.training.modules import AlignmentModule

LOCAL, JOINT, CONTINUE = range(3)


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
    return Targets(tensors["values"], tensors["mask"].bool(), tensors["nodes"].tolist(), tensors["poles"].tolist())


def data_seed(seed: int, layer: int, phase: int) -> int:
    """Seed of the data order of one phase; the control uses the same, so both see the same tokens in the same order."""
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
    free_count: int = 0,
) -> dict[str, Any]:
    """Writes `out/model/` and `out/aligned.json`; `previous` is (layer, aligned ids) of the last frozen layer, or None.

    With no aligned node (every label failed) both phases train on the LM loss alone, so that compute stays matched.
    """
    model = load_subject(model_dir)
    untie(model)
    widen(model, layer, free_count, widening_seed(seed, layer))
    targets = read_targets(targets_dir)
    blocks = TargetBlocks(load_blocks(corpus_dir, "align"), targets.values, targets.mask)
    metrics: dict[str, Any] = {"n_aligned": len(targets.nodes), "n_blocks": len(blocks)}
    alone = bool(targets.nodes)
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
    save_subject(model, out / "model")
    aligned = {"layer": layer, "nodes": targets.nodes, "poles": targets.poles}
    (out / "aligned.json").write_text(json.dumps(aligned, sort_keys=True))
    return metrics
