"""After a layer is frozen the rest of the network trains on. Free nodes and higher layers may then
make up for what alignment cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from interp_by_construction.config import AlignKnobs, only
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.labels import aligned_nodes
from interp_by_construction.stages import TrainingStage
from interp_by_construction.subject.freeze import frozen_digest, frozen_for_continue
from interp_by_construction.subject.load import save_subject
from interp_by_construction.training.fit import Trained
from interp_by_construction.training.phases import Phase
from interp_by_construction.training.targets import LayerTargets
from interp_by_construction.training.train import Setting, Towards


@dataclass(frozen=True)
class Continue(TrainingStage[Trained]):
    """Trains on with everything upstream of the layer's aligned activations frozen, and with the
    alignment losses of the layers above that are aligned already. Writes `model/`.

    Raises RuntimeError, and leaves no artifact, if a frozen weight moved.
    """

    name = "continue"
    version = 2
    record = Trained
    says = "trains on around the fixed neurons"

    labels: Stage[Any]
    """Of the layer: which nodes are frozen."""
    above: Mapping[int, Stage[Any]]
    """Layer -> targets of the layers still aligned (joint schedule); else empty."""
    layer: int
    phase: Phase
    knobs: AlignKnobs

    @classmethod
    def of(
        cls,
        setting: Setting,
        model: Stage[Any],
        labels: Stage[Any],
        layer: int,
        above: Mapping[int, Stage[Any]],
    ) -> Self:
        """model: the one in which the layer was frozen."""
        return cls(
            **cls.common(setting, model),
            labels=labels,
            above=above,
            layer=layer,
            phase=setting.segment(layer).repair,
            knobs=only(AlignKnobs, setting.cfg.align),
        )

    def effort(self, sizes: Sizes) -> Effort:
        return self.training([self.phase], sizes)

    def compute(self, job: Job) -> Trained:
        model = self.start(job)
        nodes = aligned_nodes(job.path(self.labels))
        frozen = frozen_for_continue(model, self.layer, nodes)
        before = frozen_digest(model, frozen)
        layers = [
            LayerTargets.read(job.path(at), layer).towards(self.knobs.target, self.conditions.seed)
            for layer, at in self.above.items()
        ]
        towards = Towards(self.knobs, layers, [(self.layer, nodes)])
        with self.trainer(job) as trainer:
            record = trainer.phase(model, self.phase, frozen, towards)
        if frozen_digest(model, frozen) != before:
            raise RuntimeError(
                f"frozen weights of layer {self.layer} moved during training; this is a bug, the "
                "result is discarded"
            )
        save_subject(model, job.out / "model")
        return Trained([record])
