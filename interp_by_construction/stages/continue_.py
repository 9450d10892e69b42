"""After a layer is frozen the rest of the network trains on: free nodes and higher layers may
repair the damage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp_by_construction.config import ContinueConfig, TrainerConfig
from interp_by_construction.corpus import load_blocks
from interp_by_construction.stages.align import CONTINUE, data_seed, distill_from, free_ablation
from interp_by_construction.subject.freeze import frozen_digest, frozen_for_continue
from interp_by_construction.subject.load import load_subject, save_subject, untie
from interp_by_construction.training.fit import TokenBlocks, fit
from interp_by_construction.training.modules import LanguageModelModule


def run(
    model_dir: Path,
    corpus_dir: Path,
    layer: int,
    aligned: Sequence[int],
    cfg: ContinueConfig,
    trainer: TrainerConfig,
    seed: int,
    out: Path,
    scratch: Path,
    logger: Any = None,
    original_dir: Path | None = None,
    distill: float = 0.0,
    ablate_free: float = 0.0,
) -> dict[str, Any]:
    """Trains on the LM loss of the train split with everything upstream of `aligned` frozen; writes
    `out/model/`.

    distill: weight of KL(original || model) beside it, with the original model in `original_dir`;
    ablate_free: share of the steps without the layer's free nodes.
    """
    model = load_subject(model_dir)
    untie(model)
    frozen = frozen_for_continue(model, layer, aligned)
    before = frozen_digest(model, frozen)
    module = LanguageModelModule(
        model,
        steps=cfg.steps,
        lr=cfg.lr,
        trainer_cfg=trainer,
        frozen=frozen,
        distill=distill_from(original_dir, distill),
        ablation=free_ablation(ablate_free, [(layer, aligned)]),
    )
    metrics = fit(
        module,
        TokenBlocks(load_blocks(corpus_dir, "train")),
        seed=data_seed(seed, layer, CONTINUE),
        batch_size=cfg.batch_size,
        scratch=scratch / "continue",
        logger=logger,
        description=f"continue above layer {layer}",
    )
    if frozen_digest(model, frozen) != before:
        raise RuntimeError(
            f"frozen weights of layer {layer} moved during training; this is a bug, the result is discarded"
        )
    save_subject(model, out / "model")
    return metrics
