"""The consoles on which all is shown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from interp_by_construction.shown import plain


class PlainConsole(Console):
    """A console on which all text is `plain`. Colours are no part of the text."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for each in super().render(renderable, options):
            yield each if each.control else Segment(plain(each.text), each.style)
