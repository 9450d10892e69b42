"""Align several layers at once, then freeze them bottom-up in short steps.

1. Joint phase: everything from the first aligned layer's block on trains on LM loss + weight * sum
   of the alignment losses.
2. Settling, once per layer, lowest first: everything upstream of the layer's aligned activations is
   frozen, the rest trains on, with the alignment losses of the layers that are not frozen yet.

All phases read on in one stream (`training.joint`) and together take the steps of the loop over as
many layers, so that schedules compare at matched compute. The control and freeze-only runs take the
same phases, stream and learning rates on the LM loss alone, with `align.distill` as in the real
run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from interp_by_construction.config import AlignConfig, ContinueConfig, TrainerConfig
from interp_by_construction.corpus import load_blocks
from interp_by_construction.stages.align import (
    CONTINUE,
    JOINT,
    LOCAL,
    Targets,
    data_seed,
    distill_from,
    fit_to,
    free_ablation,
    read_targets,
    widening_seed,
)
from interp_by_construction.subject.freeze import (
    Frozen,
    frozen_below,
    frozen_digest,
    frozen_for_align,
    frozen_for_continue,
)
from interp_by_construction.subject.load import load_subject, save_subject, untie
from interp_by_construction.subject.widen import widen
from interp_by_construction.training.fit import TargetBlocks, TokenBlocks, fit, fit_stream
from interp_by_construction.training.joint import (
    AlignedNodes,
    JointModule,
    LayeredBlocks,
    MixedStream,
)
from interp_by_construction.training.modules import Distill
from interp_by_construction.training.targets import resemblance, trained_targets
from interp_by_construction.training.warm_start import warm_start


@dataclass(frozen=True)
class JointPlan:
    """Steps of all phases."""

    joint: int
    """Steps of the joint phase."""
    settle: int
    """Steps after each layer's freeze."""
    align_batches: int
    """Batches of the align split, joint and settling together; the other steps read the train
    split."""
    n_layers: int

    @property
    def total(self) -> int:
        return self.joint + self.n_layers * self.settle

    def settle_start(self, position: int) -> int:
        """Step of the stream at which the layer at `position`, counted from the lowest, starts to
        settle."""
        return self.joint + position * self.settle


def plan_joint(align: AlignConfig, continue_: ContinueConfig, n_layers: int) -> JointPlan:
    """The loop's steps over `n_layers`; settling takes those of one `continue`, shared out among
    the layers."""
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
    free: Mapping[int, int] = field(default_factory=dict)
    """Layer -> free neurons that it gets before the joint phase."""

    def widen(self, model: Any) -> None:
        """Gives every layer its free neurons; the model computes the same as before."""
        for layer, count in self.free.items():
            widen(model, layer, count, widening_seed(self.seed, layer))

    def stream(self, corpus: Path, layers: Sequence[AlignedNodes]) -> MixedStream:
        """The batches of all phases, with the targets of `layers`."""
        blocks = load_blocks(corpus, "align")
        n_blocks = len(layers[0].values) if layers else min(len(blocks), self.n_align_blocks)
        # One stream whatever the layers, so that sets of layers of one size share their control.
        seeds = (data_seed(self.seed, 0, JOINT), data_seed(self.seed, 0, CONTINUE))
        return MixedStream(
            LayeredBlocks(blocks, layers, n_blocks),
            TokenBlocks(load_blocks(corpus, "train")),
            self.plan.align_batches,
            self.plan.total,
            self.align.batch_size,
            self.continue_.batch_size,
            seeds,
        )


def read_aligned(targets: Mapping[int, Path], cfg: AlignConfig, seed: int) -> list[AlignedNodes]:
    """What the nodes of the given layers are trained towards (`cfg.target`), lowest layer first."""
    layers = []
    for layer, path in sorted(targets.items()):
        own = read_targets(path)
        values = trained_targets(cfg.target, own.values, own.mask, seed, layer)
        layers.append(AlignedNodes(layer, own.nodes, own.poles, values, own.mask))
    return layers


def start_from(
    model: Any, corpus: Path, layers: Sequence[AlignedNodes], cfg: AlignConfig, seed: int
) -> dict[str, Any]:
    """{"start": layer -> what `align.start` did to its nodes}, lowest first: what a layer reads
    depends on those below it."""
    if not layers:
        return {}
    blocks = TokenBlocks(load_blocks(corpus, "align"))
    started = {
        str(each.layer): warm_start(
            model,
            each.layer,
            each.nodes,
            each.poles,
            each.values,
            each.mask,
            blocks,
            seed,
            cfg.start,
        )
        for each in layers
    }
    return {"start": started}


