"""Excerpts of the viewer as lines on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from interp_by_construction.report.painted import painted


def excerpt_lines(
    record: Mapping[str, Any], largest: float, width: int, color: bool
) -> dict[str, Text]:
    """`real`, and `simulated` where the node has a label: the same piece of the excerpt around its
    peak, so long that both fit into `width` cells. largest: see `painted`."""
    shown = {name: record[name] for name in ("real", "simulated") if record[name] is not None}

    def lines(start: int, stop: int) -> dict[str, Text]:
        part = record["tokens"][start:stop]
        return {
            name: painted(part, values[start:stop], largest, color)
            for name, values in shown.items()
        }

    start, stop = record["peak"], record["peak"] + 1
    grown = True
    while grown:
        grown = False
        for left, right in ((1, 0), (0, 1)):
            first, last = start - left, stop + right
            inside = first >= 0 and last <= len(record["tokens"])
            if inside and max(each.cell_len for each in lines(first, last).values()) <= width:
                start, stop, grown = first, last, True
    found = lines(start, stop)
    for line in found.values():
        line.truncate(width)
    return found
