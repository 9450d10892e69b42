"""A helper computes beside a run what asks no language model. It changes no artifact, and ends with
the run."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from fake_server import FakeServer, fake_text
from own_process import FORKS, run_alone
from small_run import config, overrides, store_hashes
from stock import Stock

from interp_by_construction import pipeline
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.schedules import helper
from interp_by_construction.schedules.outlook import Outlook

SETTINGS = ("layer=1", "trainer.helper=always")
SECONDS_TO_END = 7.0

T = TypeVar("T")


@pytest.fixture
def alone(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run without a helper, over more layers."""
    return stock.plain(tmp_path_factory.mktemp("alone"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    """Writes nothing before a helper has trained the control."""

    def text_of(prompt: str, seed: int, temperature: float) -> str:
        _wait(lambda: next((tmp_path / "store" / "control").glob("*/manifest.json"), None))
        return fake_text(prompt, seed, temperature)

    with FakeServer() as running:
        running.text_of = text_of
        yield running


@pytest.mark.slow
def test_a_helped_run_ends_in_the_same_hashes(
    server: FakeServer, alone: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its stages have one line each, and the state says of all that they are there."""
    run = pipeline.run(config(server, tmp_path, *SETTINGS))
    _same_as(alone, run)
    assert len(run.links) == len(run.plan)
    lines = capsys.readouterr().err.splitlines()
    (control,) = [each for each in lines if each.startswith("layer 1 control ")]
    assert re.search(r" s, beside$", control)
    stages = [each for each in lines if re.search(r" s(, beside)?$", each)]
    assert len({each.partition("  ")[0] for each in stages}) == len(stages) >= len(run.artifacts)
    assert len(re.findall(r"layer 1 control took .* \(estimated", run.log.read_text())) == 1
    assert (run.logs / "helper.log").read_text().count("Traceback") == 0


@pytest.mark.slow
def test_it_ends_with_a_run_that_is_killed(
    server: FakeServer, alone: RunDirectory, tmp_path: Path
) -> None:
    settings = overrides(server, tmp_path, *SETTINGS)
    process = FORKS.Process(target=run_alone, args=(settings,))
    process.start()
    assert process.pid is not None
    run = process.pid
    pid = _wait(lambda: next(_helpers_of(run), None))
    _wait(lambda: server.requests or None)
    os.kill(run, signal.SIGKILL)
    process.join()
    _wait(lambda: None if _runs(pid) else True, SECONDS_TO_END)
    _same_as(alone, pipeline.run(config(server, tmp_path, *SETTINGS)))


def test_a_run_does_without_one_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Why stands in its log, which a warning names."""
    monkeypatch.setattr(helper, "START", "raise SystemExit('no such module')  # {path}")
    with FakeServer() as fake:
        cfg = config(fake, tmp_path)
    directory = RunDirectory(tmp_path / "runs" / "small")
    directory.logs.mkdir(parents=True)
    with helper.helper(cfg, directory, Outlook(1, {}, {}, helped=True)):
        _wait(lambda: "no such module" in (directory.logs / "helper.log").read_text() or None)
    assert str(directory.logs / "helper.log") in caplog.text


def _same_as(alone: RunDirectory, run: RunDirectory) -> None:
    """Every artifact of both has the same bytes in both."""
    mine, theirs = (store_hashes(each.path.parent.parent) for each in (run, alone))
    common = mine.keys() & theirs.keys()
    assert {name.partition("/")[0] for name in common} >= {"label", "align", "control", "continue"}
    assert {name: mine[name] for name in common} == {name: theirs[name] for name in common}


def _wait(found: Callable[[], T | None], seconds: float = 60.0) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (value := found()) is not None:
            return value
        time.sleep(0.02)
    raise TimeoutError(f"not within {seconds:g} s")


def _runs(pid: int) -> bool:
    """Whether a process is there, and not just waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _helpers_of(pid: int) -> Iterator[int]:
    """Process ids of a run's helpers."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            is_helper = helper.__name__.encode() in (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and is_helper:
            yield int(folder.name)
