"""The Pareto plot for papers, as PNG and SVG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from interp_by_construction.report.pareto import METRICS, Metric, Point, Setting, front, settings_of

Colour = tuple[float, float, float, float]
"""Red, green, blue, opacity."""

MARKERS = {"compute-matched control": "x", "freeze-only": "+"}
N_NAMED = 12
"""With more settings than this a legend names the controls alone."""
N_INSIDE = 6
"""A longer legend stands beside the axes: it would hide points."""


def write_figures(points: Sequence[Point], beside: Sequence[Point], out: Path) -> list[str]:
    """`out/pareto_<metric>.png` and `.svg` for every metric that the runs have; returns the
    names."""
    out.mkdir(parents=True, exist_ok=True)
    names = []
    # Text stays text in the SVG, and two equal reports have equal bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ibc", "font.size": 9}):
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
    names = [setting.control or setting.label or setting.points[0].name for setting in settings]
    places = {name: i for i, name in enumerate(dict.fromkeys(names))}
    palette = colormaps["tab10" if len(places) <= 10 else "tab20"]
    crowded = sum(not setting.control for setting in settings) > N_NAMED
    for setting, name in zip(settings, names, strict=True):
        _setting(
            axes,
            setting,
            metric,
            palette(places[name] % palette.N),
            None if crowded and not setting.control else name,
        )
    for point in (point for point in points if not point.complete):
        if (value := point.value(metric)) is not None:
            axes.plot(
                point.tax,
                value,
                "o",
                markersize=5,
                color="0.4",
                markerfacecolor="white",
                label="unfinished run",
            )
    for point in beside:
        if (value := point.value(metric)) is not None:
            axes.plot(
                point.tax,
                value,
                MARKERS[point.name],
                color="0.4",
                label=f"{point.name} (not aligned)",
            )
    axes.set_xlabel("tax (nats per token, held out)")
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    entries: dict[str, Any] = {}
    for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
        entries.setdefault(name, handle)
    inside = len(entries) <= N_INSIDE
    if not inside:
        figure.set_figwidth(figure.get_figwidth() + 2.4)
    (axes if inside else figure).legend(
        list(entries.values()),
        list(entries),
        fontsize=7,
        frameon=False,
        loc="best" if inside else "outside right upper",
    )


def _setting(axes: Any, setting: Setting, metric: Metric, colour: Colour, name: str | None) -> None:
    """Mean and range over seeds, or the one run with its intervals; a control without a value
    stands on the axis."""
    tax, value = setting.spread("tax"), setting.spread(metric)
    if tax is None or (value is None and not setting.control):
        return
    several, only = len(setting.points) > 1, setting.points[0]
    x_error = (tax[0], tax[2]) if several else only.tax_ci95
    face = {"markerfacecolor": "white"} if setting.control else {}
    if value is None:
        # In units of the axes upwards, so that the scale of the scores stays as it is.
        low, high = x_error or (tax[1], tax[1])
        place: dict[str, Any] = {
            "transform": axes.get_xaxis_transform(),
            "clip_on": False,
            "color": colour,
            "zorder": 3,
        }
        axes.plot([low, high], [0.0, 0.0], linewidth=1, **place)
        axes.plot(
            tax[1], 0.0, "D", markersize=5, label=f"{name} (no value, on the axis)", **place, **face
        )
        return
    y_error = (value[0], value[2]) if several else (only.score_ci95 if metric == "score" else None)
    axes.errorbar(
        tax[1],
        value[1],
        marker="D" if setting.control else "o",
        markersize=5,
        color=colour,
        capsize=2,
        linewidth=1,
        xerr=_arms(tax[1], x_error),
        yerr=_arms(value[1], y_error),
        linestyle="none",
        label=name,
        **face,
    )


def _arms(centre: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    """Lower and upper error, never negative."""
    return (
        None
        if interval is None
        else [[max(0.0, centre - interval[0])], [max(0.0, interval[1] - centre)]]
    )
