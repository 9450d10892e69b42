"""What a run shows while it works: one line per stage, on a terminal and in a file; its log."""

from __future__ import annotations

import io
import logging
import re
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from stage_jobs import runtime

from interp_by_construction.engine import progress
from interp_by_construction.engine.chatter import run_log
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.progress import Line, line, loop, shown_on, terminal, track
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.engine.stage_lines import Expected, StageLines
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError, StoreError


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def file() -> Iterator[io.StringIO]:
    """Standard error that is no terminal."""
    written = io.StringIO()
    with shown_on(Console(file=written, highlight=False)):
        yield written


@pytest.fixture
def screen() -> Iterator[io.StringIO]:
    """A terminal of 120 columns."""
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=True, force_interactive=True, width=120, highlight=False
    )
    with shown_on(console):
        yield written


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def drawn(text: str) -> list[str]:
    """What stands on the terminal in the end: a line feed goes on, a return starts over."""
    lines = without_codes(text).split("\n")
    return [each.rpartition("\r")[2].rstrip() for each in lines if each.strip("\r ")]


def columns(line: str) -> list[str]:
    """Name and words of a line that ends with its seconds."""
    *found, seconds = re.split(r"\s{2,}", line)
    assert re.fullmatch(r"\d+(\.\d)? s", seconds)
    return found


@dataclass(frozen=True)
class Count(Record):
    n: int


@dataclass(frozen=True)
class Read(Stage[Count]):
    name = "read"
    version = 1
    record = Count
    says = "reads so many texts, one by one"

    n: int
    fails: bool = False
    layer: int | None = None

    def compute(self, job: Job) -> Count:
        read = list(track(range(self.n), "texts"))
        list(track(iter(read), "again"))
        if self.fails:
            raise ConfigError("n=3: give less")
        return Count(len(read))


def engine(tmp: Path, lines: StageLines | None = None) -> Engine:
    return Engine(Store(tmp / "store"), runtime(tmp), (lines or StageLines()).running)


def test_a_file_gets_one_plain_line_per_stage(tmp_path: Path, file: io.StringIO) -> None:
    lines = StageLines()
    stages = [Read(3, layer=1), Read(4)]
    expected = [Expected(stages[0], "layer 1 read_long_name", 2.0), Expected(stages[1], "read", 1)]
    lines.begin("demo: 2 stages", {each.stage.fingerprint: each for each in expected})
    run = engine(tmp_path, lines)
    for stage in (*stages, *stages, Read(5, layer=2)):
        run.get(stage)
    first, *shown = file.getvalue().splitlines()
    assert first == "demo: 2 stages" and len(shown) == 3, "nothing for what is in the store"
    assert all(char.isprintable() for line in shown for char in line)
    assert [columns(line) for line in shown] == [
        ["layer 1 read_long_name", Read.says],
        ["read", Read.says],
        ["layer 2 read", Read.says],
    ]
    assert len({line.index(Read.says) for line in shown}) == 1 == len(set(map(len, shown)))


def test_a_terminal_gets_one_line_per_stage_which_is_drawn_over(
    tmp_path: Path, screen: io.StringIO
) -> None:
    run = engine(tmp_path)
    for n in (3, 4):
        run.get(Read(n))
    assert [columns(line) for line in drawn(screen.getvalue())] == [["read", Read.says]] * 2
    assert screen.getvalue().count("\n") == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [(ConfigError("n=3: give less"), "failed after 12 s"), (KeyboardInterrupt(), "stopped after")],
)
def test_a_failure_leaves_a_line_that_says_so(
    error: BaseException, said: str, screen: io.StringIO, clock: Clock
) -> None:
    def work() -> None:
        with line("read", Read.says):
            # Whoever kills the process finds a cursor.
            assert screen.getvalue().rfind("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l")
            clock.now += 12
            raise error

    with pytest.raises(type(error)):
        work()
    (shown,) = drawn(screen.getvalue())
    assert shown.startswith("read") and said in shown and screen.getvalue().endswith("\x1b[?25h")
    assert not progress._lines, "the next line is not shown inside this one"


def test_a_stage_that_fails_says_so_in_terminal_and_log(tmp_path: Path, file: io.StringIO) -> None:
    with run_log(tmp_path / "run.log"), pytest.raises(ConfigError):
        engine(tmp_path).get(Read(3, fails=True))
    assert re.fullmatch(r"read +reads .* failed after [\d.]+ s\n", file.getvalue())
    log = (tmp_path / "run.log").read_text()
    assert "read begins" in log and "ConfigError: n=3: give less" in log and "took" not in log


def text(line: Line, width: int = 100, plain: bool = False) -> str:
    shown = line.text(width, plain).plain
    assert len(shown) <= width
    return shown


