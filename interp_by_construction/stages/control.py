"""One segment of a control: tokens, order, steps and schedules of a layer's align and continue, on
the LM loss alone (with `align.distill` as in the real run).

`none` freezes nothing (the tax is measured against it); `freeze_only` freezes what the real run
freezes, without any alignment, so that the cost of freezing and the cost of labels can be told
apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel

from interp_by_construction.config import AlignConfig, ContinueConfig, TrainerConfig
from interp_by_construction.corpus import load_blocks
from interp_by_construction.stages.align import (
    CONTINUE,
    JOINT,
    LOCAL,
    data_seed,
    distill_from,
    widening_seed,
)
from interp_by_construction.subject.freeze import Frozen, frozen_for_align, frozen_for_continue
from interp_by_construction.subject.load import load_subject, save_subject, untie
from interp_by_construction.subject.widen import widen
from interp_by_construction.training.fit import TokenBlocks, fit
from interp_by_construction.training.modules import Distill, LanguageModelModule


def run(
    model_dir: Path,
    corpus_dir: Path,
    layer: int,
    align: AlignConfig,
    continue_: ContinueConfig,
    trainer: TrainerConfig,
    seed: int,
    n_align_blocks: int,
    frozen: Literal["none", "freeze_only"],
    aligned: Sequence[int],
    previous: tuple[int, Sequence[int]] | None,
    start_layer: int,
    out: Path,
    scratch: Path,
    logger: Any = None,
    original_dir: Path | None = None,
    free_count: int = 0,
) -> dict[str, Any]:
    """Writes `out/model/`; `model_dir` is the previous segment of the same control, or the
    original.

    The layer gets the `free_count` neurons that the real run gives it. `aligned`, `previous` and
    `start_layer` matter for `freeze_only` only. `original_dir`: the model to distil from, needed
    with `align.distill`.
    """
    model = load_subject(model_dir)
    untie(model)
    widen(model, layer, free_count, widening_seed(seed, layer))
    held: Frozen = {}
    later: Frozen = {}
    if frozen == "freeze_only":
        held, later = (
            frozen_for_align(model, layer, previous, start_layer),
            frozen_for_continue(model, layer, aligned),
        )
    name = f"control layer {layer}, {frozen}"
    metrics = train(
        model,
        corpus_dir,
        layer,
        align,
        continue_,
        trainer,
        seed,
        n_align_blocks,
        held,
        later,
        distill_from(original_dir, align.distill),
        scratch,
        logger,
        name,
    )
    save_subject(model, out / "model")
    return {"frozen": frozen, **metrics}


def train(
    model: PreTrainedModel,
    corpus_dir: Path,
    layer: int,
    align: AlignConfig,
    continue_: ContinueConfig,
    trainer: TrainerConfig,
    seed: int,
    n_align_blocks: int,
    held: Frozen,
    later: Frozen,
    distill: Distill | None,
    scratch: Path,
    logger: Any,
    description: str,
) -> dict[str, Any]:
    """The segment's three phases, in place; `held` is frozen during those of align, `later` during
    that of continue.

    The local phase's tokens are trained on at `align.lr`: its own rate suits one block alone, and
    an LM control that it harmed would flatter the tax.
    """
    align_blocks = TokenBlocks(load_blocks(corpus_dir, "align"), n_align_blocks)
    train_blocks = TokenBlocks(load_blocks(corpus_dir, "train"))
    phases = [
        ("local", LOCAL, align.local_steps, align.lr, align.batch_size, align_blocks, held),
        ("joint", JOINT, align.steps, align.lr, align.batch_size, align_blocks, held),
        (
            "continue",
            CONTINUE,
            continue_.steps,
            continue_.lr,
            continue_.batch_size,
            train_blocks,
            later,
        ),
    ]
    metrics: dict[str, Any] = {}
    for name, phase, steps, lr, batch_size, blocks, kept in phases:
        module = LanguageModelModule(
            model, steps=steps, lr=lr, trainer_cfg=trainer, frozen=kept, distill=distill
        )
        metrics[name] = fit(
            module,
            blocks,
            seed=data_seed(seed, layer, phase),
            batch_size=batch_size,
            scratch=scratch / name,
            logger=logger,
            description=f"{description} ({name})",
        )
    return metrics
