"""What interpretability costs: held-out tax against mean final score over layers, one point per
run, controls marked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

from interp_by_construction.report.charts import Axis, Names, frame, padded
from interp_by_construction.report.facts import (
    RunFacts,
    over_original,
    score_of,
    share_through_free,
    truth_of,
)

Metric = Literal["score", "truth", "labelled"]
METRICS: dict[Metric, str] = {
    "score": "final score (Pearson r, mean over layers)",
    "truth": "ground truth (Pearson r, mean over layers)",
    "labelled": "share of the loss through labelled nodes",
}
SHORT: dict[Metric, str] = {
    "score": "final score",
    "truth": "ground truth r",
    "labelled": "share through labelled nodes",
}
TAX = "tax on held-out text (nats per token, against the compute-matched control)"
COMMON = 0.75
"""A value that at least this share of the settings has goes without saying."""
SEEDS = ("seed", "data.seed")
"""Runs that differ in these alone are one setting."""


@dataclass(frozen=True)
class Point:
    """One run, or one model beside it."""

    name: str
    href: str
    tax: float
    tax_ci95: tuple[float, float] | None
    score: float | None
    score_ci95: tuple[float, float] | None
    """Bootstrap over nodes, where the run has one layer."""
    truth: float | None
    through_free: float | None
    """Share of the loss that flows through free nodes."""
    setting: tuple[tuple[str, str], ...]
    """The fields in which the jobs differ, seeds left out, with their values."""
    seed: str
    control: str
    """What makes it a control; empty for a run that aligns nodes with their own labels."""
    complete: bool = True
    """False for a run that has not done all its layers: what it lost and scored compares with no
    other run."""
    over_original: float | None = None
    """Test loss of the final model minus the original subject's, nats per token: unlike the tax it
    does not move with what the control learns or forgets."""

    @property
    def labelled(self) -> float | None:
        """What does not flow through free nodes: a label on a node that does no work is cheap."""
        return None if self.through_free is None else 1.0 - self.through_free

    def value(self, metric: Metric) -> float | None:
        """The run's value of `metric`; None where it has none."""
        value: float | None = getattr(self, metric)
        return value

    @property
    def described(self) -> str:
        """The run's settings in one line."""
        return ", ".join(
            [
                *(f"{key}={value}" for key, value in self.setting),
                *([f"seed={self.seed}"] if self.seed else []),
            ]
        )


@dataclass(frozen=True)
class Setting:
    """Runs that differ in the seed alone: means, and the range over seeds."""

    points: tuple[Point, ...]
    label: str
    """What tells it from the others; see `labels_of`."""

    @property
    def control(self) -> str:
        """See `Point.control`; all its points have the same."""
        return self.points[0].control

    def spread(
        self, of: Metric | Literal["tax", "through_free", "over_original"]
    ) -> tuple[float, float, float] | None:
        """(lowest, mean, highest); None where a run has no value."""
        values = [getattr(point, of) for point in self.points]
        known = [value for value in values if value is not None]
        return (
            (min(known), sum(known) / len(known), max(known)) if len(known) == len(values) else None
        )


def points_of(runs: Sequence[tuple[RunFacts, str]]) -> list[Point]:
    """One point per run; runs: facts and the address of the run's page."""
    varied = varied_fields([facts for facts, _ in runs])
    points = []
    for facts, href in runs:
        loss = facts.summary["loss"]
        finals = [layer["score"]["final"] for layer in facts.summary["layers"]]
        interval = loss["tax_ci95"]
        single = finals[0]["ci95"] if len(finals) == 1 else None
        points.append(
            Point(
                name=facts.name,
                href=href,
                tax=loss["tax"],
                tax_ci95=None if interval is None else (interval[0], interval[1]),
                score=score_of(facts.summary),
                score_ci95=None if single is None else (single[0], single[1]),
                truth=truth_of(facts.summary),
                through_free=share_through_free(facts.summary),
                setting=tuple(
                    (key, text(facts.identity.get(key))) for key in varied if key not in SEEDS
                ),
                seed=text(facts.identity["seed"]) if "seed" in varied else "",
                control=control_of(facts),
                complete=facts.summary["complete"],
                over_original=over_original(facts.summary),
            )
        )
    return points


def references(runs: Sequence[RunFacts]) -> list[Point]:
    """The models without alignment that stand beside the runs: the compute-matched control and
    freeze-only. Nobody aligned their nodes, so they stand at the score that the labels had before
    alignment. Equal ones once; those of unfinished runs, which are unfinished too, only where there
    is nothing else.
    """
    found: dict[tuple[str, float, float | None], Point] = {}
    for facts in [facts for facts in runs if facts.summary["complete"]] or runs:
        loss = facts.summary["loss"]
        before, truth = score_of(facts.summary, "before"), truth_of(facts.summary, "r_before")
        for name, tax, interval in (
            ("compute-matched control", 0.0, None),
            (
                "freeze-only",
                loss.get("freeze_cost", loss["freeze_only"] - loss["control"]),
                loss.get("freeze_cost_ci95"),
            ),
        ):
            ci95 = None if interval is None else (interval[0], interval[1])
            found.setdefault(
                (name, tax, before),
                Point(name, "", tax, ci95, before, None, truth, None, (), "", name),
            )
    return list(found.values())


