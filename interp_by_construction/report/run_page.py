"""Sections of a run's page: losses, ablations, cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interp_by_construction.engine.store import Artifact
from interp_by_construction.report.facts import RunFacts

HIDES = ("work", "function", "audit")
"""Records of a layer that say how much flows through its labelled nodes and around them."""
HIDES_IN_TOTAL = ("work", "trigger")


def over(loss: dict[str, Any]) -> list[dict[str, Any]]:
    """Test loss of the final model minus the original's and minus freeze-only's, where the summary
    has them. Unlike the tax they do not depend on the control."""
    names = {"over_original": "original", "over_freeze_only": "freeze-only"}
    return [
        {"name": name, "value": loss[key], "ci95": loss.get(f"{key}_ci95")}
        for key, name in names.items()
        if loss.get(key) is not None
    ]


def hidden_work(facts: RunFacts) -> list[dict[str, Any]]:
    """Title and record of every measurement of what flows around the labels: in total, then by
    layer."""
    groups: list[tuple[str, dict[str, Any], tuple[str, ...]]]
    groups = [("All layers", facts.summary, HIDES_IN_TOTAL)]
    groups += [(f"Layer {layer['layer']}", layer, HIDES) for layer in facts.summary["layers"]]
    return [
        {"title": f"{where}: {name}", "value": records[name], "open": name in HIDES_IN_TOTAL}
        for where, records, names in groups
        for name in names
        if records.get(name)
    ]


@dataclass(frozen=True)
class Cost:
    """What something took."""

    seconds: float = 0.0
    cpu_seconds: float | None = 0.0
    """None where a part of it was not recorded."""
    tokens: int = 0
    """Read and written by labeler and judge."""

    def __add__(self, other: Cost) -> Cost:
        cpu = (
            None
            if self.cpu_seconds is None or other.cpu_seconds is None
            else self.cpu_seconds + other.cpu_seconds
        )
        return Cost(self.seconds + other.seconds, cpu, self.tokens + other.tokens)


def cost_of(artifact: Artifact) -> Cost:
    """What it cost to make the artifact."""
    return Cost(artifact.seconds, artifact.cpu_seconds, artifact.labeler_tokens)


@dataclass(frozen=True)
class CostRow:
    """One stage."""

    name: str
    total: Cost
    """Over all layers."""
    by_layer: list[Cost | None]
    """None where a layer has none of its own."""


@dataclass(frozen=True)
class RunCost:
    """What a run took. An artifact counts once."""

    layers: list[int]
    rows: list[CostRow]
    """The stages of the layers in the order of computation, and their sum last."""
    shared: dict[str, Cost]
    """What the layers share."""
    n_aligned: int
    n_labelled: int
    """Aligned nodes, and those that were asked about and got no label."""
    devices: list[str]


def cost(facts: RunFacts) -> RunCost:
    """Raises StoreError where an artifact is gone."""
    counted: dict[str, Artifact] = {}
    by_layer: list[dict[str, Cost]] = []
    for layer in facts.layers:
        by_layer.append({})
        for stage, artifact in facts.artifacts(layer).items():
            if counted.setdefault(artifact.fingerprint, artifact) is artifact:
                by_layer[-1][stage] = cost_of(artifact)
    links = facts.directory.state["shared"]
    shared = {name: facts.shared(name) for name, link in links.items() if link not in counted}
    names = dict.fromkeys(name for layer in facts.summary["layers"] for name in layer["artifacts"])
    rows = [
        CostRow(
            name,
            sum((each[name] for each in by_layer if name in each), Cost()),
            [each.get(name) for each in by_layer],
        )
        for name in names
    ]
    sums = [sum(each.values(), Cost()) for each in by_layer]
    aligned = sum(layer["n_aligned"] for layer in facts.summary["layers"])
    devices = {each.device for each in (*counted.values(), *shared.values())}
    return RunCost(
        layers=facts.layers,
        rows=[*rows, CostRow("sum", sum(sums, Cost()), [*sums])],
        shared={name: cost_of(each) for name, each in shared.items()},
        n_aligned=aligned,
        n_labelled=aligned + sum(layer["n_failed_labels"] for layer in facts.summary["layers"]),
        devices=sorted(device for device in devices if device is not None),
    )
