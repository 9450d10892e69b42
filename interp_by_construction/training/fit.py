"""One resumable training phase.

1. Batches depend on (seed, step) alone, the learning rate on the step alone, and dropout is 0.
   There is no other state.
2. A Lightning checkpoint is saved every `checkpoint_seconds` (`training.checkpoints`).
3. A phase that is started again resumes from the newest checkpoint that is intact. On the same
   machine with the same number of threads it ends with the same weights, bit for bit.
4. A finished phase leaves its weights in scratch. If a later phase of the stage is killed, the
   finished one is not repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from interp_by_construction.engine.one_process import one_process
from interp_by_construction.engine.progress import Loop, loop
from interp_by_construction.engine.records import Record, from_json, to_json
from interp_by_construction.engine.stage import Job
from interp_by_construction.errors import ConfigError
from interp_by_construction.training.checkpoints import Checkpoints, load_finished, save_finished
from interp_by_construction.training.modules import LOG_EVERY, LanguageModelModule


@dataclass(frozen=True)
class PhaseRecord:
    """How training of one phase went."""

    name: str
    steps: int
    loss: float | None
    """The last point of the curve; None without a step."""
    curve: list[list[float]]
    """[[step, loss]], means over 20 steps."""
    terms: dict[str, list[list[float]]] = field(default_factory=dict)
    """Such a curve for each of `module.terms`, over those of the 20 steps that have it. Empty where
    the loss is the LM loss alone."""


@dataclass(frozen=True)
class Trained(Record):
    """Record of a stage that trains."""

    phases: list[PhaseRecord]
    """In the order of training."""


@dataclass(frozen=True)
class Workplace:
    """Where and how training runs. No result depends on it."""

    scratch: Path
    """For checkpoints, in a folder for each phase."""
    device: str
    """cpu, cuda, or a GPU by its number such as cuda:1."""
    threads: int
    """Torch threads. Their number can change last bits."""
    checkpoint_seconds: float
    """At least so often a checkpoint is saved."""
    logger: Any = None
    """Lightning's, or None."""

    @classmethod
    @contextmanager
    def of(cls, job: Job) -> Iterator[Workplace]:
        """A stage's own, with its curves tracked."""
        run = job.runtime
        with job.tracked() as logger:
            yield cls(job.scratch, run.device, run.threads, run.checkpoint_seconds, logger)


class _Stream(IterableDataset[dict[str, Tensor]]):
    """Batches from the trainer's current step on, whether that is 0 or restored."""

    def __init__(
        self, module: pl.LightningModule, at: Callable[[int], dict[str, Tensor]], steps: int
    ) -> None:
        self.module, self.at, self.steps = module, at, steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for step in range(self.module.global_step, self.steps):
            yield self.at(step)


class _Checkpoint(pl.Callback):
    """Saves by the clock and keeps the thinned curves of the loss and its terms, which are saved in
    the checkpoint."""

    KEPT = ("curve", "recent", "terms", "recent_terms")

    def __init__(self, checkpoints: Checkpoints, seconds: float) -> None:
        self.checkpoints, self.seconds, self.saved_at = checkpoints, seconds, time.monotonic()
        self.curve: list[list[float]] = []
        self.recent: list[float] = []
        self.terms: dict[str, list[list[float]]] = {}
        self.recent_terms: dict[str, list[float]] = {}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.KEPT}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for name in self.KEPT:
            setattr(self, name, state_dict[name])

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        loss = float(outputs["loss"])
        if not np.isfinite(loss):
            raise ConfigError(
                f"the loss became {loss} at step {trainer.global_step}; lower the learning rate or the alignment weight"
            )
        self.recent.append(loss)
        assert isinstance(pl_module, LanguageModelModule)
        for name, term in pl_module.terms.items():
            # A batch may leave a term undefined.
            if np.isfinite(value := float(term)):
                self.recent_terms.setdefault(name, []).append(value)
        if trainer.global_step % LOG_EVERY == 0 or trainer.global_step == trainer.max_steps:
            self.curve.append(_curve_point(trainer.global_step, self.recent))
            for name, values in self.recent_terms.items():
                self.terms.setdefault(name, []).append(_curve_point(trainer.global_step, values))
            self.recent, self.recent_terms = [], {}
        due = time.monotonic() - self.saved_at >= self.seconds
        if due and trainer.global_step < trainer.max_steps:
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        write = partial(trainer.save_checkpoint, weights_only=False)
        self.checkpoints.save(trainer.global_step, write)
        self.saved_at = time.monotonic()


