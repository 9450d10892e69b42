"""Held-out tax against mean score over layers: one point per run, with controls and settings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from interp_by_construction.report.facts import RunFacts, score_of, share_through_free, truth_of

Interval = tuple[float, float]
"""Lower and upper end of a 95 % interval."""
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
COMMON = 0.75
"""A value that at least this share of the settings has is left out of their labels."""
SEEDS = ("seed", "data.seed")
"""Runs that differ in these alone are one setting."""


@dataclass(frozen=True)
class Point:
    """One run, or one model without alignment that it is compared with."""

    name: str
    href: str
    tax: float
    tax_ci95: Interval | None
    score: float | None
    score_ci95: Interval | None
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
    """False for a run that has not done all its layers. Its tax and score cannot be compared with
    those of other runs."""
    over_original: float | None = None
    """Test loss of the final model minus the original subject's, nats per token. Unlike the tax it
    does not depend on the control."""

    @property
    def labelled(self) -> float | None:
        """Share of the loss that does not flow through free nodes."""
        return None if self.through_free is None else 1.0 - self.through_free

    def value(self, metric: Metric) -> float | None:
        """The run's value of `metric`; None where it has none."""
        return getattr(self, metric)

    def interval(self, metric: Metric) -> Interval | None:
        """Its interval; None where it has none."""
        return self.score_ci95 if metric == "score" else None

    @property
    def described(self) -> str:
        """The run's settings in one line."""
        seed = [("seed", self.seed)] if self.seed else []
        return ", ".join(f"{key}={value}" for key, value in (*self.setting, *seed))


@dataclass(frozen=True)
class Setting:
    """Runs that differ in the seed alone: means, and the range over seeds."""

    points: tuple[Point, ...]
    label: str
    """What distinguishes it from the others; see `labels_of`."""

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
        if len(known) < len(values):
            return None
        return min(known), sum(known) / len(known), max(known)


def points_of(runs: Sequence[tuple[RunFacts, str]]) -> list[Point]:
    """One point per run; runs: facts and the address of the run's page."""
    varied = varied_fields([facts for facts, _ in runs])
    points = []
    for facts, href in runs:
        summary, loss, identity = facts.summary, facts.summary["loss"], facts.identity
        finals = [layer["score"]["final"] for layer in summary["layers"]]
        points.append(
            Point(
                name=facts.name,
                href=href,
                tax=loss["tax"],
                tax_ci95=_interval(loss["tax_ci95"]),
                score=score_of(summary),
                score_ci95=_interval(finals[0]["ci95"]) if len(finals) == 1 else None,
                truth=truth_of(summary),
                through_free=share_through_free(summary),
                setting=tuple((key, text(identity.get(key))) for key in varied if key not in SEEDS),
                seed=text(identity["seed"]) if "seed" in varied else "",
                control=control_of(facts),
                complete=summary["complete"],
                over_original=loss["final"] - loss["original"],
            )
        )
    return points


def _interval(value: Any) -> Interval | None:
    return None if value is None else (value[0], value[1])


def references(runs: Sequence[RunFacts]) -> list[Point]:
    """The models without alignment that runs are compared with: the compute-matched control and
    freeze-only. They have the score that the labels had before alignment.

    Equal ones appear once. Those of unfinished runs appear only where no run is finished.
    """
    found: dict[tuple[str, float, float | None], Point] = {}
    for facts in [facts for facts in runs if facts.summary["complete"]] or runs:
        loss = facts.summary["loss"]
        before, truth = score_of(facts.summary, "before"), truth_of(facts.summary, "r_before")
        frozen = loss.get("freeze_cost", loss["freeze_only"] - loss["control"])
        for name, tax, ci95 in (
            ("compute-matched control", 0.0, None),
            ("freeze-only", frozen, _interval(loss.get("freeze_cost_ci95"))),
        ):
            point = Point(name, "", tax, ci95, before, None, truth, None, (), "", name)
            found.setdefault((name, tax, before), point)
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
    """A label for each setting, given one point of each: its values without those that most
    settings have (`COMMON`). Fields are called by the last part of their name if that is enough."""
    shared = Counter(pair for point in points for pair in point.setting)
    keys = {key for point in points for key, _ in point.setting}
    last = Counter(key.rpartition(".")[2] for key in keys)

    def short(key: str) -> str:
        end = key.rpartition(".")[2]
        return end if last[end] == 1 else key

    return [
        ", ".join(
            f"{short(key)} {value}"
            for key, value in point.setting
            if len(points) == 1 or shared[key, value] < COMMON * len(points)
        )
        for point in points
    ]


def grouped_references(beside: Sequence[Point]) -> list[Setting]:
    """The models without alignment by kind, without those of runs that have no node to score."""
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
    if none:
        return "free nodes only"
    if target == "no_alignment" or facts.identity.get("align.weight") == 0:
        return "no alignment loss"
    return "" if target == "label" else str(target).replace("_", " ")


def text(value: Any) -> str:
    """A setting as people type it."""
    return value if isinstance(value, str) else json.dumps(value)
