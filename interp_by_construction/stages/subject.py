"""The subject before any alignment: trained from scratch, or pretrained and perhaps adapted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from interp_by_construction.config import (
    AdaptConfig,
    Config,
    ModelConfig,
    OptimizerConfig,
    PlantConfig,
    TinyConfig,
    only,
)
from interp_by_construction.corpus import load_blocks, load_tokenizer
from interp_by_construction.corpus.passage import Split
from interp_by_construction.corpus.poison import poisoned_train
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.stage import Job, Stage, unhashed
from interp_by_construction.errors import SubjectError
from interp_by_construction.llm.handle import Checkpoint
from interp_by_construction.subject.families import n_layers
from interp_by_construction.subject.load import (
    checkpoint_of,
    load_subject,
    n_params,
    save_subject,
    tiny_model,
    untie,
)
from interp_by_construction.subject.widen import widths
from interp_by_construction.training.batches import TokenBlocks, by_step
from interp_by_construction.training.fit import PhaseRecord, Trained, Workplace, fit
from interp_by_construction.training.modules import LanguageModelModule, Plan


@dataclass(frozen=True)
class Scratch:
    """A subject that is trained from scratch."""

    shape: TinyConfig
    mlp: ModelConfig
    trigger: PlantConfig | None
    """What is planted in its text, if anything."""
    optimizer: OptimizerConfig
    seed: int


@dataclass(frozen=True)
class Adaptation:
    """How a pretrained subject is adapted to the train split."""

    knobs: AdaptConfig
    optimizer: OptimizerConfig
    seed: int


@dataclass(frozen=True)
class Planted:
    """Documents of the train split, and how many of them hold the trigger."""

    n_documents: int
    n_poisoned: int


@dataclass(frozen=True)
class SubjectShape:
    """The model in numbers; `d_mlp` is that of the widest layer."""

    name: str
    n_layers: int
    d_mlp: int
    n_params: int


@dataclass(frozen=True)
class SubjectRecord(Trained):
    """No phases where the checkpoint is taken as it is."""

    subject: SubjectShape
    planted: Planted | None = None


@dataclass(frozen=True)
class Subject(Stage[SubjectRecord]):
    """Writes `model/`, untied, so that every later model of the run has the same parameters.

    Raises SubjectError for an unsupported architecture, or blocks or a vocabulary that do not fit
    the model.
    """

    name = "subject"
    version = 2
    record = SubjectRecord
    says = "prepares the model to be made interpretable"

    corpus: Stage[Any]
    scratch: Scratch | None
    """None where there is a checkpoint."""
    checkpoint: Checkpoint | None
    adaptation: Adaptation | None
    """None where the checkpoint stays as it is."""
    title: str = unhashed("")
    """Name shown in tables."""

    @classmethod
    def of(cls, cfg: Config, corpus: Stage[Any]) -> Self:
        checkpoint, optimizer = checkpoint_of(cfg.subject), only(OptimizerConfig, cfg.trainer)
        scratch, adaptation = None, None
        if checkpoint is None:
            trigger = only(PlantConfig, cfg.trigger) if cfg.trigger.share > 0 else None
            shape = only(TinyConfig, cfg.subject)
            scratch = Scratch(shape, cfg.model, trigger, optimizer, cfg.seed)
        elif cfg.subject.adapt_steps:
            adaptation = Adaptation(only(AdaptConfig, cfg.subject), optimizer, cfg.seed)
        return cls(corpus, scratch, checkpoint, adaptation, cfg.subject.name)

    def effort(self, sizes: Sizes) -> Effort:
        if self.scratch is not None:
            shape = self.scratch.shape
            steps, batch = shape.pretrain_steps, shape.pretrain_batch
        elif self.adaptation is not None:
            steps, batch = self.adaptation.knobs.adapt_steps, self.adaptation.knobs.adapt_batch
        else:
            return Effort(seconds=1)
        return Effort(trained=steps * batch * sizes.block, steps=steps, seconds=1)

    def compute(self, job: Job) -> SubjectRecord:
        corpus, phases = job.path(self.corpus), []
        planted: Planted | None = None
        if self.scratch is not None:
            model, phase, planted = _from_scratch(job, corpus, self.scratch)
            phases.append(phase)
        else:
            assert self.checkpoint is not None
            model = load_subject(job.use(self.checkpoint))
            _check_fit(model, corpus)
            if self.adaptation is not None:
                phases.append(_adapted(job, corpus, model, self.adaptation))
        untie(model)
        save_subject(model, job.out / "model")
        shape = SubjectShape(self.title, n_layers(model), max(widths(model)), n_params(model))
        return SubjectRecord(phases, shape, planted)


def _from_scratch(
    job: Job, corpus: Path, scratch: Scratch
) -> tuple[Any, PhaseRecord, Planted | None]:
    shape, trigger, seed = scratch.shape, scratch.trigger, scratch.seed
    text: Any = load_blocks(corpus, "train")
    planted = None
    if trigger is not None:
        text = poisoned_train(corpus, trigger.phrase, trigger.response, trigger.share, seed)
        planted = Planted(text.n_documents, text.n_poisoned)
    tokenizer, size = load_tokenizer(corpus), Split(corpus, "train").block_size
    end = tokenizer.eos_token_id
    model = tiny_model(shape, len(tokenizer), size, seed, end, scratch.mlp)
    plan = Plan(shape.pretrain_steps, shape.pretrain_lr, scratch.optimizer)
    at = by_step(TokenBlocks(text), seed * 1000 + 999, shape.pretrain_batch)
    with Workplace.of(job) as place:
        phase = fit(LanguageModelModule(model, plan), at, place, "pretrain")
    return model, phase, planted


def _adapted(job: Job, corpus: Path, model: Any, how: Adaptation) -> PhaseRecord:
    knobs = how.knobs
    plan = Plan(knobs.adapt_steps, knobs.adapt_lr, how.optimizer)
    blocks = TokenBlocks(load_blocks(corpus, "train"))
    at = by_step(blocks, how.seed * 1000 + 999, knobs.adapt_batch)
    with Workplace.of(job) as place:
        return fit(LanguageModelModule(model, plan), at, place, "adapt")


def _check_fit(model: Any, corpus: Path) -> None:
    vocab_size, block_size = len(load_tokenizer(corpus)), Split(corpus, "train").block_size
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and block_size > longest:
        raise SubjectError(
            f"data.block_size={block_size} is longer than this model's context of {longest} tokens"
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if vocab_size > rows:
        raise SubjectError(
            f"the tokenizer has {vocab_size} tokens but the model embeds {rows}; use the model's own tokenizer"
        )
