"""Curves of training: every chart says what was trained, and at one x all its lines have taken the
same steps of the same text.

A turn is what is trained in one go: one layer with the loop and with `hybrid`, all layers with
`joint`. Within a turn the run, its control and freeze-only read the same batches in the same order,
so their steps are counted on through the turn's phases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from interp_by_construction.report.charts import Line, Points, line_chart
from interp_by_construction.report.facts import RunFacts, distill_weight

CHAINS = {
    "this run": ("align", "continue"),
    "control": ("control",),
    "freeze-only": ("freeze_only",),
}
"""Line -> the stages that train it, in their order."""
PHASES = ("local", "joint", "settle", "continue")
"""Of a stage that has several, in their order."""
ALIGNMENT = "alignment_"
"""Name of a term of the loss, before the layer."""
N_LINES = 6
"""Lines that a chart has colours for."""


@dataclass(frozen=True)
class Phase:
    """One phase of training, by one optimizer."""

    stage: str
    layer: int
    name: str
    start: int
    """Step of the turn at which it begins."""
    record: dict[str, Any]
    """{"steps", "loss", "curve"}, and "terms" where the loss has several."""
    lm_alone: bool
    """Whether `curve` is the LM loss and nothing else."""
    alignment_alone: bool
    """Whether `curve` is the alignment loss and nothing else."""

    def moved(self, curve: list[list[float]]) -> Points:
        """The curve with its steps counted from the start of the turn."""
        return [(self.start + step, value) for step, value in curve]

    @property
    def language(self) -> Points:
        """LM loss by step; empty where it is not known apart."""
        return self.moved(self.record["curve"] if self.lm_alone else self.terms.get("lm", []))

    @property
    def total(self) -> Points:
        """The whole loss where the LM loss is a part of it that is not known apart."""
        mixed = not self.lm_alone and not self.alignment_alone and "lm" not in self.terms
        return self.moved(self.record["curve"]) if mixed else []

    @property
    def alignment(self) -> dict[int, Points]:
        """Layer -> 1 - r by step."""
        if self.alignment_alone and not self.terms:
            return {self.layer: self.moved(self.record["curve"])}
        terms = {name: curve for name, curve in self.terms.items() if name.startswith(ALIGNMENT)}
        return {
            int(name.removeprefix(ALIGNMENT)): self.moved(curve) for name, curve in terms.items()
        }

    @property
    def terms(self) -> dict[str, list[list[float]]]:
        """Empty in what an older version trained."""
        terms: dict[str, list[list[float]]] = self.record.get("terms", {})
        return terms


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
        if any(phase.total for phase in own):
            note += " An older version trained this: where there was more than the LM loss, it kept the sum alone."
        made += _chart(f"Training loss, {where}", "LM loss (nats per token)", language, note)
        note = "Mean of 1 − r with the simulated node over the layer's aligned nodes, up to the layer's freeze."
        for i in range(0, len(aligned), N_LINES):
            made += _chart(
                f"Alignment loss, {where}", "alignment loss (1 − r)", aligned[i : i + N_LINES], note
            )
    return made


def lines(facts: RunFacts, layers: list[int]) -> tuple[list[Line], list[Line]]:
    """LM loss by step in one turn, a line per chain; and alignment loss, a line per layer."""
    chains = {name: list(_phases(facts, layers, stages)) for name, stages in CHAINS.items()}
    language = [line for name, phases in chains.items() for line in _language(name, phases)]
    return language, _alignment(chains["this run"])


def turns(facts: RunFacts) -> list[list[int]]:
    """Layers that are trained in one go."""
    return (
        [facts.layers]
        if facts.summary.get("schedule") == "joint"
        else [[layer] for layer in facts.layers]
    )


def _phases(facts: RunFacts, layers: list[int], stages: tuple[str, ...]) -> Iterator[Phase]:
    """All that a chain of stages trains in a turn, in order; what layers share once."""
    start, seen = 0, set()
    for layer in layers:
        artifacts = facts.artifacts(layer)
        for stage in (
            stage
            for stage in stages
            if stage in artifacts and artifacts[stage].fingerprint not in seen
        ):
            seen.add(artifacts[stage].fingerprint)
            metrics = artifacts[stage].metrics
            for name, record in _records(stage, metrics):
                alone = _alignment_alone(stage, name, metrics)
                yield Phase(
                    stage,
                    layer,
                    name,
                    start,
                    record,
                    not alone and _lm_alone(facts, stage, layer, record),
                    alone,
                )
                start += int(record["steps"])


def _records(stage: str, metrics: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Phase -> its record, in the order of training; a stage of one phase is its own."""
    if "curve" in metrics:
        return [(stage, metrics)]
    return [(name, metrics[name]) for name in PHASES if name in metrics]


def _alignment_alone(stage: str, phase: str, metrics: dict[str, Any]) -> bool:
    """The loop's local phase, unless it has no node to align: what is aligned together counts its
    nodes by layer."""
    n_aligned = metrics.get("n_aligned", 0)
    return stage == "align" and phase == "local" and isinstance(n_aligned, int) and n_aligned > 0


def _lm_alone(facts: RunFacts, stage: str, layer: int, record: dict[str, Any]) -> bool:
    """Where no terms were kept, what was trained follows from the stage: layers aligned at once go
    on aligning above a freeze."""
    if "terms" in record:
        return False
    if stage not in CHAINS["this run"]:
        return True
    schedule = facts.summary.get("schedule", "sequential")
    above = [other for other in facts.layers if other > layer]
    aligning = {
        "align": [layer] if schedule == "sequential" else [layer, *above],
        "continue": above if schedule == "joint" else [],
    }[stage]
    aligned = any(facts.layer(other)["n_aligned"] for other in aligning)
    return not aligned and distill_weight(facts.summary) == 0.0


def _language(name: str, phases: list[Phase]) -> list[Line]:
    lines = [
        Line(name, [point for phase in phases for point in phase.language]),
        Line(f"{name}, sum of its losses", [point for phase in phases for point in phase.total]),
    ]
    return [line for line in lines if line.points]


def _alignment(phases: list[Phase]) -> list[Line]:
    """One line per layer."""
    points: dict[int, Points] = {}
    for phase in phases:
        for layer, curve in phase.alignment.items():
            points.setdefault(layer, []).extend(curve)
    return [Line(f"layer {layer}", curve) for layer, curve in sorted(points.items()) if curve]


def _steps(phases: list[Phase]) -> list[str]:
    """What is trained, and up to which step."""
    names = {"continue": "above the frozen layer {}"}
    ends = [
        (each, each.start + int(each.record["steps"])) for each in phases if each.record["steps"]
    ]
    return [
        f"{names.get(each.name, each.name).format(each.layer)} to step {end:,}"
        for each, end in ends
    ]


def _chart(title: str, y_label: str, lines: list[Line], note: str) -> list[dict[str, Any]]:
    if not lines:
        return []
    described = f"{title}: {', '.join(line.name for line in lines)}"
    svg: Markup = line_chart(lines, "step of training", y_label, described)
    return [{"title": title, "note": note, "svg": svg}]
