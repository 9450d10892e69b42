"""One stage a file, named like the stage. What several stages have in common stands here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from interp_by_construction.config import Config, TextAmounts, only
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.scoring.simulated import SimulatedLayer
from interp_by_construction.simulators.handle import ConfiguredSimulator, simulator_of
from interp_by_construction.subject.load import load_subject
from interp_by_construction.training.phases import Phase
from interp_by_construction.training.train import Conditions, Setting, Trainer

R = TypeVar("R", bound=Record)


def all_stages() -> dict[str, type[Stage[Any]]]:
    """Name -> class, of all files of this room. It imports them all, so it is slow."""
    found: dict[str, type[Stage[Any]]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for kind in vars(module).values():
            own = isinstance(kind, type) and issubclass(kind, Stage)
            if own and kind.__module__ == module.__name__ and "name" in vars(kind):
                found[kind.name] = kind
    return found


@dataclass(frozen=True)
class LayerStages:
    """One layer of a run whose models are all made: what measurements of it may read."""

    index: int
    setting: Setting
    """Of the run's training."""
    stages: Mapping[str, Stage[Any]]
    """Link name -> stage of this layer: collect, label, assign, simulate, align, freeze, continue,
    control, freeze_only, dictionary, losses_continue ... as far as the run has them."""
    shared: Mapping[str, Stage[Any]]
    """The same of the whole run: corpus, subject, encode, losses ..."""
    before: Stage[Any]
    """Model before this layer was aligned."""
    after: Stage[Any]
    """Model right after its alignment."""
    settled: Stage[Any]
    """Model in which its aligned activations were frozen (see `freeze`)."""
    final: Stage[Any]
    """The run's last model."""
    below: tuple[LayerStages, ...] = ()
    """The aligned layers under it, lowest first."""

    @property
    def labels(self) -> Stage[Any]:
        """The final labels."""
        return final_labels(self.stages)


def final_labels(stages: Mapping[str, Stage[Any]]) -> Stage[Any]:
    """The matched labels where there are any, else the labeler's. stages: of a layer, by link."""
    return stages.get("assign", stages["label"])


def load_model(job: Job, parent: Stage[Any]) -> Any:
    """The model in a parent's artifact, on the job's device."""
    model: Any = load_subject(job.model(parent))
    return model.to(job.runtime.device)


@dataclass(frozen=True)
class LayerMeasurement(Stage[R]):
    """Base of measurements that compare the nodes of one layer with what their labels say."""

    corpus: Stage[Any]
    simulate: Stage[Any]
    layer: int
    simulator: ConfiguredSimulator
    texts: TextAmounts

    @staticmethod
    def common(cfg: Config, layer: LayerStages) -> dict[str, Any]:
        """The fields above."""
        return {
            "corpus": layer.setting.corpus,
            "simulate": layer.stages["simulate"],
            "layer": layer.index,
            "simulator": simulator_of(cfg),
            "texts": only(TextAmounts, cfg.simulate),
        }

    def simulated(self, job: Job) -> SimulatedLayer:
        """What the labels say on each part of the text."""
        return SimulatedLayer(
            job.path(self.simulate),
            job.path(self.corpus),
            self.layer,
            self.texts,
            self.simulator.contrast,
        )


@dataclass(frozen=True)
class TrainingStage(Stage[R]):
    """Base of the run's training and of the trainings that it is compared with."""

    corpus: Stage[Any]
    model: Stage[Any]
    """The model that training starts from."""
    original: Stage[Any] | None
    """The model to distil from; None where nothing is distilled."""
    conditions: Conditions

    @staticmethod
    def common(setting: Setting, model: Stage[Any], widened: Sequence[int] = ()) -> dict[str, Any]:
        """The fields above. widened: layers that get their free neurons."""
        return {
            "corpus": setting.corpus,
            "model": model,
            "original": setting.teacher,
            "conditions": setting.conditions(widened),
        }

    def start(self, job: Job) -> Any:
        """The model before the first step, with its free neurons."""
        return self.conditions.load(job.model(self.model))

    def trainer(self, job: Job) -> AbstractContextManager[Trainer]:
        """Trains phases inside the block."""
        return Trainer.of(job, self.corpus, self.conditions, self.original)

    def training(self, phases: Sequence[Phase], sizes: Sizes) -> Effort:
        """What it is to train these phases."""
        n_tokens = sum(phase.batch_size * phase.steps * sizes.block for phase in phases)
        taught = n_tokens if self.conditions.distill else 0
        return Effort(trained=n_tokens, taught=taught, steps=sum(each.steps for each in phases))