def fit_to_targets(
    model: Any,
    corpus: Path,
    targets: Mapping[int, Path],
    layers: Sequence[AlignedNodes],
    cfg: AlignConfig,
) -> dict[str, Any]:
    """{"targets": layer -> how far a control learned what it was trained towards}; empty where it
    is no control."""
    if cfg.target == "label":
        return {}
    measured = {}
    for each in layers:
        trained = Targets(each.values, each.mask, each.nodes, each.poles)
        blocks = TargetBlocks(load_blocks(corpus, "align"), each.values, each.mask)
        r_with_label = resemblance(read_targets(targets[each.layer]).values, each.values, each.mask)
        measured[str(each.layer)] = fit_to(model, each.layer, blocks, trained) | {
            "kind": cfg.target,
            "r_with_label": r_with_label,
        }
    return {"targets": measured}


def run(
    model_dir: Path,
    corpus: Path,
    targets: Mapping[int, Path],
    schedule: Schedule,
    out: Path,
    scratch: Path,
    logger: Any = None,
    original_dir: Path | None = None,
) -> dict[str, Any]:
    """The joint phase over all of `targets` (layer -> its simulate artifact). Writes `out/model/`
    and `out/aligned.json`.

    `original_dir`: the model to distil from, needed with `align.distill`.
    """
    model = load_subject(model_dir)
    untie(model)
    schedule.widen(model)
    layers = read_aligned(targets, schedule.align, schedule.seed)
    below = frozen_below(model, layers[0].layer)
    description = "align layers " + ", ".join(str(each.layer) for each in layers)
    steps = (0, schedule.plan.joint)
    distill = distill_from(original_dir, schedule.align.distill)
    metrics: dict[str, Any] = {"n_aligned": {str(each.layer): len(each.nodes) for each in layers}}
    metrics |= start_from(model, corpus, layers, schedule.align, schedule.seed)
    metrics["joint"] = _fit(
        model,
        layers,
        corpus,
        schedule,
        steps,
        schedule.align.lr,
        below,
        scratch / "joint",
        logger,
        description,
        distill,
        [(each.layer, each.nodes) for each in layers],
    )
    metrics |= fit_to_targets(model, corpus, targets, layers, schedule.align)
    save_subject(model, out / "model")
    write_aligned(layers, out)
    return metrics


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
    original_dir: Path | None = None,
) -> dict[str, Any]:
    """Trains on with everything upstream of `aligned` in `layer` frozen; `above` are the targets of
    the layers still trained.

    `original_dir`: the model to distil from, needed with `align.distill`.
    """
    model = load_subject(model_dir)
    frozen = frozen_for_continue(model, layer, aligned)
    before = frozen_digest(model, frozen)
    layers = read_aligned(above, schedule.align, schedule.seed)
    distill = distill_from(original_dir, schedule.align.distill)
    steps, description = _settling(schedule.plan, position), f"settle above layer {layer}"
    metrics = _fit(
        model,
        layers,
        corpus,
        schedule,
        steps,
        schedule.continue_.lr,
        frozen,
        scratch / "settle",
        logger,
        description,
        distill,
        [(layer, aligned), *((each.layer, each.nodes) for each in layers)],
    )
    if frozen_digest(model, frozen) != before:
        raise RuntimeError(
            f"frozen weights of layer {layer} moved during training; this is a bug, the result is discarded"
        )
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
    original_dir: Path | None = None,
) -> dict[str, Any]:
    """The phases up to the settling of the layer at `position`, from the model of the position
    below, without alignment.

    `start_layer`, `layer` and `aligned` matter for `freeze_only` only. `original_dir`: the model to
    distil from, needed with `align.distill`.
    """
    model = load_subject(model_dir)
    untie(model)
    distill = distill_from(original_dir, schedule.align.distill)
    frozen = held == "freeze_only"
    metrics: dict[str, Any] = {"frozen": held}
    phases: list[tuple[str, tuple[int, int], float, Frozen]] = []
    if position == 0:
        schedule.widen(model)
        below = frozen_below(model, start_layer) if frozen else {}
        phases.append(("joint", (0, schedule.plan.joint), schedule.align.lr, below))
    later = frozen_for_continue(model, layer, aligned) if frozen else {}
    phases.append(("settle", _settling(schedule.plan, position), schedule.continue_.lr, later))
    for name, steps, lr, kept in phases:
        description = f"control, {held} ({name} {position + 1} of {schedule.plan.n_layers})"
        metrics[name] = _fit(
            model,
            [],
            corpus,
            schedule,
            steps,
            lr,
            kept,
            scratch / name,
            logger,
            description,
            distill,
        )
    save_subject(model, out / "model")
    return metrics


