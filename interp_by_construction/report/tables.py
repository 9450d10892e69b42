"""What the tables on the terminal share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interp_by_construction.engine.console import PlainConsole
from interp_by_construction.report.letters import visible


def console() -> Console:
    """Wide enough for the tables where the output is no terminal."""
    return _console(150)


def ending_console() -> Console:
    """As wide as a small terminal where the output is none."""
    return _console(100)


def _console(width: int) -> Console:
    """width: where the output is no terminal. A `:smile:` stays what it is."""
    plain = PlainConsole(highlight=False, emoji=False)
    return plain if plain.is_terminal else PlainConsole(highlight=False, emoji=False, width=width)


def titled(title: str, left: Iterable[str], right: Iterable[str] = ()) -> Table:
    """An empty table; `left` and `right` are the heads of its columns by their alignment. The title
    is text, not markup."""
    table = Table(title=escape(title), title_justify="left")
    for head in left:
        table.add_column(head)
    for head in right:
        table.add_column(head, justify="right")
    return table


def or_dash(value: float | None) -> str:
    """A number with two digits; a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"


def signed(value: float | None, interval: list[float] | None = None) -> str:
    """A difference of losses with its interval, escaped for markup; a dash where there is none."""
    if value is None:
        return "-"
    ends = "" if interval is None else " [{:+.4f}, {:+.4f}]".format(*interval)
    return escape(f"{value:+.4f}{ends}")


def score_cell(value: dict[str, Any] | None, with_interval: bool) -> str:
    """A mean of scores with its interval and the nodes that have none, escaped for markup. value:
    None for a score that the run does not have."""
    if value is None:
        return "-"
    if value["mean"] is None:
        return "undefined"
    interval = f" [{value['ci95'][0]:.2f}, {value['ci95'][1]:.2f}]" if with_interval else ""
    undefined = f" ({value['n_undefined']} undef.)" if value["n_undefined"] else ""
    return escape(f"{value['mean']:.2f}{interval}{undefined}")


def one_line(text: str) -> str:
    """Foreign text, such as a label, without line breaks and without what could move the
    cursor."""
    return visible(" ".join(text.split()))