def settings_of(points: Sequence[Point]) -> list[Setting]:
    """Of the finished runs."""
    groups: dict[tuple[Any, ...], list[Point]] = {}
    for point in (point for point in points if point.complete):
        groups.setdefault((point.setting, point.control), []).append(point)
    labels = labels_of([group[0] for group in groups.values()])
    return [
        Setting(tuple(group), label) for group, label in zip(groups.values(), labels, strict=True)
    ]


def labels_of(points: Sequence[Point]) -> list[str]:
    """A label for each setting, given one point of each: its values, without those that most
    settings have (`COMMON`), under the last part of their fields' names where that is enough.
    """
    shared = Counter(pair for point in points for pair in point.setting)
    last = Counter(
        key.rpartition(".")[2] for key in {key for point in points for key, _ in point.setting}
    )
    labels = []
    for point in points:
        told = [
            pair
            for pair in point.setting
            if len(points) == 1 or shared[pair] < COMMON * len(points)
        ]
        short = [
            (key.rpartition(".")[2] if last[key.rpartition(".")[2]] == 1 else key, value)
            for key, value in told
        ]
        labels.append(", ".join(f"{key} {value}" for key, value in short))
    return labels


def grouped_references(beside: Sequence[Point]) -> list[Setting]:
    """The models without alignment, those of one kind together; without those of runs that have no
    node to score."""
    groups: dict[str, list[Point]] = {}
    for point in beside:
        if point.score is not None:
            groups.setdefault(point.name, []).append(point)
    return [Setting(tuple(group), name) for name, group in groups.items()]


def front(settings: Sequence[Setting], metric: Metric) -> list[tuple[float, float]]:
    """(tax, value) of the settings that no other beats in both, controls left out, by tax."""
    spreads = [(s.spread("tax"), s.spread(metric)) for s in settings if not s.control]
    means = {(tax[1], value[1]) for tax, value in spreads if tax is not None and value is not None}
    kept: list[tuple[float, float]] = []
    for tax, value in sorted(means, key=lambda point: (point[0], -point[1])):
        if not kept or value > kept[-1][1]:
            kept.append((tax, value))
    return kept


def varied_fields(runs: Sequence[RunFacts]) -> list[str]:
    """Fields of the config in which the runs differ."""
    keys = dict.fromkeys(key for facts in runs for key in facts.identity)
    return [
        key
        for key in keys
        if len({json.dumps(facts.identity.get(key), sort_keys=True) for facts in runs}) > 1
    ]


def control_of(facts: RunFacts) -> str:
    """Why a run is a control; empty for a run that aligns nodes with their own labels."""
    align = facts.summary.get("align") or {}
    target = align.get("control") or facts.identity.get("align.target", "label")
    if target in ("shuffled", "random"):
        return f"{target} targets"
    none = not any(
        layer["n_aligned"] + layer.get("n_failed_labels", 0) for layer in facts.summary["layers"]
    )
    if none or target == "no_alignment" or facts.identity.get("align.weight") == 0:
        return "free nodes only" if none else "no alignment loss"
    return "" if target == "label" else str(target).replace("_", " ")


def text(value: Any) -> str:
    """A setting as people type it."""
    return value if isinstance(value, str) else json.dumps(value)


