"""Align several layers at once, then freeze them bottom-up in short steps.

1. Joint phase: everything from the first aligned layer's block on trains on LM loss + weight * sum of the alignment losses.
2. Settling, once per layer, lowest first: everything upstream of the layer's aligned activations is frozen, the rest trains on,
   with the alignment losses of the layers that are not frozen yet.

All phases read on in one stream (`training.joint`) and together take the steps of the loop over as many layers, so that schedules
compare at matched compute. The control and freeze-only runs take the same phases, stream and learning rates on the LM loss alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interp_by_construction.config import AlignConfig, ContinueConfig, TrainerConfig
from interp_by_construction.corpus import load_blocks
from interp_by_construction.stages.align import CONTINUE, JOINT, LOCAL, data_seed, read_targets
from interp_by_construction.subject.freeze import Frozen, frozen_below, frozen_digest, frozen_for_align, frozen_for_continue
from interp_by_construction.subject.load import load_subject, save_subject, untie
from interp_by_construction.training.fit import TokenBlocks, fit, fit_stream
from interp_by_construction.training.joint import AlignedNodes, JointModule, LayeredBlocks, MixedStream


@dataclass(frozen=True)
class JointPlan:
    """Steps of all phases."""

    joint: int
    """Steps of the joint phase."""
    settle: int
    """Steps after each layer's freeze."""
    align_batches: int
    """Batches of the align split, joint and settling together; the other steps read the train split."""
    n_layers: int

    @property
    def total(self) -> int:
        return self.joint + self.n_layers * self.settle

    def settle_start(self, position: int) -> int:
        """Step of the stream at which the layer at `position`, counted from the lowest, starts to settle."""
        return self.joint + position * self.settle


def plan_joint(align: AlignConfig, continue_: ContinueConfig, n_layers: int) -> JointPlan:
    """The loop's steps over `n_layers`; settling takes those of one `continue`, shared out among the layers."""
    aligning = n_layers * (align.local_steps + align.steps)
    settle = continue_.steps // n_layers
    return JointPlan(aligning + n_layers * (continue_.steps - settle), settle, aligning, n_layers)


@dataclass(frozen=True)
class Schedule:
    """What every phase needs besides model and layers."""

    plan: JointPlan
    align: AlignConfig
    continue_: ContinueConfig
    trainer: TrainerConfig
    seed: int
    n_align_blocks: int

    def stream(self, corpus: Path, layers: Sequence[AlignedNodes]) -> MixedStream:
        """The batches of all phases, with the targets of `layers`."""
        blocks = load_blocks(corpus, "align")
        n_blocks = len(layers[0].values) if layers else min(len(blocks), self.n_align_blocks)
        # One stream whatever the layers, so that sets of layers of one size share their control.
        seeds = (data_seed(self.seed, 0, JOINT), data_seed(self.seed, 0, CONTINUE))
        return MixedStream(
            LayeredBlocks(blocks, layers, n_blocks), TokenBlocks(load_blocks(corpus, "train")), self.plan.align_batches,
            self.plan.total, self.align.batch_size, self.continue_.batch_size, seeds,
        )  # fmt: skip


def read_aligned(targets: Mapping[int, Path]) -> list[AlignedNodes]:
    """Targets of the given layers, lowest first."""
    read = {layer: read_targets(path) for layer, path in sorted(targets.items())}
    return [AlignedNodes(layer, each.nodes, each.poles, each.values, each.mask) for layer, each in read.items()]


def run(
    model_dir: Path, corpus: Path, targets: Mapping[int, Path], schedule: Schedule, out: Path, scratch: Path, logger: Any = None
) -> dict[str, Any]:
    """The joint phase over all of `targets` (layer -> its simulate artifact). Writes `out/model/` and `out/aligned.json`."""
    model = load_subject(model_dir)
    untie(model)
    layers = read_aligned(targets)
    below = frozen_below(model, layers[0].layer)
    description = "align layers " + ", ".join(str(each.layer) for each in layers)
    steps = (0, schedule.plan.joint)
    metrics = _fit(model, layers, corpus, schedule, steps, schedule.align.lr, below, scratch / "joint", logger, description)
    save_subject(model, out / "model")
    write_aligned(layers, out)
    return {"joint": metrics, "n_aligned": {str(each.layer): len(each.nodes) for each in layers}}


