"""Progress bars on standard error for everything that lasts."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yields behind a progress bar; where standard error is no terminal, with one line at the
    end."""
    bars = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), *bars)
    with Progress(*columns, console=Console(file=sys.stderr), refresh_per_second=4) as progress:
        yield from progress.track(iterable, description=description, total=total)
