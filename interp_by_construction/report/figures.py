"""The Pareto plot for papers, as PNG and SVG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from interp_by_construction.report.pareto import (
    METRICS,
    Interval,
    Metric,
    Point,
    Setting,
    front,
    settings_of,
)
from interp_by_construction.shown import visible

Colour = tuple[float, float, float, float]
"""Red, green, blue, opacity."""

MARKERS = {"compute-matched control": "x", "freeze-only": "+"}
N_NAMED = 12
"""With more settings than this a legend names the controls alone."""
N_INSIDE = 6
"""A longer legend stands beside the axes, where it hides no points."""


def write_figures(points: Sequence[Point], beside: Sequence[Point], out: Path) -> list[str]:
    """Writes `out/pareto_<metric>.png` and `.svg` for every metric that the runs have; returns the
    names."""
    out.mkdir(parents=True, exist_ok=True)
    names = []
    # Text stays text in the SVG, and two equal reports have equal bytes. A `$` begins no formula.
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "ibc", "font.size": 9}
    with rc_context(style | {"text.parse_math": False}):
        for metric, y_label in METRICS.items():
            if not any(point.value(metric) is not None for point in points):
                continue
            figure = Figure(figsize=(5.0, 3.4), layout="constrained")
            _draw(figure, points, beside, metric, y_label)
            for suffix in ("png", "svg"):
                names.append(f"pareto_{metric}.{suffix}")
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                figure.savefig(out / names[-1], dpi=300, metadata=metadata)
    return names


def _draw(
    figure: Figure, points: Sequence[Point], beside: Sequence[Point], metric: Metric, y_label: str
) -> None:
    axes = figure.add_subplot()
    axes.axvline(0.0, color="0.7", linewidth=0.8)
    settings = settings_of(points)
    line = front(settings, metric)
    if len(line) > 1:
        axes.plot(*zip(*line, strict=True), "--", color="0.5", linewidth=0.9, label="Pareto front")
    # Controls of one kind share their name and colour.
    names = [
        _in_legend(setting.control or setting.label or setting.points[0].name)
        for setting in settings
    ]
    places = {name: i for i, name in enumerate(dict.fromkeys(names))}
    palette = colormaps["tab10" if len(places) <= 10 else "tab20"]
    crowded = sum(not setting.control for setting in settings) > N_NAMED
    for setting, name in zip(settings, names, strict=True):
        label = None if crowded and not setting.control else name
        _setting(axes, setting, metric, palette(places[name] % palette.N), label)
    marks = [(point, "o", "unfinished run") for point in points if not point.complete]
    marks += [(each, MARKERS[each.name], f"{each.name} (not aligned)") for each in beside]
    grey: dict[str, Any] = {"color": "0.4", "markerfacecolor": "white", "markersize": 5}
    for point, marker, label in marks:
        if (value := point.value(metric)) is not None:
            axes.plot(point.tax, value, marker, label=label, **grey)
    axes.set_xlabel("tax (nats per token, held out)")
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    entries: dict[str, Any] = {}
    for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
        entries.setdefault(name, handle)
    if len(entries) <= N_INSIDE:
        holder: Any = axes
        place = "best"
    else:
        holder, place = figure, "outside right upper"
        figure.set_figwidth(figure.get_figwidth() + 2.4)
    holder.legend(list(entries.values()), list(entries), fontsize=7, frameon=False, loc=place)


def _in_legend(name: str) -> str:
    """A name as a legend shows it, which leaves out names that begin with an underscore."""
    return f" {visible(name)}" if name.startswith("_") else visible(name)


def _setting(axes: Any, setting: Setting, metric: Metric, colour: Colour, name: str | None) -> None:
    """Mean and range over seeds, or the one run with its intervals; a control without a value
    stands on the axis."""
    tax, value = setting.spread("tax"), setting.spread(metric)
    if tax is None or (value is None and not setting.control):
        return
    several, only = len(setting.points) > 1, setting.points[0]
    x_error = (tax[0], tax[2]) if several else only.tax_ci95
    style: dict[str, Any] = {"color": colour, "linewidth": 1}
    mark: dict[str, Any] = {"marker": "o", "markersize": 5, "linestyle": "none"}
    if setting.control:
        mark |= {"marker": "D", "markerfacecolor": "white"}
    if value is None:
        # In units of the axes upwards, so that the scale of the scores stays as it is.
        style |= {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 3}
        axes.plot(x_error or (tax[1], tax[1]), [0.0, 0.0], **style)
        axes.plot(tax[1], 0.0, label=f"{name} (no value, on the axis)", **style, **mark)
        return
    y_error = (value[0], value[2]) if several else only.interval(metric)
    errors = {"xerr": _arms(tax[1], x_error), "yerr": _arms(value[1], y_error), "capsize": 2}
    axes.errorbar(tax[1], value[1], label=name, **style, **mark, **errors)


def _arms(centre: float, interval: Interval | None) -> list[list[float]] | None:
    """Lower and upper error, never negative."""
    if interval is None:
        return None
    return [[max(0.0, centre - interval[0])], [max(0.0, interval[1] - centre)]]
