"""What libraries say during a run goes to the run's log, not to the terminal.

Lightning, transformers and others write through `logging`, through `warnings`, and to standard
error. All of this is appended to one file. Errors, and warnings of this package, are shown on the
terminal as well.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich.text import Text

from interp_by_construction.engine.disk import disk_errors
from interp_by_construction.engine.progress import shown_on, terminal
from interp_by_construction.shown import plain

PACKAGE = "interp_by_construction"


@contextmanager
def run_log(file: Path) -> Iterator[None]:
    """Inside the block what libraries say is appended to `file`. Raises StoreError where it cannot
    be written."""
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = _Log(file.open("a", encoding="utf-8", errors="replace", buffering=1))
    console = terminal()
    if console.file is sys.stderr:
        # The same stream, also while `sys.stderr` leads elsewhere.
        console.file = sys.stderr
    with opened, shown_on(console), _logging_to(opened), _warnings_to_logging():
        diverted = _Diverted(opened, console.file)
        with contextlib.redirect_stderr(diverted):
            try:
                yield
            finally:
                diverted.file = None


class _Log(io.TextIOBase):
    """A file that nothing depends on. What a full disk does not take is lost, and the run goes
    on."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self.file.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.file.flush()

    def close(self) -> None:
        super().close()
        with contextlib.suppress(OSError):
            self.file.close()

    def fileno(self) -> int:
        return self.file.fileno()

    def writable(self) -> bool:
        return True


class _Diverted(io.TextIOBase):
    """Standard error that leads to a file while that is open. A handler that a library made
    meanwhile keeps this stream, and it leads to the terminal afterwards."""

    def __init__(self, file: IO[str] | _Log, stream: IO[str]) -> None:
        self.file: IO[str] | _Log | None = file
        self.stream = stream

    def write(self, text: str) -> int:
        # A library's bar of progress steers the terminal, and has no place in a log.
        (self.file or self.stream).write(plain(text) if self.file else text)
        return len(text)

    def flush(self) -> None:
        (self.file or self.stream).flush()

    def fileno(self) -> int:
        return (self.file or self.stream).fileno()

    def writable(self) -> bool:
        return True


class _Stamped(logging.Formatter):
    """Names the library that says something."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        return text if _is_own(record) else f"{text} ({record.name})"

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


class _ToTerminal(logging.Handler):
    """Shows errors, and warnings of this package, above the line that is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        least = logging.WARNING if _is_own(record) else logging.ERROR
        if record.levelno >= least:
            level = record.levelname.lower()
            terminal().print(Text(f"{level}: {self.format(record)}"), soft_wrap=True)


def _is_own(record: logging.LogRecord) -> bool:
    return record.name.split(".")[0] == PACKAGE


@contextmanager
def _logging_to(file: IO[str] | _Log) -> Iterator[None]:
    """Takes the place of all handlers that write to a stream. Some libraries give one to their own
    logger."""
    to_file = logging.StreamHandler(file)
    to_file.setFormatter(_Stamped("%(asctime)s %(message)s"))
    root, own = logging.getLogger(), logging.getLogger(PACKAGE)
    every = [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    loggers = [each for each in every if any(map(_to_stream, each.handlers))]
    before = {each: (list(each.handlers), each.propagate) for each in [root, *loggers]}
    level = own.level
    for each in before:
        each.handlers = [handler for handler in each.handlers if not _to_stream(handler)]
        each.propagate = True
    root.handlers += [to_file, _ToTerminal()]
    # The package says when a stage begins and ends. Libraries keep the levels that they have.
    own.setLevel(logging.INFO)
    try:
        yield
    finally:
        own.setLevel(level)
        for each, (handlers, propagate) in before.items():
            each.handlers, each.propagate = handlers, propagate


def _to_stream(handler: logging.Handler) -> bool:
    """Subclasses write to files, or are those of a test."""
    return type(handler) is logging.StreamHandler


@contextmanager
def _warnings_to_logging() -> Iterator[None]:
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
