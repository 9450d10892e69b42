"""The text of a run: documents, splits, tokenizer, blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from interp_by_construction.config import Config, CorpusConfig, DataConfig, only
from interp_by_construction.corpus import CorpusRecord, build_corpus, content_identity
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.runtime import Handle, Runtime
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.llm.handle import Checkpoint
from interp_by_construction.subject.load import checkpoint_of, source_tokenizer


@dataclass(frozen=True)
class SourceText(Handle[DataConfig]):
    """What a corpus is made from: files, a dataset, or the generator of the stories."""

    data: DataConfig

    @cached_property
    def identity(self) -> str:
        """Hash of the text, or of the generator and its settings."""
        return content_identity(self.data)

    def open(self, runtime: Runtime) -> DataConfig:
        return self.data


@dataclass(frozen=True)
class Corpus(Stage[CorpusRecord]):
    """Writes what `corpus.build_corpus` writes. Raises CorpusError where the text is missing,
    unreadable or too small."""

    name = "corpus"
    version = 3
    record = CorpusRecord
    says = "reads the text and cuts it into blocks"

    text: SourceText
    data: CorpusConfig
    tokenizer: Checkpoint | None
    """That of the subject; None trains one on the train split."""

    @classmethod
    def of(cls, cfg: Config) -> Self:
        checkpoint, data = checkpoint_of(cfg.subject), only(CorpusConfig, cfg.data)
        if checkpoint is not None:
            # The tokenizer has its own vocabulary.
            data = replace(data, vocab_size=0)
        return cls(SourceText(cfg.data), data, checkpoint)

    def effort(self, sizes: Sizes) -> Effort:
        return Effort(cut=sum(sizes.splits.values()))

    def compute(self, job: Job) -> CorpusRecord:
        data = replace(job.use(self.text), **vars(self.data))
        checkpoint = None if self.tokenizer is None else job.use(self.tokenizer)
        tokenizer = None if checkpoint is None else source_tokenizer(checkpoint)
        return build_corpus(data, tokenizer, job.out)
