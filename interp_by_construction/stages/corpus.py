"""The text of a run: documents, splits, tokenizer, blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from interp_by_construction.config import Config, CorpusConfig, DataConfig, only
from interp_by_construction.corpus import CorpusRecord, build_corpus, content_identity
from interp_by_construction.engine.disk import sha256_file, sha256_json
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.runtime import Handle, Runtime
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.llm.handle import Checkpoint
from interp_by_construction.subject.load import checkpoint_of, source_tokenizer

TOKENIZER_FILES = "tokenizer* special_tokens_map.json added_tokens.json vocab.* merges.txt".split()
"""Files of a checkpoint that decide how text is tokenized."""


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
class SourceTokenizer(Handle[str]):
    """The tokenizer of a pretrained model. It may be repaired where the weights are not touched."""

    checkpoint: Checkpoint

    @cached_property
    def identity(self) -> str:
        """Hash of the model's identity and of the tokenizer's files."""
        folder = Path(self.checkpoint.source)
        files = sorted(file for name in TOKENIZER_FILES for file in folder.glob(name))
        hashes = {file.name: sha256_file(file) for file in files}
        return sha256_json([self.checkpoint.identity, hashes])

    def open(self, runtime: Runtime) -> str:
        return self.checkpoint.open(runtime)


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
    tokenizer: SourceTokenizer | None
    """That of the subject; None trains one on the train split."""

    @classmethod
    def of(cls, cfg: Config) -> Self:
        checkpoint, data = checkpoint_of(cfg.subject), only(CorpusConfig, cfg.data)
        if checkpoint is not None:
            # The tokenizer has its own vocabulary.
            data = replace(data, vocab_size=0)
        tokenizer = None if checkpoint is None else SourceTokenizer(checkpoint)
        return cls(SourceText(cfg.data), data, tokenizer)

    def effort(self, sizes: Sizes) -> Effort:
        return Effort(cut=sum(sizes.splits.values()))

    def compute(self, job: Job) -> CorpusRecord:
        data = replace(job.use(self.text), **vars(self.data))
        checkpoint = None if self.tokenizer is None else job.use(self.tokenizer)
        tokenizer = None if checkpoint is None else source_tokenizer(checkpoint)
        return build_corpus(data, tokenizer, job.out)
