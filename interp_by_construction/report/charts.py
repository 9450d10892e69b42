"""Small SVG charts as text: lines and bars. Colours and fonts come from the report's style sheet,
so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


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

    def ticks(self, n: int = 5) -> list[float]:
        """About `n` round values inside the axis."""
        return ticks(self.low, self.high, n)


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
    """A tick or a value as people read it: four significant digits."""
    return f"{value:.4g}"


def frame(x: Axis, y: Axis, x_label: str, y_label: str, height: float) -> str:
    """Grid, tick labels and axis labels."""
    parts = []
    for tick in y.ticks():
        parts.append(
            f'<line class="grid" x1="{x.start}" x2="{x.stop}" y1="{y(tick)}" y2="{y(tick)}"/>'
        )
        parts.append(
            f'<text class="tick" x="{x.start - 8}" y="{y(tick) + 4}" text-anchor="end">{number(tick)}</text>'
        )
    for tick in x.ticks(6):
        parts.append(
            f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{y.start}" y2="{y.stop}"/>'
        )
        parts.append(
            f'<text class="tick" x="{x(tick)}" y="{y.start + 18}" text-anchor="middle">{number(tick)}</text>'
        )
    middle = (y.start + y.stop) / 2
    parts.append(
        f'<text class="axis" x="{(x.start + x.stop) / 2}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(
        f'<text class="axis" transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    return f'<g aria-hidden="true">{"".join(parts)}</g>'


Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""


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
        """The name of the mark at `at` as SVG; nothing where there is no room, since pointing at
        the mark tells it too."""
        for right, down in self.OFFSETS:
            left = at[0] + right - (self.WIDTH * len(name) if right < 0 else 0.0)
            base = at[1] + down
            box = (left, base - self.HEIGHT, left + self.WIDTH * len(name), base + 3.0)
            inside = (
                self.frame[0] <= box[0]
                and box[2] <= self.frame[2]
                and self.frame[1] <= box[1]
                and box[3] <= self.frame[3]
            )
            if inside and not any(overlap(box, other) for other in self.taken):
                self.taken.append(box)
                place = f'x="{at[0] + right:g}" y="{base:g}" text-anchor="{"end" if right < 0 else "start"}"'
                return f'<text class="{style}" aria-hidden="true" {place}>{escape(name)}</text>'
        return ""


def overlap(first: Box, second: Box) -> bool:
    """Whether two boxes share an area."""
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One named curve."""

    name: str
    points: Points


def settled_top(lines: Sequence[Line]) -> float:
    """Upper end of the values worth a chart: all of them, unless a first steep descent would press
    the rest into one flat line.

    Then it is the highest value after the first tenth of the steps; a model whose neurons are put
    anew starts at several nats.
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
            pieces[-1].append(
                (before[0] + (top - before[1]) / (y - before[1]) * (x - before[0]), top)
            )
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
    drawn = []
    for i, line in enumerate(lines):
        for piece in below(line.points, top):
            path = " ".join(f"{x(a)},{y(b)}" for a, b in piece)
            mark = (
                f'<circle class="c{i} dot" cx="{x(piece[0][0])}" cy="{y(piece[0][1])}" r="3"/>'
                if len(piece) == 1
                else ""
            )
            drawn.append(f'<polyline class="c{i} line" points="{path}"/>{mark}')
    legend = "".join(
        f'<li><span class="swatch c{i}" aria-hidden="true"></span>{escape(line.name)}'
        f' <span class="dim">({_ends(line, top)})</span></li>'
        for i, line in enumerate(lines)
    )
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(description)}">'
        f'{frame(x, y, x_label, y_label, height)}{"".join(drawn)}</svg><ul class="legend">{legend}</ul>'
    )


def _ends(line: Line, top: float) -> str:
    """First and last value, and the highest where the chart does not reach it."""
    first, last, high = (
        line.points[0][1],
        line.points[-1][1],
        max(value for _, value in line.points),
    )
    above = f", above the chart up to {number(high)}" if high > top else ""
    return f"{number(first)} to {number(last)}{above}"


def histogram(counts: Sequence[int], low: float, high: float, description: str) -> Markup:
    """Bars on a logarithmic count axis: most tokens do not activate a sparse node."""
    width, height = 420.0, 170.0
    top = math.log10(max(max(counts), 1)) + 0.1
    x, y = (
        Axis(low, high if high > low else low + 1.0, 56.0, width - 10),
        Axis(0.0, max(top, 0.5), height - 40, 8.0),
    )
    each = (x.stop - x.start) / len(counts)
    bars = "".join(
        f'<rect class="bar" x="{x.start + i * each:.1f}" y="{y(math.log10(count)) - 2:.1f}" width="{max(each - 1, 1):.1f}" '
        f'height="{y.start - y(math.log10(count)) + 2:.1f}"/>'
        for i, count in enumerate(counts)
        if count
    )
    marks = "".join(
        f'<line class="grid" x1="{x.start}" x2="{x.stop}" y1="{y(k)}" y2="{y(k)}"/>'
        f'<text class="tick" x="{x.start - 6}" y="{y(k) + 4}" text-anchor="end">{10**k:,}</text>'
        for k in range(int(top) + 1)
    )
    marks += "".join(
        f'<text class="tick" x="{x(tick)}" y="{y.start + 16}" text-anchor="middle">{number(tick)}</text>'
        for tick in x.ticks(5)
    )
    return Markup(
        f'<svg class="chart small" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(description)}">'
        f'<g aria-hidden="true">{marks}{bars}<text class="axis" x="{(x.start + x.stop) / 2}" y="{height - 6}" text-anchor="middle">'
        "activation (times pole)</text></g></svg>"
    )