def test_a_bar_with_the_remaining_time_comes_after_five_seconds(
    file: io.StringIO, clock: Clock
) -> None:
    with line("encode", "reads the text with the encoder") as shown:
        with loop("align", 90) as made:
            clock.now, made.done = clock.now + 4, 8
            assert "left" not in text(shown) and "4 s" not in text(shown), "nothing flickers"
            clock.now, made.done = clock.now + 6, 30
            assert "━" in text(shown) and "30/90" in text(shown) and "0:00:20 left" in text(shown)
            assert "(align)" in text(shown)
            assert "━" not in text(shown, plain=True) and "##" in text(shown, plain=True)
            # The outer loop tells how long the stage takes, the inner one what is done just now.
            with loop("a part", 2):
                clock.now += 2
                assert "30/90" in text(shown) and "(a part)" in text(shown)
            for width in (60, 40, 10):
                assert text(shown, width).startswith("encode")
        assert "left" not in text(shown) and "12 s" in text(shown), "between two loops"
        with loop("waits"):
            assert "(waits)" in text(shown) and "12 s" in text(shown), "nobody knows for how long"
    assert file.getvalue().split() == ["encode", *shown.words.split(), "12", "s"]


def test_what_a_resumed_loop_had_done_before_says_nothing_of_its_pace(clock: Clock) -> None:
    made = progress.Loop("", 100, done=80, first=80)
    clock.now += 10
    assert made.seconds_left is None
    made.done = 90
    assert made.seconds_left == pytest.approx(10)


def test_a_loop_outside_of_stages_has_a_line_of_its_own(
    file: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(track(iter("abc"), "verify")) == ["a", "b", "c"]
    # One that is left early, too.
    for _ in track([1, 2], "report"):
        break
    assert [each.split()[0] for each in file.getvalue().splitlines()] == ["verify", "report"]
    assert not progress._lines and capsys.readouterr() == ("", "")


def test_chatter_goes_to_the_log_and_errors_to_both(tmp_path: Path, file: io.StringIO) -> None:
    """Of loggers with and without handlers of their own, of warnings, and of what is written to
    standard error."""
    chatty, own = logging.getLogger("chatty"), io.StringIO()
    chatty.handlers, chatty.propagate = [logging.StreamHandler(own)], False
    chatty.setLevel(logging.INFO)
    package = logging.getLogger("interp_by_construction.llm.client")
    before = [*logging.getLogger().handlers], sys.stderr, warnings.showwarning
    with run_log(tmp_path / "logs" / "run.log"):
        chatty.info("GPU available: False")
        chatty.error("out of memory")
        logging.getLogger("quiet").warning("a hint")
        package.info("begins")
        package.warning("plain text instead")
        warnings.warn("few workers", stacklevel=1)
        sys.stderr.write("direct\n")
        late = logging.StreamHandler()
    log = (tmp_path / "logs" / "run.log").read_text()
    for said in (
        "GPU available",
        "out of memory",
        "a hint",
        "begins",
        "UserWarning: few workers",
        "direct",
    ):
        assert log.count(said) == 1, said
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* GPU available: False \(chatty\)$", log, re.M
    )
    assert file.getvalue().splitlines() == ["error: out of memory", "warning: plain text instead"]
    assert own.getvalue() == ""
    assert before == ([*logging.getLogger().handlers], sys.stderr, warnings.showwarning)
    chatty.info("afterwards")
    assert own.getvalue() == "afterwards\n"
    # A handler that a library made meanwhile still works.
    late.emit(logging.makeLogRecord({"msg": "late"}))
    assert file.getvalue().endswith("late\n")
    # The next run appends.
    with run_log(tmp_path / "logs" / "run.log"):
        chatty.info("once more")
    assert (tmp_path / "logs" / "run.log").read_text().startswith(log)


def test_lines_are_shown_on_standard_error_while_that_leads_to_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_log(tmp_path / "run.log"):
        list(track([1], "verify"))
        assert terminal().file is not sys.stderr
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("verify") and (tmp_path / "run.log").read_text() == ""


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.log").mkdir()
    with (
        pytest.raises((StoreError, IsADirectoryError), match=r"run\.log"),
        run_log(tmp_path / "run.log"),
    ):
        pass


def test_lightning_trains_without_a_word_on_the_terminal(
    tmp_path: Path, file: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    from test_training import _module
    from tiny_subjects import random_model
    from training_jobs import place, write_corpus

    from interp_by_construction.corpus import load_blocks
    from interp_by_construction.training.batches import TokenBlocks, by_step
    from interp_by_construction.training.fit import fit

    write_corpus(tmp_path)
    blocks: Any = TokenBlocks(load_blocks(tmp_path, "train"))
    with run_log(tmp_path / "run.log"), line("align", "trains"):
        fit(_module(random_model("llama"), 3), by_step(blocks, 0, 2), place(tmp_path / "scratch"))
    assert file.getvalue().startswith("align") and file.getvalue().count("\n") == 1
    assert capsys.readouterr() == ("", "")
    log = (tmp_path / "run.log").read_text()
    assert "available" in log and "`Trainer.fit` stopped: `max_steps=3` reached" in log


def test_bars_cost_a_loop_next_to_nothing(file: io.StringIO) -> None:
    start = time.process_time()
    assert sum(track(range(100_000), "numbers")) == 4999950000
    assert time.process_time() - start < 1.0