def _curve_point(step: int, values: list[float]) -> list[float]:
    return [step, round(float(np.mean(values)), 6)]


class _Shown(pl.Callback):
    """Shows how far training is. Lightning's own bar writes to standard output, where only results
    may stand."""

    def __init__(self, loop: Loop) -> None:
        self.loop, self.name = loop, loop.words

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.loop.first = self.loop.done = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.loop.done = trainer.global_step
        self.loop.words = f"{self.name}, loss {float(outputs['loss']):.3f}"


def fit(
    module: LanguageModelModule,
    at: Callable[[int], dict[str, Tensor]],
    place: Workplace,
    name: str = "train",
) -> PhaseRecord:
    """Trains `module.model` in place for the steps of its plan.

    `at` gives the batch of a step and depends on the step alone. No other phase of the stage has
    this name.
    """
    steps, scratch = module.plan.steps, place.scratch / name
    scratch.mkdir(parents=True, exist_ok=True)
    if (finished := _load_finished(module, scratch)) is not None:
        module.guard.release()
        return finished
    torch.set_num_threads(place.threads)
    checkpoint = _Checkpoint(Checkpoints(scratch), place.checkpoint_seconds)
    if steps > 0:
        with loop(name, steps) as shown:
            _train(module, _Stream(module, at, steps), place, (checkpoint, _Shown(shown)))
    module.guard.release()
    module.to("cpu")
    curve = checkpoint.curve
    record = PhaseRecord(name, steps, curve[-1][1] if curve else None, curve, checkpoint.terms)
    _save_finished(module, scratch, record)
    return record


def _train(
    module: LanguageModelModule,
    stream: _Stream,
    place: Workplace,
    callbacks: tuple[_Checkpoint, _Shown],
) -> None:
    checkpoints, device = callbacks[0].checkpoints, torch.device(place.device)
    on_gpu = device.type == "cuda"
    trainer = pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=[device.index or 0] if on_gpu else 1,
        plugins=one_process(),
        max_steps=module.plan.steps,
        max_epochs=-1,
        gradient_clip_val=module.plan.optimizer.clip,
        logger=place.logger or False,
        log_every_n_steps=LOG_EVERY,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        default_root_dir=checkpoints.folder,
        deterministic="warn" if on_gpu else None,
    )
    resume = checkpoints.newest()
    # batch_size=None: the stream yields whole batches. Workers would cost more than slicing an
    # arrow table.
    loader = DataLoader(stream, batch_size=None)
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    if trainer.global_step != module.plan.steps:
        raise RuntimeError(f"training ended at step {trainer.global_step} of {module.plan.steps}")


def _save_finished(module: LanguageModelModule, scratch: Path, record: PhaseRecord) -> None:
    weights = {name: p.detach().contiguous() for name, p in module.model.named_parameters()}
    save_finished(scratch, weights, to_json(record))
    Checkpoints(scratch).remove()


def _load_finished(module: LanguageModelModule, scratch: Path) -> PhaseRecord | None:
    if (finished := load_finished(scratch)) is None:
        return None
    weights, record = finished
    with torch.no_grad():
        for name, parameter in module.model.named_parameters():
            parameter.copy_(weights[name])
    return from_json(PhaseRecord, record)
