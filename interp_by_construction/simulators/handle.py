"""The configured simulator as something that stages are computed with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from interp_by_construction.config import SimulateConfig
from interp_by_construction.engine.stage import Handle, Runtime
from interp_by_construction.llm.handle import LanguageModel
from interp_by_construction.simulators import create
from interp_by_construction.simulators.base import Models, Simulation


@dataclass(frozen=True)
class AnyLabelSimulator(Handle[Callable[[Sequence[str]], Simulation]]):
    """Labels -> their simulation, by what needs no fitting: the configured simulator, or the
    labeler itself where that one has to be fitted (`Simulator.open`)."""

    cfg: SimulateConfig
    labeler: LanguageModel

    @cached_property
    def identity(self) -> str:
        """What is opened, with the hash of all that it reads beside label and text."""
        simulator = create(self.cfg)
        reads = simulator.identity if simulator.any_text else {"labeler": self.labeler.identity}
        return " ".join([simulator.score_name, *(f"{key}={reads[key]}" for key in sorted(reads))])

    @property
    def shown(self) -> str:
        """Its name in records."""
        return create(self.cfg).score_name

    def open(self, runtime: Runtime) -> Callable[[Sequence[str]], Simulation]:
        """Loads what simulating takes."""
        models = Models(lambda: runtime.use(self.labeler), runtime.device)
        return create(self.cfg).open(models)
