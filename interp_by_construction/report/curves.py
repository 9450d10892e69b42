"""Curves of training. At one x all lines of a chart have read the same text in the same steps.

A turn is what is trained in one go: one layer with the sequential schedule, all layers with
`joint`. Within a turn the run, its control and freeze-only read the same batches in the same order.
So steps are counted from the start of the turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from interp_by_construction.report.charts import Line, Points, line_chart
from interp_by_construction.report.facts import RunFacts

CHAINS = {
    "this run": ("align", "continue"),
    "control": ("control",),
    "freeze-only": ("freeze_only",),
}
"""Line -> the stages that train it, in their order."""
ALIGNMENT = "alignment_"
"""A term of the loss is called this and the layer."""
N_LINES = 6
"""A chart has no more colours."""


@dataclass(frozen=True)
class Phase:
    """One phase of training, by one optimizer."""

    stage: str
    layer: int
    start: int
    """Step of the turn at which it begins."""
    record: dict[str, Any]
    """See `training.fit.PhaseRecord`."""
    alignment_alone: bool
    """Whether the alignment loss is all that trains."""

    def moved(self, curve: list[list[float]]) -> Points:
        """The curve with its steps counted from the start of the turn."""
        return [(self.start + step, value) for step, value in curve]

    @property
    def language(self) -> Points:
        """LM loss by step; empty where it is not trained. A loss without terms is the LM loss."""
        if self.alignment_alone:
            return []
        terms = self.record["terms"]
        return self.moved(terms.get("lm", []) if terms else self.record["curve"])

    @property
    def alignment(self) -> dict[int, Points]:
        """Layer -> 1 - r by step."""
        terms = self.record["terms"]
        names = [name for name in terms if name.startswith(ALIGNMENT)]
        return {int(name.removeprefix(ALIGNMENT)): self.moved(terms[name]) for name in names}


def charts(facts: RunFacts) -> list[dict[str, Any]]:
    """Title, note and SVG of each chart: the LM loss of every turn, then its alignment loss."""
    made = []
    for layers in turns(facts):
        where = f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
        language, aligned = lines(facts, layers)
        own = list(_phases(facts, layers, CHAINS["this run"]))
        note = f"Phases: {', '.join(_steps(own))}."
        if any(phase.alignment_alone for phase in own):
            note += " The local phase trains the alignment loss alone."
        made += _chart(f"Training loss, {where}", "LM loss (nats per token)", language, note)
        note = "Mean of 1 − r with the simulated node over the layer's aligned nodes, up to the layer's freeze."
        title, y_label = f"Alignment loss, {where}", "alignment loss (1 − r)"
        for i in range(0, len(aligned), N_LINES):
            made += _chart(title, y_label, aligned[i : i + N_LINES], note)
    return made


def lines(facts: RunFacts, layers: list[int]) -> tuple[list[Line], list[Line]]:
    """LM loss by step in one turn, a line per chain; and alignment loss, a line per layer."""
    chains = {name: list(_phases(facts, layers, stages)) for name, stages in CHAINS.items()}
    language = {
        name: [point for phase in phases for point in phase.language]
        for name, phases in chains.items()
    }
    aligned: dict[int, Points] = {}
    for phase in chains["this run"]:
        for layer, curve in phase.alignment.items():
            aligned.setdefault(layer, []).extend(curve)
    return (
        [Line(name, points) for name, points in language.items() if points],
        [Line(f"layer {layer}", curve) for layer, curve in sorted(aligned.items()) if curve],
    )


def turns(facts: RunFacts) -> list[list[int]]:
    """Layers that are trained in one go."""
    together = facts.summary.get("schedule") == "joint"
    return [facts.layers] if together else [[layer] for layer in facts.layers]


def _phases(facts: RunFacts, layers: list[int], stages: tuple[str, ...]) -> Iterator[Phase]:
    """All that a chain of stages trains in a turn, in order. What layers share appears once."""
    start, seen = 0, set()
    for layer in layers:
        artifacts = facts.artifacts(layer)
        for stage in stages:
            if stage not in artifacts or artifacts[stage].fingerprint in seen:
                continue
            seen.add(artifacts[stage].fingerprint)
            metrics = artifacts[stage].metrics
            has_aligned = any(metrics.get("n_aligned", {}).values())
            for record in metrics["phases"]:
                alone = record["name"] == "local" and has_aligned
                yield Phase(stage, layer, start, record, alone)
                start += int(record["steps"])


def _steps(phases: list[Phase]) -> Iterator[str]:
    """What is trained, and up to which step."""
    for each in phases:
        above = f"above the frozen layer {each.layer}"
        name = above if each.stage == "continue" else each.record["name"]
        if each.record["steps"]:
            yield f"{name} to step {each.start + each.record['steps']:,}"


def _chart(title: str, y_label: str, lines: list[Line], note: str) -> list[dict[str, Any]]:
    if not lines:
        return []
    described = f"{title}: {', '.join(line.name for line in lines)}"
    svg = line_chart(lines, "step of training", y_label, described)
    return [{"title": title, "note": note, "svg": svg}]
