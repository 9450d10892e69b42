"""The control that freezes what the run freezes: tells the cost of freezing from that of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.labels import aligned_nodes
from interp_by_construction.subject.freeze import frozen_for_align, frozen_for_continue
from interp_by_construction.subject.load import save_subject
from interp_by_construction.training.fit import Trained
from interp_by_construction.training.phases import Segment
from interp_by_construction.training.train import Conditions, Setting, Trainer


@dataclass(frozen=True)
class FreezeOnly(Stage[Trained]):
    """The control's training of one segment, with the same weights frozen as in the run and nothing
    aligned. Writes `model/`."""

    name = "freeze_only"
    version = 2
    record = Trained

    corpus: Stage[Any]
    model: Stage[Any]
    """The freeze-only run of the segment before, or the original."""
    labels: Stage[Any]
    """Of the layer: which nodes freeze after its alignment."""
    below: Stage[Any] | None
    """Labels of the layer right under it, whose nodes are frozen before; None where nothing is."""
    original: Stage[Any] | None
    layer: int
    segment: Segment
    conditions: Conditions

    @classmethod
    def of(
        cls,
        setting: Setting,
        model: Stage[Any],
        labels: Stage[Any],
        layer: int,
        below: Stage[Any] | None,
    ) -> Self:
        """See the class."""
        return cls(
            corpus=setting.corpus,
            model=model,
            labels=labels,
            # Layers that are aligned at once have no frozen layer under them then.
            below=None if setting.together else below,
            original=setting.teacher,
            layer=layer,
            segment=setting.segment(layer),
            conditions=setting.conditions(setting.started(layer)),
        )

    def compute(self, job: Job) -> Trained:
        """See the class."""
        model, layer = self.conditions.load(job.model(self.model)), self.layer
        below = None if self.below is None else (layer - 1, aligned_nodes(job.path(self.below)))
        before = frozen_for_align(model, layer, below)
        after = frozen_for_continue(model, layer, aligned_nodes(job.path(self.labels)))
        frozen = [before] * len(self.segment.align) + [after]
        title = f"freeze-only run of layer {layer}"
        with Trainer.of(job, self.corpus, self.conditions, self.original, title) as trainer:
            phases = [
                trainer.phase(model, each, kept)
                for each, kept in zip(self.segment.phases, frozen, strict=True)
            ]
        save_subject(model, job.out / "model")
        return Trained(phases)
