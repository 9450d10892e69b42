"""Charts as SVG text: their shared parts, and charts of lines and bars.

Colours and fonts come from the report's style sheet, so they follow light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Points = list[tuple[float, float]]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels along one axis."""

    low: float
    high: float
    start: float
    """Pixel of `low`."""
    stop: float
    """Pixel of `high`."""

    def __call__(self, value: float) -> float:
        """The pixel of `value`, which may lie outside."""
        return round(
            self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start), 2
        )


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About `n` round values from `low` to `high`."""
    raw = (high - low) / max(n, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def padded(
    values: Sequence[float], share: float = 0.08, least: float = 1e-6
) -> tuple[float, float]:
    """Range of the values with a margin, which equal values have too."""
    low, high = min(values), max(values)
    margin = max((high - low) * share, least, abs(high) * 0.02 if high == low else 0.0)
    return low - margin, high + margin


def number(value: float) -> str:
    """A tick or a value with four significant digits."""
    return f"{value:.4g}"


def svg(
    content: str,
    width: float,
    height: float,
    description: str,
    kind: str = "chart",
    role: str = "img",
) -> Markup:
    """The whole chart. kind: its classes. A picture has its description as a title too; the parts
    of other roles speak for themselves."""
    title = f"<title>{escape(description)}</title>" if role == "img" else ""
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="{role}" '
        f'aria-label="{escape(description)}">{title}{content}</svg>'
    )


def segment(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return f'<line class="{style}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def polyline(style: str, points: Points, x: Axis, y: Axis) -> str:
    """The line through the points."""
    return f'<polyline class="{style}" points="{" ".join(f"{x(a)},{y(b)}" for a, b in points)}"/>'


def text(style: str, said: str, x: float, y: float, anchor: str = "middle") -> str:
    """A line of text whose start, middle or end (`anchor`) is at (x, y)."""
    return f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(said)}</text>'


def frame(
    x: Axis,
    y: Axis,
    x_label: str,
    y_label: str,
    height: float,
    y_ticks: Mapping[float, str] | None = None,
) -> str:
    """Grid, tick labels and axis labels. y_ticks: tick -> its label, where those are not plain
    numbers."""
    parts = []
    for tick, said in (y_ticks or {tick: number(tick) for tick in ticks(y.low, y.high)}).items():
        parts.append(segment("grid", x.start, y(tick), x.stop, y(tick)))
        parts.append(text("tick", said, x.start - 8, y(tick) + 4, "end"))
    for tick in ticks(x.low, x.high, 6):
        parts.append(segment("grid", x(tick), y.start, x(tick), y.stop))
        parts.append(text("tick", number(tick), x(tick), y.start + 18))
    parts.append(text("axis", x_label, (x.start + x.stop) / 2, height - 6))
    if y_label:
        middle = (y.start + y.stop) / 2
        turned = f'<g transform="translate(14 {middle:g}) rotate(-90)">'
        parts.append(f"{turned}{text('axis', y_label, 0, 0)}</g>")
    return f'<g aria-hidden="true">{"".join(parts)}</g>'


class Names:
    """Places the names of marks so that none stands on another, on a mark or outside the frame."""

    OFFSETS = ((11, -9), (11, 19), (-11, -9), (-11, 19))
    """Tried in turn; a negative first number ends the text there."""
    WIDTH, HEIGHT, MARK = 6.1, 12.0, 6.0
    """Of a letter, of a line, and half a mark."""

    def __init__(self, x: Axis, y: Axis, marks: Iterable[tuple[float, float]]) -> None:
        """marks: centres, in pixels."""
        self.frame: Box = (x.start, y.stop, x.stop, y.start)
        self.taken: list[Box] = [
            (a - self.MARK, b - self.MARK, a + self.MARK, b + self.MARK) for a, b in marks
        ]

    def text(self, at: tuple[float, float], name: str, style: str = "name") -> str:
        """The name of the mark at `at` as SVG; empty where there is no room, since pointing at the
        mark shows the name too."""
        width = self.WIDTH * len(name)
        for right, down in self.OFFSETS:
            x, y = at[0] + right, at[1] + down
            left = x - width if right < 0 else x
            box = (left, y - self.HEIGHT, left + width, y + 3.0)
            inside = (
                self.frame[0] <= box[0]
                and box[2] <= self.frame[2]
                and self.frame[1] <= box[1]
                and box[3] <= self.frame[3]
            )
            if inside and not any(overlap(box, other) for other in self.taken):
                self.taken.append(box)
                return text(style, name, x, y, "end" if right < 0 else "start")
        return ""


def overlap(first: Box, second: Box) -> bool:
    """Whether two boxes share an area."""
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


@dataclass(frozen=True)
class Line:
    """One named curve."""

    name: str
    points: Points


def settled_top(lines: Sequence[Line]) -> float:
    """Upper end of the values that a chart shows: all of them, unless a first steep descent would
    press the rest into one flat line.

    Then it is the highest value after the first tenth of the steps. A model whose neurons start
    from scratch begins at several nats.
    """
    points = [point for line in lines for point in line.points]
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    first, last = min(p[0] for p in points), max(p[0] for p in points)
    late = max(p[1] for p in points if p[0] >= first + (last - first) / 10)
    return late if low < late and high - low > 3 * (late - low) else high


def below(points: Points, top: float) -> list[Points]:
    """The pieces of a curve that lie at or below `top`, with the points where it crosses."""
    pieces: list[Points] = [[]]
    for i, (x, y) in enumerate(points):
        if i and (y > top) != (points[i - 1][1] > top):
            before = points[i - 1]
            share = (top - before[1]) / (y - before[1])
            pieces[-1].append((before[0] + share * (x - before[0]), top))
            if y > top:
                pieces.append([])
        if y <= top:
            pieces[-1].append((x, y))
    return [piece for piece in pieces if piece]


def line_chart(lines: Sequence[Line], x_label: str, y_label: str, description: str) -> Markup:
    """Up to six curves with a legend below the chart, which also says what is too high for it."""
    width, height = 560.0, 260.0
    points = [point for line in lines for point in line.points]
    x = Axis(*padded([p[0] for p in points], 0.02, 1.0), 64.0, width - 12)
    top = settled_top(lines)
    y = Axis(*padded([p[1] for p in points if p[1] <= top]), height - 46, 10.0)
    drawn = [frame(x, y, x_label, y_label, height)]
    legend = []
    for i, line in enumerate(lines):
        for piece in below(line.points, top):
            drawn.append(polyline(f"c{i} line", piece, x, y))
            if len(piece) == 1:
                at_x, at_y = x(piece[0][0]), y(piece[0][1])
                drawn.append(f'<circle class="c{i} dot" cx="{at_x}" cy="{at_y}" r="3"/>')
        legend.append(
            f'<li><span class="swatch c{i}" aria-hidden="true"></span>{escape(line.name)}'
            f' <span class="dim">({_ends(line, top)})</span></li>'
        )
    chart = svg("".join(drawn), width, height, description)
    return Markup(f'{chart}<ul class="legend">{"".join(legend)}</ul>')


def _ends(line: Line, top: float) -> str:
    """First and last value, and the highest where the chart does not reach it."""
    values = [value for _, value in line.points]
    above = f", above the chart up to {number(max(values))}" if max(values) > top else ""
    return f"{number(values[0])} to {number(values[-1])}{above}"


def histogram(counts: Sequence[int], low: float, high: float, description: str) -> Markup:
    """Bars on a logarithmic count axis: most tokens do not activate a sparse node."""
    width, height = 420.0, 170.0
    top = math.log10(max(*counts, 1)) + 0.1
    x = Axis(low, high if high > low else low + 1.0, 56.0, width - 10)
    y = Axis(0.0, max(top, 0.5), height - 40, 8.0)
    each = (x.stop - x.start) / len(counts)
    bars = "".join(
        f'<rect class="bar" x="{x.start + i * each:.1f}" y="{y(math.log10(count)) - 2:.1f}" width="{max(each - 1, 1):.1f}" '
        f'height="{y.start - y(math.log10(count)) + 2:.1f}"/>'
        for i, count in enumerate(counts)
        if count
    )
    powers = {float(k): f"{10**k:,}" for k in range(int(top) + 1)}
    drawn = frame(x, y, "activation (times pole)", "", height, powers)
    return svg(
        f'{drawn}<g aria-hidden="true">{bars}</g>', width, height, description, "chart small"
    )
