"""A run that is stopped by a signal again and again, each time in another stage, says so each time,
ends within seconds with the exit code that shells expect, leaves no process behind, and in the end
has the same artifacts as one that was never stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest
from fake_server import FakeServer
from faults.campaign import SCALE, drawn
from own_process import FORKS, command_alone, run_alone
from small_run import overrides, run_hashes
from stand_in import wait_until
from stock import Stock

from interp_by_construction.llm.process_group import members

SECONDS = 8.0
PHASES = "corpus subject encode collect label simulate align control evaluate".split()
"""Stages of a run in their order. Beside them there is the report."""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
    ],
    ids=["SIGINT first", "SIGTERM first"],
)
@pytest.mark.skipif(SCALE == "few", reason="a part of make faults; test_stopping tries two phases")
def test_every_stage_can_be_stopped(
    signals: tuple[signal.Signals, ...], server: FakeServer, stock: Stock, tmp_path: Path
) -> None:
    """signals: they take turns."""
    run, said = stock.plain(tmp_path / "reference"), tmp_path / "said"
    expected = run_hashes(run)
    run = type(run)(tmp_path / "root" / "runs" / "small")
    settings = overrides(server, tmp_path / "root", "trainer.helper=never")

    def reached(phase: str, pid: int | None) -> bool:
        try:
            running = json.loads((run.path / "state.json").read_text())["running"]
        except (OSError, ValueError):
            return False
        # What a stopped process has left stands there until the next one computes. Where a stage
        # was over too soon, the next one is stopped.
        later = [*PHASES[PHASES.index(phase) :], "losses"]
        return bool(running) and running["pid"] == pid and running["stage"] in later

    for phase, sent in zip(drawn(PHASES, 2), cycle(signals), strict=False):
        said.unlink(missing_ok=True)
        process = FORKS.Process(target=run_alone, args=(settings, str(said)))
        process.start()
        _stopped(process, sent, said, partial(reached, phase, process.pid))
    process = FORKS.Process(target=run_alone, args=(settings, str(said)))
    process.start()
    process.join(300)
    assert process.exitcode == 0, said.read_text()
    assert run_hashes(run) == expected


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_a_report_can_be_stopped(sent: signal.Signals, stock: Stock, tmp_path: Path) -> None:
    stock.plain(tmp_path)
    said = tmp_path / "said"
    command = ["report", "small", f"paths.root={tmp_path}"]
    process = FORKS.Process(target=command_alone, args=(command, str(said)))
    process.start()
    _stopped(process, sent, said, (tmp_path / "store" / "viewer").exists)


def _stopped(
    process: object, sent: signal.Signals, said: Path, reached: Callable[[], bool]
) -> None:
    """Sends a signal when it is time, and looks at how the process ends."""
    assert isinstance(process, FORKS.Process) and process.pid is not None
    deadline = time.monotonic() + 120
    while not reached():
        assert process.is_alive(), f"it ended before: {said.read_text()}"
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.005)
    began = time.monotonic()
    os.kill(process.pid, sent)
    process.join(60)
    text = said.read_text()
    assert time.monotonic() - began < SECONDS, text
    assert process.exitcode == 128 + sent, text
    assert f"stopped by {sent.name}; the same command goes on where it stopped" in text
    assert "Traceback" not in text
    group = process.pid
    wait_until(lambda: not list(members(group)), SECONDS)
