"""A language model as something that stages are computed with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from interp_by_construction.config import LabelerConfig
from interp_by_construction.engine.runtime import Handle, Runtime
from interp_by_construction.llm.client import Labeler, make_labeler
from interp_by_construction.llm.embedded import model_identity
from interp_by_construction.llm.identity import checkpoint_identity, labeler_identity


@dataclass(frozen=True)
class LanguageModel(Handle[Labeler]):
    """The labeler or the judge. Where and how fast it runs is no part of its identity."""

    cfg: LabelerConfig
    group: str = "labeler"
    """Its group in the configuration, labeler or judge, by which errors name its fields."""

    @cached_property
    def identity(self) -> str:
        return labeler_identity(self.cfg)

    @property
    def weights(self) -> str:
        """The same for the same model, whatever runs it."""
        return model_identity(self.cfg.model)

    def open(self, runtime: Runtime) -> Labeler:
        return make_labeler(self.cfg, runtime.calls, runtime.logs, self.group)

    def tokens(self, opened: Labeler) -> int:
        return opened.n_tokens


@dataclass(frozen=True)
class Checkpoint(Handle[str]):
    """A pretrained model that others have trained, known by its content."""

    source: str
    """Directory or hub name, maybe with a revision (`llm.pretrained`)."""

    @cached_property
    def identity(self) -> str:
        """Hash of weights and tokenizer; of a hub model its name and commit."""
        return checkpoint_identity(self.source)

    def open(self, runtime: Runtime) -> str:
        return self.source