def train_control(
    model: Any,
    corpus: Path,
    schedule: Schedule,
    distill: Distill | None,
    scratch: Path,
    logger: Any,
    description: str,
) -> dict[str, Any]:
    """All phases of the control in one go and in place, nothing frozen; `model` is as wide as the
    control's."""
    plan = schedule.plan
    phases = [("joint", (0, plan.joint), schedule.align.lr)]
    phases += [
        (f"settle_{position}", _settling(plan, position), schedule.continue_.lr)
        for position in range(plan.n_layers)
    ]
    return {
        name: _fit(
            model,
            [],
            corpus,
            schedule,
            steps,
            lr,
            {},
            scratch / name,
            logger,
            f"{description} ({name})",
            distill,
        )
        for name, steps, lr in phases
    }


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
    distill: Distill | None = None,
    labelled: Sequence[tuple[int, Sequence[int]]] = (),
) -> dict[str, Any]:
    """One phase over the steps [first, end) of the stream, with an optimizer and learning rate
    schedule of its own.

    labelled: layers and their aligned nodes, through which the work must flow where
    `align.ablate_free` says so.
    """
    stream, (first, end), cfg = schedule.stream(corpus, layers), steps, schedule.align
    module = JointModule(
        model,
        layers,
        weight=cfg.weight,
        steps=end - first,
        lr=lr,
        trainer_cfg=schedule.trainer,
        frozen=frozen,
        distill=distill,
        # The weight rises once: a layer that is aligned must not be let go of when a lower one is
        # frozen.
        objective=cfg.objective,
        schedule=cfg.schedule if first == 0 else "constant",
        ablation=free_ablation(cfg.ablate_free, labelled),
    )
    return fit_stream(
        module,
        lambda step: stream.at(first + step),
        scratch=scratch,
        logger=logger,
        description=description,
    )


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
    original_dir: Path | None = None,
    free_count: int = 0,
) -> dict[str, Any]:
    """The align phase of one turn of the hybrid schedule: as in the loop, but all layers that are
    not frozen yet are aligned.

    `targets` holds the layer that freezes next and those above it. The local phase's tokens are
    read at `align.lr`, as the control reads them. The layer that freezes next gets `free_count`
    free neurons, as in the loop. Writes `out/model/` and `out/aligned.json`.
    """
    model = load_subject(model_dir)
    untie(model)
    layers, distill = read_aligned(targets, cfg, seed), distill_from(original_dir, cfg.distill)
    lowest = layers[0].layer
    widen(model, lowest, free_count, widening_seed(seed, lowest))
    frozen = frozen_for_align(model, lowest, previous, start_layer)
    blocks = LayeredBlocks(load_blocks(corpus, "align"), layers, len(layers[0].values))
    metrics: dict[str, Any] = {"n_aligned": {str(each.layer): len(each.nodes) for each in layers}}
    # The layers above have started when the first of these turns began.
    metrics |= start_from(model, corpus, layers if previous is None else [], cfg, seed)
    for name, phase, steps in (("local", LOCAL, cfg.local_steps), ("joint", JOINT, cfg.steps)):
        module = JointModule(
            model,
            layers,
            weight=cfg.weight,
            steps=steps,
            lr=cfg.lr,
            trainer_cfg=trainer,
            frozen=frozen,
            distill=distill,
            objective=cfg.objective,
            ablation=free_ablation(cfg.ablate_free, [(each.layer, each.nodes) for each in layers]),
        )
        metrics[name] = fit(
            module,
            blocks,
            seed=data_seed(seed, lowest, phase),
            batch_size=cfg.batch_size,
            scratch=scratch / name,
            logger=logger,
            description=f"align layers {lowest} and above ({name})",
        )
    metrics |= fit_to_targets(model, corpus, targets, layers, cfg)
    save_subject(model, out / "model")
    write_aligned(layers, out)
    return metrics


def write_aligned(layers: Sequence[AlignedNodes], out: Path) -> None:
    """Writes `out/aligned.json`: layer, nodes and poles of each layer."""
    records = [{"layer": each.layer, "nodes": each.nodes, "poles": each.poles} for each in layers]
    (out / "aligned.json").write_text(json.dumps(records, sort_keys=True))
