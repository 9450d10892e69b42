"""The configured simulator as something that stages are computed with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from interp_by_construction.config import Config, SimulateConfig
from interp_by_construction.corpus.parts import Part
from interp_by_construction.engine.stage import Handle, Runtime
from interp_by_construction.llm.handle import LanguageModel
from interp_by_construction.simulators import create, simulator_class
from interp_by_construction.simulators.base import Models, Simulation, Simulator

Simulate = Callable[[Sequence[str]], Simulation]
"""Labels -> their simulation."""


@dataclass(frozen=True)
class ConfiguredSimulator(Handle[Simulate]):
    """Opened it simulates labels, by what needs no fitting: itself, or the labeler where it has to
    be fitted (`Simulator.open`)."""

    cfg: SimulateConfig
    labeler: LanguageModel

    @cached_property
    def simulator(self) -> Simulator:
        """Raises ConfigError for settings that it cannot work with."""
        return create(self.cfg)

    @cached_property
    def kind(self) -> type[Simulator]:
        """What is known without its files."""
        return simulator_class(self.cfg.simulator)

    @property
    def name(self) -> str:
        """As `simulate.simulator` has it."""
        return self.cfg.simulator

    @property
    def any_text(self) -> bool:
        """Whether it simulates any label on any text cheaply."""
        return self.kind.any_text

    @property
    def scored_part(self) -> Part:
        """Part on which nodes are scored."""
        return self.kind.scored_part

    @property
    def calibration_part(self) -> Part:
        """Part on which simulations are brought to the scale of activations."""
        return self.kind.calibration_part

    @property
    def contrast(self) -> bool:
        """Whether exact simulations are corrected for what the labeler says whatever the label."""
        return self.cfg.contrast

    @property
    def exact_name(self) -> str:
        """What score records call the labeler's own simulation."""
        return "exact-contrast" if self.contrast else "exact"

    @property
    def self_judged(self) -> bool:
        """Whether the model that wrote the labels also simulates them."""
        return self.simulator.self_judged(self.labeler.cfg.model)

    @property
    def shown(self) -> str:
        """Its name in records."""
        return self.simulator.score_name

    @cached_property
    def identity(self) -> str:
        """Its kind, and the hash of all that it reads beside label and text."""
        simulator = self.simulator
        reads = simulator.identity if self.any_text else {"labeler": self.labeler.identity}
        values = [f"{key}={reads[key]}" for key in sorted(reads)]
        return " ".join([self.name, simulator.score_name, *values])

    def open(self, runtime: Runtime) -> Simulate:
        """Loads what it takes to simulate."""
        return self.simulator.open(Models(lambda: runtime.use(self.labeler), runtime.device))


def simulator_of(cfg: Config) -> ConfiguredSimulator:
    """As configured."""
    return ConfiguredSimulator(cfg.simulate, LanguageModel(cfg.labeler))