def settle(
    model_dir: Path,
    corpus: Path,
    layer: int,
    aligned: Sequence[int],
    above: Mapping[int, Path],
    position: int,
    schedule: Schedule,
    out: Path,
    scratch: Path,
    logger: Any = None,
) -> dict[str, Any]:
    """Trains on with everything upstream of `aligned` in `layer` frozen; `above` are the targets of the layers still trained."""
    model = load_subject(model_dir)
    frozen = frozen_for_continue(model, layer, aligned)
    before = frozen_digest(model, frozen)
    layers = read_aligned(above)
    steps, description = _settling(schedule.plan, position), f"settle above layer {layer}"
    metrics = _fit(model, layers, corpus, schedule, steps, schedule.continue_.lr, frozen, scratch / "settle", logger, description)
    if frozen_digest(model, frozen) != before:
        raise RuntimeError(f"frozen weights of layer {layer} moved during training; this is a bug, the result is discarded")
    save_subject(model, out / "model")
    return metrics


def control(
    model_dir: Path,
    corpus: Path,
    position: int,
    held: Literal["none", "freeze_only"],
    start_layer: int,
    layer: int,
    aligned: Sequence[int],
    schedule: Schedule,
    out: Path,
    scratch: Path,
    logger: Any = None,
) -> dict[str, Any]:
    """The phases up to the settling of the layer at `position`, from the model of the position below, without alignment.

    `start_layer`, `layer` and `aligned` matter for `freeze_only` only.
    """
    model = load_subject(model_dir)
    untie(model)
    frozen = held == "freeze_only"
    metrics: dict[str, Any] = {"frozen": held}
    phases: list[tuple[str, tuple[int, int], float, Frozen]] = []
    if position == 0:
        below = frozen_below(model, start_layer) if frozen else {}
        phases.append(("joint", (0, schedule.plan.joint), schedule.align.lr, below))
    later = frozen_for_continue(model, layer, aligned) if frozen else {}
    phases.append(("settle", _settling(schedule.plan, position), schedule.continue_.lr, later))
    for name, steps, lr, kept in phases:
        description = f"control, {held} ({name} {position + 1} of {schedule.plan.n_layers})"
        metrics[name] = _fit(model, [], corpus, schedule, steps, lr, kept, scratch / name, logger, description)
    save_subject(model, out / "model")
    return metrics


def _settling(plan: JointPlan, position: int) -> tuple[int, int]:
    return plan.settle_start(position), plan.settle_start(position + 1)


def _fit(
    model: Any,
    layers: Sequence[AlignedNodes],
    corpus: Path,
    schedule: Schedule,
    steps: tuple[int, int],
    lr: float,
    frozen: Frozen,
    scratch: Path,
    logger: Any,
    description: str,
) -> dict[str, Any]:
    """One phase over the steps [first, end) of the stream, with an optimizer and learning rate schedule of its own."""
    stream, (first, end) = schedule.stream(corpus, layers), steps
    module = JointModule(
        model, layers, weight=schedule.align.weight, steps=end - first, lr=lr, trainer_cfg=schedule.trainer, frozen=frozen
    )
    return fit_stream(module, lambda step: stream.at(first + step), scratch=scratch, logger=logger, description=description)


def turn(
    model_dir: Path,
    corpus: Path,
    targets: Mapping[int, Path],
    cfg: AlignConfig,
    trainer: TrainerConfig,
    seed: int,
    start_layer: int,
    previous: tuple[int, Sequence[int]] | None,
    out: Path,
    scratch: Path,
    logger: Any = None,
) -> dict[str, Any]:
    """The align phase of one turn of the hybrid schedule: as in the loop, but all layers that are not frozen yet are aligned.

    `targets` holds the layer that freezes next and those above it. The local phase's tokens are read at `align.lr`, as the
    control reads them. Writes `out/model/` and `out/aligned.json`.
    """
    model = load_subject(model_dir)
    untie(model)
    layers = read_aligned(targets)
    lowest = layers[0].layer
    frozen = frozen_for_align(model, lowest, previous, start_layer)
    blocks = LayeredBlocks(load_blocks(corpus, "align"), layers, len(layers[0].values))
    metrics: dict[str, Any] = {"n_aligned": {str(each.layer): len(each.nodes) for each in layers}}
    for name, phase, steps in (("local", LOCAL, cfg.local_steps), ("joint", JOINT, cfg.steps)):
        module = JointModule(model, layers, weight=cfg.weight, steps=steps, lr=cfg.lr, trainer_cfg=trainer, frozen=frozen)
        metrics[name] = fit(
            module, blocks, seed=data_seed(seed, lowest, phase), batch_size=cfg.batch_size, scratch=scratch / name, logger=logger,
            description=f"align layers {lowest} and above ({name})",
        )  # fmt: skip
    save_subject(model, out / "model")
    write_aligned(layers, out)
    return metrics


def write_aligned(layers: Sequence[AlignedNodes], out: Path) -> None:
    """Writes `out/aligned.json`: layer, nodes and poles of each layer."""
    records = [{"layer": each.layer, "nodes": each.nodes, "poles": each.poles} for each in layers]
    (out / "aligned.json").write_text(json.dumps(records, sort_keys=True))
