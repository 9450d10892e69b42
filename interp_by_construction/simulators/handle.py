"""Simulators as something that stages are computed with: hashed by all that they read beside label
and text, opened once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from interp_by_construction.config import Config, SimulateConfig
from interp_by_construction.corpus.parts import Part
from interp_by_construction.engine.stage import Handle, Runtime
from interp_by_construction.llm.handle import LanguageModel
from interp_by_construction.simulators import create, simulator_class
from interp_by_construction.simulators.base import (
    Fitted,
    Models,
    Simulation,
    Simulator,
    TextEncoder,
    Texts,
)

Simulate = Callable[[Sequence[str]], Simulation]
"""Labels -> their simulation."""


@dataclass(frozen=True)
class Encoder(Handle[TextEncoder]):
    """The encoder of the configured simulator."""

    cfg: SimulateConfig

    @cached_property
    def identity(self) -> str:
        """The model, what is made of its hidden states, and which of them are read."""
        own = create(self.cfg)
        read = {name: getattr(own.cfg, name) for name in own.encoder_settings}
        return json.dumps(own.identity | read, sort_keys=True)

    def open(self, runtime: Runtime) -> TextEncoder:
        """Loads it."""
        return create(self.cfg).load_encoder(runtime.device)


@dataclass(frozen=True)
class Opened:
    """A simulator with what it takes to simulate."""

    simulator: Simulator
    models: Models
    simulate: Simulate

    def __call__(self, labels: Sequence[str]) -> Simulation:
        """Simulates any labels."""
        return self.simulate(labels)

    def fit(self, labels: Sequence[str], texts: Texts) -> Fitted:
        """The simulator of the targets for the labels of one layer."""
        return self.simulator.fit(labels, texts, self.models)


@dataclass(frozen=True)
class AnyLabelSimulator(Handle[Opened]):
    """Simulates any labels by what needs no fitting: the configured simulator, or the labeler
    itself where that one has to be fitted (`Simulator.open`)."""

    cfg: SimulateConfig
    labeler: LanguageModel

    @cached_property
    def simulator(self) -> Simulator:
        """Raises ConfigError for settings that it cannot work with."""
        return create(self.cfg)

    @property
    def kind(self) -> type[Simulator]:
        """What is known without its files."""
        return simulator_class(self.cfg.simulator)

    @cached_property
    def identity(self) -> str:
        """What is opened, with the hash of all that it reads beside label and text."""
        own = self.simulator
        reads = own.identity if own.any_text else {"labeler": self.labeler.identity}
        return json.dumps({"simulator": own.score_name} | reads, sort_keys=True)

    @property
    def name(self) -> str:
        """As `simulate.simulator` has it."""
        return self.kind.name

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

    def open(self, runtime: Runtime) -> Opened:
        """Loads what simulating takes."""
        models = Models(lambda: runtime.use(self.labeler), lambda: runtime.use(Encoder(self.cfg)))
        return Opened(self.simulator, models, self.simulator.open(models))


@dataclass(frozen=True)
class ConfiguredSimulator(AnyLabelSimulator):
    """What makes the targets, and simulates labels the way scores do."""

    @cached_property
    def identity(self) -> str:
        """Its kind and settings, the labeler, and what else it reads."""
        own = self.simulator
        known: dict[str, Any] = {name: getattr(own.cfg, name) for name in own.settings}
        known |= {"simulator": own.name, "contrast": self.contrast}
        known |= {"labeler": self.labeler.identity}
        return json.dumps(known | own.identity, sort_keys=True)


def simulator_of(cfg: Config) -> ConfiguredSimulator:
    """As configured."""
    return ConfiguredSimulator(cfg.simulate, LanguageModel(cfg.labeler))
