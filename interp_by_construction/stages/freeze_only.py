"""The control that freezes what the run freezes: tells the cost of freezing from that of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.labels import aligned_nodes
from interp_by_construction.stages import TrainingStage
from interp_by_construction.subject.freeze import frozen_for_align, frozen_for_continue
from interp_by_construction.subject.load import save_subject
from interp_by_construction.training.fit import Trained
from interp_by_construction.training.phases import Segment
from interp_by_construction.training.train import Setting


@dataclass(frozen=True)
class FreezeOnly(TrainingStage[Trained]):
    """The control's training of one segment, with the same weights frozen as in the run and nothing
    aligned. Writes `model/`."""

    name = "freeze_only"
    version = 2
    record = Trained
    says = "trains with neurons fixed but not labelled"

    labels: Stage[Any]
    """Of the layer: which nodes freeze after its alignment."""
    below: Stage[Any] | None
    """Labels of the layer right under it, whose nodes are frozen before; None where nothing is."""
    layer: int
    segment: Segment

    @classmethod
    def of(
        cls,
        setting: Setting,
        model: Stage[Any],
        labels: Stage[Any],
        layer: int,
        below: Stage[Any] | None,
    ) -> Self:
        """model: the freeze-only run of the segment before, or the original."""
        return cls(
            **cls.common(setting, model, setting.started(layer)),
            labels=labels,
            # Where layers are aligned at once, no layer under them is frozen during alignment.
            below=None if setting.together else below,
            layer=layer,
            segment=setting.segment(layer),
        )

    def effort(self, sizes: Sizes) -> Effort:
        return self.training(self.segment.phases, sizes)

    def compute(self, job: Job) -> Trained:
        model, layer = self.start(job), self.layer
        below = None if self.below is None else (layer - 1, aligned_nodes(job.path(self.below)))
        before = frozen_for_align(model, layer, below)
        after = frozen_for_continue(model, layer, aligned_nodes(job.path(self.labels)))
        with self.trainer(job) as trainer:
            phases = [trainer.phase(model, each, before) for each in self.segment.align]
            phases.append(trainer.phase(model, self.segment.repair, after))
        save_subject(model, job.out / "model")
        return Trained(phases)
