"""The subject before any alignment: trained from scratch, shipped with the package, or another
pretrained model, perhaps adapted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from rich.text import Text
from torch import Tensor

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
from interp_by_construction.engine.progress import terminal
from interp_by_construction.engine.stage import Job, Stage, unhashed
from interp_by_construction.errors import SubjectError
from interp_by_construction.llm.handle import Checkpoint
from interp_by_construction.subject.families import n_layers
from interp_by_construction.subject.load import (
    checkpoint_of,
    load_subject,
    n_params,
    save_subject,
    source_tokenizer,
    tiny_model,
    untie,
)
from interp_by_construction.subject.shipped import SHIPPED, Shipped, choose
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
    shipped: str | None = None
    """Which of the package's subjects it is; None where it was trained here or is another's."""


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
    why: str = unhashed("")
    """Why it is trained from scratch, in one line."""

    @classmethod
    def of(cls, cfg: Config, corpus: Stage[Any], shipped: Path = SHIPPED) -> Self:
        """shipped: folder of the subjects that ship."""
        checkpoint, optimizer = checkpoint_of(cfg.subject), only(OptimizerConfig, cfg.trainer)
        scratch, adaptation, why = None, None, ""
        if checkpoint is None:
            checkpoint, why = choose(cfg, shipped)
            if checkpoint is None:
                trigger = only(PlantConfig, cfg.trigger) if cfg.trigger.share > 0 else None
                shape = only(TinyConfig, cfg.subject)
                scratch = Scratch(shape, cfg.model, trigger, optimizer, cfg.seed)
        elif cfg.subject.adapt_steps:
            adaptation = Adaptation(only(AdaptConfig, cfg.subject), optimizer, cfg.seed)
        return cls(corpus, scratch, checkpoint, adaptation, cfg.subject.name, why)

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
        planted, shipped = None, None
        model: Any
        if self.scratch is not None:
            _say(self.why)
            prepared = prepare(corpus, self.scratch)
            with Workplace.of(job) as place:
                phases.append(fit(prepared.module, prepared.at, place, "pretrain"))
            model, planted = prepared.module.model, prepared.planted
        else:
            assert self.checkpoint is not None
            model = load_subject(job.use(self.checkpoint))
            _check_fit(model, corpus)
            if isinstance(self.checkpoint, Shipped):
                _check_tokenizer(self.checkpoint, corpus)
                shipped, planted = self.checkpoint.name, self.checkpoint.card["planted"]
                planted = planted and Planted(**planted)
            if self.adaptation is not None:
                phases.append(_adapted(job, corpus, model, self.adaptation))
        untie(model)
        save_subject(model, job.out / "model")
        shape = SubjectShape(self.title, n_layers(model), max(widths(model)), n_params(model))
        return SubjectRecord(phases, shape, planted, shipped)


class Prepared(NamedTuple):
    """All that pretraining starts from."""

    module: LanguageModelModule
    """The untrained model with its plan."""
    at: Callable[[int], dict[str, Tensor]]
    """The batch of a step."""
    planted: Planted | None


def prepare(corpus: Path, scratch: Scratch) -> Prepared:
    """A subject with random weights, and the text that it learns.

    Raises SubjectError for a shape that cannot be, CorpusError for a trigger that occurs in the
    text.
    """
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
    return Prepared(LanguageModelModule(model, plan), at, planted)


def _say(line: str) -> None:
    """One line on the terminal, however narrow."""
    if line:
        terminal().print(Text(line), soft_wrap=True)


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


def _check_tokenizer(shipped: Shipped, corpus: Path) -> None:
    """Equal settings give an equal tokenizer, unless the library that trains it has changed."""
    if load_tokenizer(corpus).get_vocab() != source_tokenizer(shipped.source).get_vocab():
        raise SubjectError(
            f"the tokenizer that this machine trains on the text is not the one that {shipped.name} was trained with: "
            "give subject.pretrain=true to train the subject here"
        )
