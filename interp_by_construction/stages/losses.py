"""losses: LM loss of one model on the test split, and on text of another source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors.numpy import save_file
from torch import nn

from interp_by_construction.config import Config
from interp_by_construction.config.text import APART
from interp_by_construction.corpus import measured_splits
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.stages import load_model
from interp_by_construction.subject.losses import document_losses


@dataclass(frozen=True)
class TestLoss(Record):
    """Over all tokens of the test text."""

    loss: float
    """Nats per token."""
    n_tokens: int
    n_documents: int


@dataclass(frozen=True)
class LossesRecord(TestLoss):
    """Also on other text."""

    apart: float | None
    """On text of another source, in nats per token; None where the corpus has none."""


@dataclass(frozen=True)
class Losses(Stage[LossesRecord]):
    """Writes `losses_test.safetensors`: `document`, its `tokens`, and its loss in `nats`, summed,
    [document] each; where the corpus has text of another source also `losses_apart.safetensors`."""

    name = "losses"
    version = 4
    record = LossesRecord
    says = "measures a model's loss on held-out text"

    corpus: Stage[Any]
    model: Stage[Any]
    max_test_blocks: int | None
    batch_size: int

    @classmethod
    def of(cls, cfg: Config, corpus: Stage[Any], model: Stage[Any]) -> Self:
        return cls(corpus, model, cfg.evaluate.max_test_blocks, cfg.evaluate.batch_size)

    def effort(self, sizes: Sizes) -> Effort:
        splits = ("test", APART)
        return Effort(read=sum(sizes.of_split(each, self.max_test_blocks) for each in splits))

    def compute(self, job: Job) -> LossesRecord:
        model, corpus = load_model(job, self.model), job.path(self.corpus)
        return measure_losses(model, corpus, self.max_test_blocks, self.batch_size, job.out)


def measure_losses(
    model: nn.Module, corpus: Path, max_test_blocks: int | None, batch_size: int, out: Path
) -> LossesRecord:
    """Measures a model in memory; writes what the stage writes."""
    found: dict[str, tuple[float, int, int]] = {}
    for split in measured_splits(corpus):
        # Intervals are over documents. Evenly spaced blocks cover many of them.
        passage = Passage.of_split(corpus, split, n_blocks=max_test_blocks)
        losses = document_losses(model, passage, {}, batch_size, f"{split} loss")
        nats, n_tokens = losses.nats["none"], int(losses.tokens.sum())
        saved = {"document": losses.document, "nats": nats, "tokens": losses.tokens}
        save_file(saved, out / f"losses_{split}.safetensors")
        found[split] = (sum(nats.tolist()) / n_tokens, n_tokens, len(losses.document))
    return LossesRecord(*found["test"], found[APART][0] if APART in found else None)
