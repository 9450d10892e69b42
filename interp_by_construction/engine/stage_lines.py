"""The lines of a run's stages on the terminal, and when each began and ended in the run's log."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.text import Text

from interp_by_construction.engine.progress import (
    Columns,
    line,
    show_done,
    shown_seconds,
    terminal,
)
from interp_by_construction.engine.stage import Stage
from interp_by_construction.engine.store import Artifact

_LOG = logging.getLogger(__name__)

BESIDE = ", beside"
"""Said behind the time of what another process computes meanwhile."""


class Expected(NamedTuple):
    """A stage that is going to be computed."""

    stage: Stage[Any]
    name: str
    """What the run calls it, with its layer."""
    seconds: float
    """What it is estimated to take."""


class StageLines:
    """Shows one line for each stage that is computed."""

    def __init__(self) -> None:
        self._expected: dict[str, Expected] = {}
        self._shown: set[str] = set()
        self._columns = Columns()

    def begin(self, headline: str, expected: Mapping[str, Expected]) -> None:
        """The first line, and the stages to come, by fingerprint."""
        terminal().print(Text(headline), soft_wrap=True)
        _LOG.info("%s", headline)
        self.expect(expected)

    def expect(self, expected: Mapping[str, Expected]) -> None:
        """The stages to come, by fingerprint. Their lines stand in columns."""
        self._expected = dict(expected)
        if expected:
            names = (len(each.name) for each in expected.values())
            words = (len(each.stage.says) for each in expected.values())
            self._columns = Columns(max(names), max(words))

    @contextmanager
    def running(self, stage: Stage[Any]) -> Iterator[None]:
        """Shows the stage's line while the block computes it."""
        expected, name = self._expected.get(stage.fingerprint), self._name(stage)
        self._shown.add(stage.fingerprint)
        estimate = "" if expected is None else f" (estimated {shown_seconds(expected.seconds)})"
        _LOG.info("%s begins: %s%s", name, stage.says, estimate)
        with line(name, stage.says, self._columns) as shown:
            try:
                yield
            except BaseException as error:
                what = f"{type(error).__name__}: {error}"
                _LOG.info("%s failed after %s: %s", name, shown_seconds(shown.seconds), what)
                raise
            _LOG.info("%s took %s%s", name, shown_seconds(shown.seconds), estimate)

    @contextmanager
    def waiting(self, stage: Stage[Any]) -> Iterator[None]:
        """Shows the stage's line while another process computes it."""
        self._shown.add(stage.fingerprint)
        with line(self._name(stage), stage.says, self._columns, BESIDE):
            yield

    def made(self, stage: Stage[Any], artifact: Artifact) -> None:
        """Shows a stage that had to be computed, and that another process has computed."""
        if stage.fingerprint in self._expected and stage.fingerprint not in self._shown:
            self._shown.add(stage.fingerprint)
            took = shown_seconds(artifact.seconds) + BESIDE
            show_done(self._name(stage), stage.says, self._columns, took)

    def _name(self, stage: Stage[Any]) -> str:
        expected = self._expected.get(stage.fingerprint)
        return shown_name(stage.name, stage.shown_layer) if expected is None else expected.name


def shown_name(name: str, layer: int | None) -> str:
    """A stage's name behind its layer."""
    return name if layer is None else f"layer {layer} {name}"
