"""The Pareto plot for papers, as PNG and SVG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interp_by_construction.report.pareto import METRICS, Metric, Point, front, settings_of

MARKERS = {"compute-matched control": "x", "freeze-only": "+"}


def write_figures(points: Sequence[Point], beside: Sequence[Point], out: Path) -> list[str]:
    """`out/pareto_<metric>.png` and `.svg` for every metric that the runs have; returns the names."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    out.mkdir(parents=True, exist_ok=True)
    names = []
    # Text stays text in the SVG, and two equal reports have equal bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ibc", "font.size": 9}):
        for metric, y_label in METRICS.items():
            shown = [point for point in points if point.value(metric) is not None]
            if not shown:
                continue
            figure = Figure(figsize=(5.0, 3.4), layout="constrained")
            _draw(figure, shown, [point for point in beside if point.value(metric) is not None], metric, y_label)
            for suffix in ("png", "svg"):
                names.append(f"pareto_{metric}.{suffix}")
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                figure.savefig(out / names[-1], dpi=300, metadata=metadata)
    return names


def _draw(figure: object, points: Sequence[Point], beside: Sequence[Point], metric: Metric, y_label: str) -> None:
    axes = figure.add_subplot()  # type: ignore[attr-defined]
    axes.axvline(0.0, color="0.7", linewidth=0.8)
    settings = settings_of(points)
    line = front(settings, metric)
    if len(line) > 1:
        axes.plot(*zip(*line, strict=True), "--", color="0.5", linewidth=0.9, label="Pareto front")
    for i, (setting, control) in enumerate((s, bool(s.control)) for s in settings):
        tax, value = setting.spread("tax"), setting.spread(metric)
        if tax is None or value is None:
            continue
        several = len(setting.points) > 1
        only = setting.points[0]
        interval = None if several else only.tax_ci95
        x_error = (tax[0], tax[2]) if several else interval
        y_error = (value[0], value[2]) if several else (only.score_ci95 if metric == "score" else None)
        name = setting.control or setting.label or only.name
        axes.errorbar(
            tax[1], value[1], marker="D" if control else "o", markersize=5, color=f"C{i % 10}", capsize=2, linewidth=1,
            xerr=_arms(tax[1], x_error), yerr=_arms(value[1], y_error), markerfacecolor="white" if control else None,
            linestyle="none", label=name if len(settings) <= 12 else None,
        )  # fmt: skip
    named: set[str] = set()
    for point in beside:
        label = None if point.name in named else f"{point.name} (not aligned)"
        axes.plot(point.tax, point.value(metric), MARKERS[point.name], color="0.4", label=label)
        named.add(point.name)
    axes.set_xlabel("tax (nats per token, held out)")
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)


def _arms(centre: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    """Lower and upper error, never negative."""
    return None if interval is None else [[max(0.0, centre - interval[0])], [max(0.0, interval[1] - centre)]]
