"""The plot of tax against score as SVG: points that are links, their intervals and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from interp_by_construction.report.charts import Axis, Names, frame, padded, polyline, segment, svg
from interp_by_construction.report.pareto import (
    METRICS,
    SHORT,
    Metric,
    Point,
    Setting,
    front,
    settings_of,
)

TAX = "tax on held-out text (nats per token, against the compute-matched control)"


def pareto_svg(points: Sequence[Point], beside: Sequence[Point], metric: Metric) -> Markup | None:
    """None where no run has the metric. Every point is a link that can be reached with the
    keyboard."""
    # A control that aligns no node has no score: it stands on the axis.
    shown = [point for point in points if point.value(metric) is not None or point.control]
    near = [point for point in beside if point.value(metric) is not None]
    if not any(point.value(metric) is not None for point in shown):
        return None
    width, height = 760.0, 440.0
    taxes = [tax for point in [*near, *shown] for tax in (point.tax, *(point.tax_ci95 or ()))]
    values = [
        value
        for point in [*near, *shown]
        for value in (point.value(metric), *(point.interval(metric) or ()))
        if value is not None
    ]
    x = Axis(*padded([0.0, *taxes], 0.06), 72.0, width - 16)
    y = Axis(*padded(values, 0.08, 0.02), height - 52, 14.0)
    plot, settings = _Plot(metric, x, y), settings_of(shown)
    parts = [frame(x, y, TAX, METRICS[metric], height)]
    parts.append(segment("zero", x(0), y.start, x(0), y.stop))
    line = front(settings, metric)
    if len(line) > 1:
        parts.append(polyline("front", line, x, y))
    parts += [plot.seeds(setting) for setting in settings if len(setting.points) > 1]
    parts += [plot.mark(point) for point in [*near, *shown]]
    parts.append(plot.names(settings, near, shown))
    name = f"{TAX} against {METRICS[metric]}; {len(shown)} runs"
    return svg("".join(parts), width, height, name, "chart pareto", "group")


@dataclass(frozen=True)
class _Plot:
    metric: Metric
    x: Axis
    """Of the tax."""
    y: Axis
    """Of the metric."""

    def at(self, tax: float, value: float | None) -> tuple[float, float]:
        """Pixels of a point, which stands on the axis where it has no value."""
        return self.x(tax), self.y.start if value is None else self.y(value)

    def mark(self, point: Point) -> str:
        """A point as a link, with its intervals."""
        x, y = self.at(point.tax, point.value(self.metric))
        tax, own = point.tax_ci95, point.interval(self.metric)
        bars = "" if tax is None else segment("ci", self.x(tax[0]), y, self.x(tax[1]), y)
        bars += "" if own is None else segment("ci", x, self.y(own[0]), x, self.y(own[1]))
        kind = ("control" if point.control else "run") + ("" if point.complete else " unfinished")
        shape = (
            f'<path class="mark {kind}" d="M{x} {y - 7}l7 7l-7 7l-7 -7z"/>'
            if point.control
            else f'<circle class="mark {kind}" cx="{x}" cy="{y}" r="6"/>'
        )
        target = f' href="{escape(point.href)}"' if point.href else ' tabindex="0" role="img"'
        tag, said = "a" if point.href else "g", escape(describe(point, self.metric))
        return f'<{tag} class="point"{target} aria-label="{said}" data-tip="{said}">{bars}{shape}</{tag}>'

    def seeds(self, setting: Setting) -> str:
        """Mean over seeds as a cross whose arms reach from the lowest to the highest seed."""
        tax, value = setting.spread("tax"), setting.spread(self.metric)
        if tax is None or value is None:
            return ""
        low, x, high = map(self.x, tax)
        bottom, y, top = map(self.y, value)
        arms = segment("seed", low, y, high, y) + segment("seed", x, bottom, x, top)
        return f'<g aria-hidden="true">{arms}</g>'

    def names(
        self, settings: Sequence[Setting], near: Sequence[Point], shown: Sequence[Point]
    ) -> str:
        """Names of the settings, if there are several, and of one model of each kind that stands
        beside them."""
        centres = [self.at(each.tax, each.value(self.metric)) for each in [*near, *shown]]
        names = Names(self.x, self.y, centres)
        first = {point.name: point for point in reversed(near)}
        parts = [
            names.text(self.at(point.tax, point.value(self.metric)), name, "name quiet")
            for name, point in sorted(first.items())
        ]
        if len(settings) > 1:
            # Controls first: a run's point is one of many, a control is what they are read against.
            for setting in sorted(settings, key=lambda each: not each.control):
                tax, value = setting.spread("tax"), setting.spread(self.metric)
                if tax is not None and (value is not None or setting.control):
                    centre = self.at(tax[1], None if value is None else value[1])
                    parts.append(names.text(centre, setting.control or setting.label))
        return f'<g aria-hidden="true">{"".join(parts)}</g>'


def describe(point: Point, metric: Metric) -> str:
    """All that is known of a point, one line each, for the eye and for screen readers."""
    value, own = point.value(metric), point.interval(metric)
    lines = [point.name]
    if point.control and point.href:
        lines.append(f"control: {point.control}")
    if not point.complete:
        lines.append("unfinished: over the layers done so far; in no mean and not on the front")
    tax = f"tax {point.tax:+.4f} nats/token"
    lines.append(tax + (" [{:+.4f}, {:+.4f}]".format(*point.tax_ci95) if point.tax_ci95 else ""))
    said = f"{SHORT[metric]} {'undefined' if value is None else f'{value:.3f}'}"
    lines.append(said + (" [{:.3f}, {:.3f}]".format(*own) if own else ""))
    lines += [f"{key} = {given}" for key, given in point.setting]
    if point.seed:
        lines.append(f"seed = {point.seed}")
    if point.over_original is not None:
        lines.append(f"final − original {point.over_original:+.4f} nats/token")
    if point.through_free is not None:
        lines.append(f"{point.through_free:.2f} of the loss flows through free nodes")
    if value is None:
        why = "not measured" if metric == "labelled" else "no aligned node to score"
        lines.append(f"{why}; shown on the axis")
    if point.control and not point.href:
        lines.append("no nodes aligned; shown at the score before alignment")
    return "\n".join(lines)
