"""Training of a subject phase by phase, and what a run and its comparisons have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from interp_by_construction.config import AlignKnobs, Config, OptimizerConfig, only
from interp_by_construction.corpus.passage import n_begin
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.subject.freeze import Frozen, LayerNodes
from interp_by_construction.subject.load import load_subject, untie
from interp_by_construction.subject.widen import widen
from interp_by_construction.training.batches import Stream
from interp_by_construction.training.fit import PhaseRecord, Workplace, fit
from interp_by_construction.training.modules import AlignmentModule, Distill, Plan, free_ablation
from interp_by_construction.training.phases import Phase, Segment, segments
from interp_by_construction.training.targets import LayerTargets


@dataclass(frozen=True)
class Conditions:
    """What the run and its comparisons have in common besides text and steps. Knows no label."""

    optimizer: OptimizerConfig
    seed: int
    distill: float
    """Weight of KL(original || model) beside the LM loss."""
    free: Mapping[int, int] = field(default_factory=dict)
    """Layer -> free neurons that it gets before the first step."""

    def load(self, model: Path) -> Any:
        """A model with its free neurons and a head of its own; it computes what it did before."""
        loaded = load_subject(model)
        untie(loaded)
        for layer, count in self.free.items():
            widen(loaded, layer, count, self.seed * 1000 + layer)
        return loaded


@dataclass(frozen=True)
class Setting:
    """What the training stages of a run are made from. No stage holds it."""

    cfg: Config
    corpus: Stage[Any]
    original: Stage[Any]
    """The subject before any layer was aligned."""
    layers: Sequence[int]
    """All aligned layers of the run, lowest first."""

    @property
    def teacher(self) -> Stage[Any] | None:
        """The model to distil from; None where nothing is distilled."""
        return self.original if self.cfg.align.distill else None

    @property
    def together(self) -> bool:
        """Whether all layers are aligned at once."""
        return self.cfg.schedule == "joint"

    def segment(self, layer: int) -> Segment:
        """What is trained for the layer."""
        return segments(self.cfg, self.layers)[list(self.layers).index(layer)]

    def conditions(self, widened: Sequence[int] = ()) -> Conditions:
        """widened: layers that get their free neurons. Without `free.count` they do not matter, so
        that comparisons do not depend on which layers are aligned."""
        cfg = self.cfg
        free = dict.fromkeys(widened, cfg.free.count) if cfg.free.count else {}
        return Conditions(only(OptimizerConfig, cfg.trainer), cfg.seed, cfg.align.distill, free)

    def started(self, layer: int) -> Sequence[int]:
        """The layers whose training starts with the segment of `layer`."""
        if not self.together:
            return [layer]
        return self.layers if layer == self.layers[0] else []


@dataclass(frozen=True)
class Towards:
    """What labels ask of a phase."""

    knobs: AlignKnobs
    layers: Sequence[LayerTargets]
    """Trained towards their targets."""
    settled: Sequence[LayerNodes] = ()
    """Frozen already. With `align.ablate_free` their free nodes are ablated, too."""

    def alone(self, phase: Phase) -> bool:
        """Whether the alignment loss is all that trains."""
        return phase.local and any(each.nodes for each in self.layers)


@dataclass(frozen=True)
class Trainer:
    """Trains the phases of one stage on one model after the other."""

    corpus: Path
    conditions: Conditions
    distill: Distill | None
    place: Workplace

    @classmethod
    @contextmanager
    def of(
        cls,
        job: Job,
        corpus: Stage[Any],
        conditions: Conditions,
        original: Stage[Any] | None,
    ) -> Iterator[Trainer]:
        """Raises ValueError if `conditions` distil and there is no original model."""
        distill = None
        if conditions.distill:
            if original is None:
                raise ValueError("align.distill needs the original model")
            frozen = load_subject(job.model(original)).requires_grad_(False)
            distill = Distill(frozen, conditions.distill)
        with Workplace.of(job) as place:
            yield cls(job.path(corpus), conditions, distill, place)

    def phase(
        self,
        model: PreTrainedModel,
        phase: Phase,
        frozen: Frozen | None = None,
        towards: Towards | None = None,
    ) -> PhaseRecord:
        """Trains in place: on the LM loss, and towards labels if given."""
        towards = towards or Towards(AlignKnobs(ablate_free=0.0), ())
        knobs, layers, alone = towards.knobs, towards.layers, towards.alone(phase)
        flow = [*towards.settled, *((each.layer, each.nodes) for each in layers)]
        plan = Plan(
            phase.steps,
            knobs.local_lr if alone else phase.lr,
            self.conditions.optimizer,
            frozen or {},
            None if alone else self.distill,
            None if alone else free_ablation(knobs.ablate_free, flow, n_begin(self.corpus)),
        )
        module = AlignmentModule(model, plan, layers, knobs.weight, knobs.objective, alone)
        stream = Stream(phase, self.corpus, layers)
        return fit(module, stream.at, self.place, phase.name)
