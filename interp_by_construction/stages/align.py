"""Train one layer, or several at once, until their nodes do what their labels say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from interp_by_construction.config import AlignKnobs, only
from interp_by_construction.corpus import load_blocks
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.labels import aligned_nodes
from interp_by_construction.stages import TrainingStage
from interp_by_construction.subject.freeze import Frozen, frozen_for_align, frozen_for_local
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import save_subject
from interp_by_construction.training.batches import TokenBlocks
from interp_by_construction.training.fit import Trained
from interp_by_construction.training.losses import pearson_columns
from interp_by_construction.training.phases import Phase
from interp_by_construction.training.targets import LayerTargets, Target, resemblance
from interp_by_construction.training.train import Setting, Towards
from interp_by_construction.training.warm_start import StartRecord, warm_start

N_MEASURED_BLOCKS = 64
"""Blocks of the align split on which a control's fit to its own targets is measured."""


@dataclass(frozen=True)
class TargetRecord:
    """How far the model learned targets that are not the nodes' own labels."""

    kind: Target
    r_in_sample: float | None
    """Mean r of the nodes with their targets on text that was trained on; null if undefined."""
    n: int
    n_undefined: int
    r_with_label: float | None
    """What a control that was trained perfectly would still score against the labels."""


@dataclass(frozen=True)
class AlignRecord(Trained):
    """How alignment went, layer by layer. `targets` is empty where the targets are the labels."""

    n_aligned: dict[int, int]
    start: dict[int, StartRecord]
    targets: dict[int, TargetRecord]


@dataclass(frozen=True)
class Align(TrainingStage[AlignRecord]):
    """Trains layers towards the simulations of their nodes' labels.

    1. Layers get their free neurons (`free.count`).
    2. Nodes start as `align.start` says, lowest layer first: what a layer reads depends on those
       below it.
    3. A local phase (one layer alone): the forward pass stops at the layer; the alignment loss
       trains the block up to its activations.
    4. A joint phase: LM loss + weight * alignment losses train all that is not frozen.

    With `align.target` shuffled or random the run is a control: the same training towards targets
    that are not the nodes' own. A layer with no aligned node (every label failed) trains on the LM
    loss alone, so that compute stays matched. Writes `model/`.
    """

    name = "align"
    version = 3
    record = AlignRecord
    says = "trains neurons to do what their labels say"

    simulates: Mapping[int, Stage[Any]]
    """Layer -> its targets, lowest first: the layers that are aligned."""
    below: Stage[Any] | None
    """Labels of the frozen layer right under them; None where nothing is frozen yet."""
    phases: tuple[Phase, ...]
    knobs: AlignKnobs

    @classmethod
    def of(
        cls,
        setting: Setting,
        model: Stage[Any],
        simulates: Mapping[int, Stage[Any]],
        below: Stage[Any] | None,
    ) -> Self:
        """simulates: of one layer (sequential) or of all layers of the run (joint)."""
        return cls(
            **cls.common(setting, model, list(simulates)),
            simulates=simulates,
            below=below,
            phases=setting.segment(min(simulates)).align,
            knobs=only(AlignKnobs, setting.cfg.align),
        )

    @property
    def shown_layer(self) -> int:
        return min(self.simulates)

    def effort(self, sizes: Sizes) -> Effort:
        return self.training(self.phases, sizes)

    def compute(self, job: Job) -> AlignRecord:
        knobs, seed, model = self.knobs, self.conditions.seed, self.start(job)
        own = [LayerTargets.read(job.path(at), layer) for layer, at in self.simulates.items()]
        layers = [each.towards(knobs.target, seed) for each in own]
        blocks = TokenBlocks(load_blocks(job.path(self.corpus), "align"))
        start = {each.layer: warm_start(model, each, blocks, seed, knobs.start) for each in layers}
        towards = Towards(knobs, layers)
        with self.trainer(job) as trainer:
            phases = [
                trainer.phase(model, phase, self._frozen(job, model, towards.alone(phase)), towards)
                for phase in self.phases
            ]
        targets = {
            each.layer: _fit_to(model, blocks, each, labelled, knobs.target)
            for each, labelled in zip(layers, own, strict=True)
            if knobs.target != "label"
        }
        save_subject(model, job.out / "model")
        n_aligned = {each.layer: len(each.nodes) for each in own}
        return AlignRecord(phases, n_aligned, start, targets)

    def _frozen(self, job: Job, model: Any, alone: bool) -> Frozen:
        layer = self.shown_layer
        # The layers of a run follow each other without a gap.
        below = None if self.below is None else (layer - 1, aligned_nodes(job.path(self.below)))
        return (frozen_for_local if alone else frozen_for_align)(model, layer, below)


@torch.no_grad()
def _fit_to(
    model: Any, blocks: TokenBlocks, trained: LayerTargets, labelled: LayerTargets, kind: Target
) -> TargetRecord:
    n = min(len(trained.values), N_MEASURED_BLOCKS)
    input_ids = blocks.batch(np.arange(n))["input_ids"]
    poles = torch.tensor(trained.poles, dtype=torch.float32)
    # Block by block, so that memory does not grow with the layer's width.
    real = torch.cat(
        [activations(model, trained.layer, each[None])[0][:, trained.nodes] for each in input_ids]
    )
    kept, wanted = trained.mask[:n].flatten(), trained.values[:n].float().flatten(0, 1)
    r = pearson_columns((real * poles)[kept], wanted[kept])
    n_defined = int((~r.isnan()).sum())
    return TargetRecord(
        kind,
        float(r.nanmean()) if n_defined else None,
        n_defined,
        len(r) - n_defined,
        resemblance(labelled.values, trained.values, labelled.mask),
    )
