"""A label, and how far it has been read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from interp_by_construction.truth.expressions import Rule

DEEPEST = 8
"""Parentheses inside each other."""


class Unreadable(Exception):
    """A label, or a part of one, that is in no known form."""


class Part(NamedTuple):
    """A part of a label, as far as it has been read."""

    rule: Rule
    is_generic: bool = False
    """Whether it begins anew with `words` or a position, so that it belongs to nothing before."""
    is_narrowed: bool = False
    """Whether something stands behind its atom."""
    is_open: bool = False
    """Whether it might include what follows behind `and`."""


class Cursor:
    """A label, and how far it has been read."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self._depth = text, 0, 0

    @property
    def rest(self) -> str:
        """What is still to be read."""
        return self.text[self.at :]

    @property
    def is_done(self) -> bool:
        return not self.rest

    def take(self, pattern: str, before: str = "") -> re.Match[str] | None:
        """Reads whole words, if they are next. before: what has to stand behind them."""
        found = _compiled(pattern, before).match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def symbol(self, mark: str) -> bool:
        """Reads a mark, if it is next."""
        found = self.text.startswith(mark, self.at)
        if found:
            self.at += len(mark)
            self.at += len(self.rest) - len(self.rest.lstrip())
        return found

    @contextmanager
    def nested(self) -> Iterator[None]:
        """One parenthesis deeper. Raises Unreadable where that is too deep."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable(f"more than {DEEPEST} parentheses stand inside each other")
        yield
        self._depth -= 1


@lru_cache(maxsize=1024)
def _compiled(pattern: str, before: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern})(?=[\s,()]|$) *{before}")


Reference = Callable[[Cursor], Rule]
"""Reads what stands behind `after`, `before` and their like."""
