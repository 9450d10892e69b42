"""The configured simulator as something that stages are computed with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from interp_by_construction.config import Config, SimulateConfig
from interp_by_construction.corpus.parts import Part
from interp_by_construction.engine.runtime import Handle, Runtime
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
from interp_by_construction.simulators.reading import READING

T = TypeVar("T")

Simulate = Callable[[Sequence[str]], Simulation]
"""Labels -> their simulation."""

Fit = Callable[[Sequence[str], Texts], Fitted]
"""Labels of a layer, text -> the simulator of their targets."""


@dataclass(frozen=True)
class Encoder(Handle[TextEncoder]):
    """The encoder of the configured simulator."""

    cfg: SimulateConfig

    @cached_property
    def identity(self) -> str:
        """The model, what is made of its hidden states, and which of them are read."""
        own = create(self.cfg)
        read = {name: getattr(own.cfg, name) for name in own.encoder_settings}
        return json.dumps(own.identity | read | {"reading": READING}, sort_keys=True)

    def open(self, runtime: Runtime) -> TextEncoder:
        return create(self.cfg).load_encoder(runtime.device)


@dataclass(frozen=True)
class _Configured(Handle[T]):
    """The configured simulator, and the labeler that it may use."""

    cfg: SimulateConfig
    labeler: LanguageModel

    @cached_property
    def simulator(self) -> Simulator:
        """Raises ConfigError for settings that it cannot work with."""
        return create(self.cfg)

    def models(self, runtime: Runtime) -> Models:
        """What the simulator may use, each opened once in a run."""
        return Models(lambda: runtime.use(self.labeler), lambda: runtime.use(Encoder(self.cfg)))


@dataclass(frozen=True)
class ConfiguredSimulator(_Configured[Simulate]):
    """Opened it simulates labels, by what needs no fitting: itself, or the labeler where it has to
    be fitted (`Simulator.open`)."""

    @cached_property
    def kind(self) -> type[Simulator]:
        """What is known without its files."""
        return simulator_class(self.cfg.simulator)

    @property
    def name(self) -> str:
        return self.cfg.simulator

    @property
    def any_text(self) -> bool:
        return self.kind.any_text

    @property
    def reads_all(self) -> bool:
        return self.kind.reads_all

    def refusal(self, label: str) -> str | None:
        """Why it does not simulate a label; None for one that it simulates."""
        readable = self.reads_all or self.simulator.reads(label)
        return None if readable else f"unreadable by {self.name}"

    @property
    def scored_part(self) -> Part:
        return self.kind.scored_part

    @property
    def calibration_part(self) -> Part:
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
        return " ".join([self.name, simulator.score_name, READING, *values])

    def open(self, runtime: Runtime) -> Simulate:
        return self.simulator.open(self.models(runtime))


@dataclass(frozen=True)
class TargetSimulator(_Configured[Fit]):
    """Makes the targets: it may be fitted to the labels first."""

    @cached_property
    def identity(self) -> str:
        """Its kind and settings, the labeler, and what else it reads beside label and text."""
        own = self.simulator
        known = {name: getattr(own.cfg, name) for name in ("simulator", *own.settings)}
        beside = {"labeler": self.labeler.identity, "reading": READING}
        return json.dumps(known | own.identity | beside, sort_keys=True)

    def open(self, runtime: Runtime) -> Fit:
        models = self.models(runtime)
        return lambda labels, texts: self.simulator.fit(labels, texts, models)


def simulator_of(cfg: Config) -> ConfiguredSimulator:
    """As configured."""
    return ConfiguredSimulator(cfg.simulate, LanguageModel(cfg.labeler))
