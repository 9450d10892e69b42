"""The losses of a run as bars, beside the control's."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from interp_by_construction.report.charts import Axis, segment, svg, text
from interp_by_construction.report.ending import Bar

WIDTH, ROW, THICK = 320.0, 44.0, 14.0
"""Of the chart, of a bar with its name, and of a bar. So narrow that a phone shows letters in their
full size."""


def loss_bars(bars: Sequence[Bar]) -> Markup:
    """One bar for each loss, from 0, where the control is."""
    over = [bar.over for bar in bars]
    low, high = min(0.0, *over), max(0.0, *over)
    x = Axis(low, high if high > low else low + 1.0, 2.0, WIDTH - 2.0)
    drawn = []
    for i, bar in enumerate(bars):
        top = i * ROW
        left, right = sorted((x(0.0), x(bar.over)))
        value = f"{bar.loss:.3f}" if bar.over == 0 else f"{bar.loss:.3f} ({bar.over:+.4f})"
        drawn += [
            text("axis", bar.name, 2, top + 14, "start"),
            text("axis", value, WIDTH - 2, top + 14, "end"),
            f'<rect class="bar" x="{left:g}" y="{top + 20:g}" width="{right - left:g}" height="{THICK:g}"/>',
        ]
    height = len(bars) * ROW
    drawn.append(segment("zero", x(0.0), 0.0, x(0.0), height))
    said = ", ".join(f"{bar.name} {bar.loss:.3f}" for bar in bars)
    described = f"Test losses in nats per token: {said}."
    return svg(
        f'<g aria-hidden="true">{"".join(drawn)}</g>', WIDTH, height, described, "chart bars"
    )
