"""The compute-matched control: the run's text, order, steps and rates on the LM loss alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.stage import Job, Stage, unhashed
from interp_by_construction.stages import TrainingStage
from interp_by_construction.subject.load import save_subject
from interp_by_construction.training.fit import Trained
from interp_by_construction.training.phases import Segment
from interp_by_construction.training.train import Setting


@dataclass(frozen=True)
class Control(TrainingStage[Trained]):
    """The training of one layer's segment with nothing aligned and nothing frozen; the tax is
    measured against it.

    With `align.distill` it is distilled like the run. It knows no label, so that runs with any
    labels share it. The tokens of the local phase are trained on at `align.lr`: its own rate suits
    one block alone, and an LM control that it harmed would flatter the tax. Writes `model/`.
    """

    name = "control"
    version = 2
    record = Trained
    says = "trains as long without labels, to compare"

    segment: Segment
    layer: int | None = unhashed()
    """Shown beside the progress."""

    @classmethod
    def of(cls, setting: Setting, model: Stage[Any], layer: int) -> Self:
        """model: the control of the segment before, or the original."""
        common = cls.common(setting, model, setting.started(layer))
        return cls(**common, segment=setting.segment(layer), layer=layer)

    def effort(self, sizes: Sizes) -> Effort:
        return self.training(self.segment.phases, sizes)

    def compute(self, job: Job) -> Trained:
        model = self.start(job)
        with self.trainer(job) as trainer:
            phases = [trainer.phase(model, each) for each in self.segment.phases]
        save_subject(model, job.out / "model")
        return Trained(phases)
