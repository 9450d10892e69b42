"""Simulated activations from label and text alone; the one list of simulators."""

from __future__ import annotations

from pkgutil import resolve_name

from interp_by_construction.config import Config, SimulateConfig
from interp_by_construction.config.group import require
from interp_by_construction.simulators.base import Simulator

SIMULATORS = {
    "exact": "interp_by_construction.simulators.exact:ExactSimulator",
    "ridge": "interp_by_construction.simulators.ridge:RidgeSimulator",
    "head": "interp_by_construction.simulators.head_simulator:HeadSimulator",
    "rules": "interp_by_construction.simulators.rules:RulesSimulator",
}
"""Name -> its class. A simulator is added here and nowhere else."""


def simulator_class(name: str) -> type[Simulator]:
    """Raises ConfigError for a name that is not in `SIMULATORS`."""
    known = ", ".join(SIMULATORS)
    require(name in SIMULATORS, "simulate.simulator", name, f"give one of {known}")
    found: type[Simulator] = resolve_name(SIMULATORS[name])
    return found


def create(cfg: SimulateConfig) -> Simulator:
    """The configured simulator. Raises ConfigError for one that cannot work as it is configured."""
    return simulator_class(cfg.simulator)(cfg)


def check(c: Config) -> None:
    """What a run asks of its simulator, before anything is computed. Raises ConfigError."""
    simulator = simulator_class(c.simulate.simulator)
    fix = (
        f"it needs a simulator that reads any text cheaply, but simulate.simulator={simulator.name}: "
        f"set it to {' or '.join(known for known in SIMULATORS if simulator_class(known).any_text)}"
    )
    match, rounds, revisions = c.nodes.assign, c.label.audit_rounds, c.label.revisions
    require(match == "none" or simulator.any_text, "nodes.assign", match, f"{fix}, or assign=none")
    require(not rounds or simulator.any_text, "label.audit_rounds", rounds, f"{fix}, or give 0")
    exact, judged = c.simulate.n_score_tokens, c.scores.enabled
    name, better = "simulate.n_score_tokens", "give at least one excerpt's tokens"
    require(exact > 0 or simulator.any_text, name, exact, f"{better}, or {fix}")
    require(exact > 0 or not judged, name, exact, f"{better}, or scores.enabled=false")
    # Revisions and poles are decided by score, so they need candidates that are scored.
    name = "head_select_tokens" if simulator.any_text else "select_tokens"
    off = getattr(c.label, name) == 0
    better = f"a revision must score higher than what it replaces: give label.{name} >= 1"
    for field, value in (("label.revisions", revisions), ("label.audit_rounds", rounds)):
        require(not (value and off), field, value, f"{better}, or {field}=0")
    least = c.label.min_score
    fix = f"no label is scored: give label.{name} >= 1, or label.min_score=null"
    unscored = least is not None and off and match == "none"
    require(not unscored, "label.min_score", least, fix)
    fix = f"the pole is chosen by score: give label.{name} >= 1, or nodes.poles=dominant"
    require(not (c.nodes.poles == "both" and off), "nodes.poles", c.nodes.poles, fix)