def pareto_svg(points: Sequence[Point], beside: Sequence[Point], metric: Metric) -> Markup | None:
    """None where no run has the metric. Every point is a link that can be reached with the
    keyboard."""
    # A control that aligns no node has no score: it stands on the axis.
    shown = [point for point in points if point.value(metric) is not None or point.control]
    near = [point for point in beside if point.value(metric) is not None]
    if not any(point.value(metric) is not None for point in shown):
        return None
    width, height = 760.0, 440.0
    taxes = [tax for point in [*shown, *near] for tax in (point.tax, *(point.tax_ci95 or ()))]
    values = [
        value
        for point in [*shown, *near]
        for value in (point.value(metric), *_interval(point, metric))
        if value is not None
    ]
    x, y = (
        Axis(*padded([0.0, *taxes], 0.06), 72.0, width - 16),
        Axis(*padded(values, 0.08, 0.02), height - 52, 14.0),
    )
    settings = settings_of(shown)
    parts = [frame(x, y, TAX, METRICS[metric], height)]
    parts.append(f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="{y.start}" y2="{y.stop}"/>')
    line = front(settings, metric)
    if len(line) > 1:
        parts.append(
            f'<polyline class="front" points="{" ".join(f"{x(a)},{y(b)}" for a, b in line)}"/>'
        )
    parts += [_setting(setting, metric, x, y) for setting in settings if len(setting.points) > 1]
    parts += [_point(point, metric, x, y) for point in [*near, *shown]]
    parts += _names(settings, near, shown, metric, x, y)
    name = f"{TAX} against {METRICS[metric]}; {len(shown)} runs"
    return Markup(
        f'<svg class="chart pareto" viewBox="0 0 {width:g} {height:g}" role="group" aria-label="{escape(name)}" '
        f'data-metric="{metric}">{"".join(parts)}</svg>'
    )


def _interval(point: Point, metric: Metric) -> tuple[float, ...]:
    return point.score_ci95 if metric == "score" and point.score_ci95 is not None else ()


def _point(point: Point, metric: Metric, x: Axis, y: Axis) -> str:
    value = point.value(metric)
    at_x, at_y = x(point.tax), y.start if value is None else y(value)
    bars = ""
    if point.tax_ci95 is not None:
        bars += f'<line class="ci" x1="{x(point.tax_ci95[0])}" x2="{x(point.tax_ci95[1])}" y1="{at_y}" y2="{at_y}"/>'
    for low, high in [_interval(point, metric)] if _interval(point, metric) else []:
        bars += f'<line class="ci" x1="{at_x}" x2="{at_x}" y1="{y(low)}" y2="{y(high)}"/>'
    said = describe(point, metric)
    kind = ("control" if point.control else "run") + ("" if point.complete else " unfinished")
    shape = (
        f'<path class="mark {kind}" d="M{at_x} {at_y - 7}l7 7l-7 7l-7 -7z"/>'
        if point.control
        else f'<circle class="mark {kind}" cx="{at_x}" cy="{at_y}" r="6"/>'
    )
    target = f' href="{escape(point.href)}"' if point.href else ' tabindex="0" role="img"'
    tag = "a" if point.href else "g"
    return f'<{tag} class="point"{target} aria-label="{escape(said)}" data-tip="{escape(said)}">{bars}{shape}</{tag}>'


def describe(point: Point, metric: Metric) -> str:
    """All that is known of a point, one line each, for the eye and for screen readers."""
    value = point.value(metric)
    tax = f"tax {point.tax:+.4f} nats/token"
    tax += (
        f" [{point.tax_ci95[0]:+.4f}, {point.tax_ci95[1]:+.4f}]"
        if point.tax_ci95 is not None
        else ""
    )
    said = f"{SHORT[metric]} {'undefined' if value is None else f'{value:.3f}'}"
    own = _interval(point, metric)
    said += f" [{own[0]:.3f}, {own[1]:.3f}]" if own else ""
    lines = [point.name, tax, said, *(f"{key} = {val}" for key, val in point.setting)]
    lines += [f"seed = {point.seed}"] if point.seed else []
    lines += (
        [f"final − original {point.over_original:+.4f} nats/token"]
        if point.over_original is not None
        else []
    )
    lines += (
        [f"{point.through_free:.2f} of the loss flows through free nodes"]
        if point.through_free is not None
        else []
    )
    if not point.complete:
        lines.insert(1, "unfinished: over the layers done so far; in no mean and not on the front")
    if value is None:
        lines.append(
            f"{'not measured' if metric == 'labelled' else 'no aligned node to score'}; shown on the axis"
        )
    if point.control and point.href:
        lines.insert(1, f"control: {point.control}")
    elif point.control:
        lines.append("no nodes aligned; shown at the score before alignment")
    return "\n".join(lines)


def _setting(setting: Setting, metric: Metric, x: Axis, y: Axis) -> str:
    """Mean over seeds as a cross whose arms reach from the lowest to the highest seed."""
    tax, value = setting.spread("tax"), setting.spread(metric)
    if tax is None or value is None:
        return ""
    return (
        f'<g class="seeds" aria-hidden="true"><line x1="{x(tax[0])}" x2="{x(tax[2])}" y1="{y(value[1])}" y2="{y(value[1])}"/>'
        f'<line x1="{x(tax[1])}" x2="{x(tax[1])}" y1="{y(value[0])}" y2="{y(value[2])}"/></g>'
    )


def _names(
    settings: Sequence[Setting],
    near: Sequence[Point],
    shown: Sequence[Point],
    metric: Metric,
    x: Axis,
    y: Axis,
) -> list[str]:
    """Names of the settings, of which one by itself needs none, and of one model of each kind that
    stands beside them."""

    def at(tax: float, value: float | None) -> tuple[float, float]:
        return x(tax), y.start if value is None else y(value)

    names = Names(x, y, [at(point.tax, point.value(metric)) for point in [*near, *shown]])
    first = {point.name: point for point in reversed(near)}
    parts = [
        names.text(at(point.tax, point.value(metric)), name, "name quiet")
        for name, point in sorted(first.items())
    ]
    # Controls first: a run's point is one of many, a control is what they are read against.
    for setting in sorted(settings, key=lambda each: not each.control) if len(settings) > 1 else []:
        tax, value = setting.spread("tax"), setting.spread(metric)
        if tax is not None and (value is not None or setting.control):
            name = setting.control or setting.label
            parts.append(names.text(at(tax[1], value[1] if value is not None else None), name))
    return parts
