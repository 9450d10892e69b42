"""What a layer's MLP is worth: the control's training once more, with the MLP replaced by its mean
output.

The tax of a layer is to be compared with this cost: labels on an MLP that is not needed cost
nothing. The stage knows no label and no aligned node, so that the runs of a sweep share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp_by_construction.config import Config
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.stage import Job, Stage, unhashed
from interp_by_construction.stages import LayerStages, TrainingStage
from interp_by_construction.stages.losses import LossesRecord, measure_losses
from interp_by_construction.subject.interventions import constant_outputs, mean_output
from interp_by_construction.subject.load import save_subject
from interp_by_construction.training.fit import Trained
from interp_by_construction.training.phases import Phase
from interp_by_construction.training.train import Setting

N_MEAN_BLOCKS = 64
CONSTANTS = "constants.safetensors"


@dataclass(frozen=True)
class RemovedRecord(Trained, LossesRecord):
    """Test loss, to be compared with the control's after the same training."""

    layers: list[int]
    """Whose MLPs are gone."""

    def lines(self) -> Iterator[str]:
        """None: the table of work shows it beside the control."""
        return iter(())


@dataclass(frozen=True)
class Removed(TrainingStage[RemovedRecord]):
    """Trains without the MLPs of some layers.

    1. The mean of what an MLP's output projection writes, over text of the train split, takes its
       place; lowest layer first, each measured with those below it gone.
    2. The rest of the network trains as the control did: same tokens, order, steps and learning
       rates, nothing frozen.
    3. Test loss of the result.

    Writes `model/` (whose removed MLPs are not to be used), `constants.safetensors` (`layer_<i>`:
    what is written instead, [d_model]), and what the stage losses writes.
    """

    name = "removed"
    version = 3
    record = RemovedRecord
    says = "trains as long without the MLP, to compare"

    layers: tuple[int, ...]
    phases: tuple[Phase, ...]
    max_test_blocks: int | None
    batch_size: int
    layer: int | None = unhashed()
    """Shown beside the progress; None where it is of the whole run."""

    @classmethod
    def of(
        cls, setting: Setting, model: Stage[Any], layers: Sequence[int], layer: int | None = None
    ) -> Self:
        """Sequential: one layer, in the segment of the control that is its own. Joint: any layers,
        in all of the control's training, since the joint phase belongs to no layer.

        model: what the control started from, or this stage, whose MLPs stay removed."""
        trained = setting.layers if setting.together else layers
        started = [each for layer in trained for each in setting.started(layer)]
        return cls(
            **cls.common(setting, model, started),
            layers=tuple(layers),
            phases=tuple(phase for each in trained for phase in setting.segment(each).phases),
            max_test_blocks=setting.cfg.evaluate.max_test_blocks,
            batch_size=setting.cfg.evaluate.batch_size,
            layer=layer,
        )

    @classmethod
    def examine(cls, cfg: Config, layer: LayerStages) -> Self | None:
        """What the layer alone is worth. None where the configuration leaves it out."""
        if not (cfg.work.enabled and cfg.work.removed):
            return None
        setting = layer.setting
        before = layer.below[-1].stages["control"] if layer.below else setting.original
        model = layer.before if setting.together else before
        return cls.of(setting, model, [layer.index], layer.index)

    @classmethod
    def examine_all(cls, cfg: Config, layers: Sequence[LayerStages]) -> Self | None:
        """What all layers together are worth, likewise."""
        if not (cfg.work.enabled and cfg.work.removed):
            return None
        setting, first = layers[0].setting, layers[0]
        if setting.together:
            return cls.of(setting, first.before, [each.index for each in layers])
        removed = cls.of(setting, setting.original, [first.index])
        for layer in layers[1:]:
            removed = cls.of(setting, removed, [layer.index])
        return removed

    def effort(self, sizes: Sizes) -> Effort:
        tested = Effort(read=sizes.of_split("test", self.max_test_blocks))
        return self.training(self.phases, sizes) + tested

    def compute(self, job: Job) -> RemovedRecord:
        corpus, device, model = job.path(self.corpus), job.runtime.device, self.start(job)
        constants = read_constants(job.path(self.model))
        text = Passage.of_split(corpus, "train", n_blocks=N_MEAN_BLOCKS)
        for layer in self.layers:
            with constant_outputs(model, constants):
                parts = text.slices(self.batch_size)
                ids = (torch.as_tensor(part.ids) for part in parts)
                constants[layer] = mean_output(model, layer, ids, text.n_begin)
        with constant_outputs(model, constants):
            with self.trainer(job) as trainer:
                phases = [trainer.phase(model, each) for each in self.phases]
            losses = measure_losses(
                model.to(device).eval(), corpus, self.max_test_blocks, self.batch_size, job.out
            )
        save_subject(model.cpu(), job.out / "model")
        kept = {f"layer_{layer}": value.contiguous() for layer, value in constants.items()}
        save_file(kept, job.out / CONSTANTS)
        return RemovedRecord(**vars(losses), phases=phases, layers=sorted(constants))


def read_constants(path: Path) -> dict[int, Tensor]:
    """Layer -> what stands in for its MLP's output, [d_model]; empty where no MLP is removed."""
    file = path / CONSTANTS
    read = load_file(file) if file.is_file() else {}
    return {int(name.removeprefix("layer_")): value for name, value in read.items()}
