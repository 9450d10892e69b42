"""What lasts is shown on standard error: one line each, with a bar where it takes long.

1. `line` shows one line while something is done. The line ends with the time that it took.
2. `track` and `loop` show a loop on the line that is shown already, or else on a line of its own.
3. A bar with the remaining time appears `BAR_AFTER` seconds after the line.
4. Where standard error is no terminal, a line is written once, when it has ended.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from interp_by_construction.engine.console import PlainConsole
from interp_by_construction.engine.stopping import Stopped

T = TypeVar("T")

BAR_AFTER = 5.0
"""Seconds after which a line has a bar."""
LOOP_AFTER = 1.0
"""Seconds that a loop has lasted before it has a bar."""
WIDTH = 100
"""Columns of a line at most."""
SHORTEST, LONGEST = 4, 20
"""Columns of a bar."""
PER_SECOND = 4
"""How often a line on a terminal is drawn anew."""


class Columns(NamedTuple):
    """Widths in which lines that belong together stand."""

    name: int = 12
    words: int = 48


@dataclass(eq=False)
class Loop:
    """A loop that is on its way."""

    words: str
    total: int | None
    """None where nobody knows how long it is."""
    done: int = 0
    first: int = 0
    """What was done when it began."""
    began: float = field(default_factory=lambda: time.monotonic())

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    @property
    def seconds_left(self) -> float | None:
        """If it goes on as it did; None where that is not known."""
        made = self.done - self.first
        if self.total is None or made <= 0:
            return None
        return self.seconds / made * (self.total - self.done)


class Line:
    """One line: a name, what is done in words, and a bar or the time that it took."""

    def __init__(self, name: str, words: str, columns: Columns) -> None:
        self.name, self.words, self.columns = name, words, columns
        self.loops: list[Loop] = []
        """Those that are on their way, the innermost last."""
        self.outcome: str | None = None
        """What it ends with."""
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def text(self, width: int, plain: bool = False) -> Text:
        """The line in at most `width` columns; plain: in ASCII as far as the words are."""
        shown = Text(f"{self.name:<{self.columns.name}}  ", "bold")
        room = width - len(shown)
        if self.outcome is not None:
            end = Text(f"  {self.outcome:>6}", "default")
        elif self.seconds < BAR_AFTER:
            end = Text()
        else:
            end = Text("  ", "default")
            end.append_text(self._progress(room - self.columns.words - 2, plain))
        room = max(0, room - len(end))
        words = self._words(room)
        words = words if len(words) <= room else words[: max(0, room - 3)].rstrip() + "..."
        shown.append(words.ljust(min(self.columns.words, room)), "default").append_text(end)
        shown.truncate(width)
        return shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain = not console.encoding.lower().startswith("utf")
        shown = self.text(min(WIDTH, options.max_width - 1), plain)
        shown.no_wrap, shown.overflow = True, "crop"
        yield shown

    def _words(self, room: int) -> str:
        """With those of the innermost loop, where there is room for both."""
        loops = list(self.loops)
        inner = loops[-1].words if loops and self.outcome is None else ""
        both = f"{self.words} ({inner})"
        return both if inner and len(both) <= room else self.words

    def _progress(self, room: int, plain: bool) -> Text:
        """Bar, count and remaining time of the outermost loop with a length; else the seconds so
        far."""
        outer = next((each for each in list(self.loops) if each.total), None)
        left = None if outer is None or outer.seconds < LOOP_AFTER else outer.seconds_left
        if outer is None or outer.total is None or left is None:
            return Text(f"{shown_seconds(self.seconds):>6}", "default")
        remaining = f"{timedelta(seconds=round(left))} left"
        end = f"{outer.done}/{outer.total}  {remaining}"
        if room < len(end) + 1 + SHORTEST:
            end = remaining
        length = min(LONGEST, max(SHORTEST, room - len(end) - 1))
        done = round(length * min(1.0, outer.done / outer.total))
        full, empty = ("#", "-") if plain else ("━", "─")
        bar = Text(full * done, "green").append(empty * (length - done), "bright_black")
        return bar.append(f" {end}", "default")


_lines: list[Line] = []
"""Those that are shown; a loop belongs to the last."""
_terminals: list[Console] = []
"""Consoles that stand in for standard error."""


def terminal() -> Console:
    """Standard error, or what `shown_on` put in its place."""
    return _terminals[-1] if _terminals else PlainConsole(stderr=True, highlight=False)


@contextmanager
def shown_on(console: Console) -> Iterator[None]:
    """Inside the block lines are shown on `console`, wherever `sys.stderr` leads."""
    _terminals.append(console)
    try:
        yield
    finally:
        _terminals.remove(console)


@contextmanager
def line(
    name: str, words: str = "", columns: Columns | None = None, note: str = ""
) -> Iterator[Line]:
    """Shows a line while the block runs. If the block raises, the line says after how long. note:
    stands behind the time."""
    console = terminal()
    made = Line(name, words, columns or Columns())
    live = _live(made, console) if not _lines else None
    _lines.append(made)
    try:
        yield made
    except GeneratorExit:
        made.outcome = shown_seconds(made.seconds)
        raise
    except BaseException as error:
        verb = "stopped" if isinstance(error, KeyboardInterrupt | Stopped) else "failed"
        made.outcome = f"{verb} after {shown_seconds(made.seconds)}"
        raise
    else:
        made.outcome = shown_seconds(made.seconds) + note
    finally:
        _lines.remove(made)
        if live is not None:
            live.stop()
        else:
            console.print(made.text(WIDTH), soft_wrap=True)


def show_done(name: str, words: str, columns: Columns, outcome: str) -> None:
    """The line of something that was done elsewhere."""
    made = Line(name, words, columns)
    made.outcome = outcome
    terminal().print(made.text(WIDTH), soft_wrap=True)


@contextmanager
def loop(words: str, total: int | None = None) -> Iterator[Loop]:
    """Shows how far a loop is. The caller sets `done`."""
    if not _lines:
        columns = Columns(len(words), 0)
        with line(words, columns=columns) as alone, _within(alone, Loop("", total)) as made:
            yield made
    else:
        with _within(_lines[-1], Loop(words, total)) as made:
            yield made


def track(iterable: Iterable[T], words: str, total: int | None = None) -> Iterator[T]:
    """Yields, and shows how far it is. total: where `iterable` has no length."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with loop(words, total) as made:
        for each in iterable:
            yield each
            made.done += 1


def shown_seconds(seconds: float) -> str:
    """Whole seconds, but tenths below 1."""
    return f"{seconds:.0f} s" if seconds >= 0.95 else f"{seconds:.1f} s"


@contextmanager
def _within(owner: Line, made: Loop) -> Iterator[Loop]:
    owner.loops.append(made)
    try:
        yield made
    finally:
        owner.loops.remove(made)


def _live(made: Line, console: Console) -> Live | None:
    """None where nothing can be drawn anew. Workers of a sweep share a terminal, so none of them
    draws."""
    alone = multiprocessing.current_process().name == "MainProcess"
    if not (alone and console.is_terminal and console.is_interactive):
        return None
    # What else is written to standard error stands above the line, unless it goes elsewhere.
    redirected = console.file is sys.stderr
    live = Live(
        made,
        console=console,
        refresh_per_second=PER_SECOND,
        redirect_stdout=False,
        redirect_stderr=redirected,
    )
    live.start(refresh=True)
    # A process that is killed cannot show it again.
    console.show_cursor(True)
    return live
