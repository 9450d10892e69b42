"""The plot of tax against score as SVG: points that are links, their intervals and names."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from interp_by_construction.report.charts import Axis, Names, frame, padded
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
