"""A command that gets SIGINT or SIGTERM says so, ends within seconds with the exit code that shells
expect, and leaves nothing behind but what the next one goes on from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer, fake_text
from own_process import FORKS, run_alone
from small_run import config, overrides
from stand_in import running, wait_until
from stock import Stock

SECONDS = 8.0
LONG = ("layer=1", "align.steps=1000000", "trainer.checkpoint_seconds=0.2")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        (signal.SIGTERM, "align"),
        (signal.SIGINT, "label"),
    ],
    ids=["SIGTERM-align", "SIGINT-label"],
)
def test_a_run_ends_in_time_and_says_how_to_go_on(
    server: FakeServer, stock: Stock, tmp_path: Path, sent: signal.Signals, phase: str
) -> None:
    stock.begin(config(server, tmp_path, "layer=1"))
    held = threading.Event()

    def text_of(prompt: str, seed: int, temperature: float) -> str:
        held.wait(60.0 if phase == "label" else 0.0)
        return fake_text(prompt, seed, temperature)

    server.text_of = text_of
    said = tmp_path / "said"
    settings = overrides(server, tmp_path, *LONG, "trainer.helper=always")
    process = FORKS.Process(target=run_alone, args=(settings, str(said)))
    process.start()
    assert process.pid is not None
    checkpoints = tmp_path / "store" / "align"
    if phase == "label":
        wait_until(lambda: bool(server.requests), 120.0)
    else:
        wait_until(lambda: any(checkpoints.glob(".*.scratch/*/*.ckpt")), 120.0)
    wait_until(lambda: bool(children_of(process.pid or 0)), 120.0)
    helpers = children_of(process.pid)
    began = time.monotonic()
    os.kill(process.pid, sent)
    process.join(60)
    assert time.monotonic() - began < SECONDS
    assert process.exitcode == 128 + sent
    error = said.read_text()
    assert f"stopped by {sent.name}; the same command goes on where it stopped" in error
    assert "Traceback" not in error
    held.set()
    for pid in helpers:
        wait_until(lambda pid=pid: not running(pid), SECONDS)  # type: ignore[misc]
    assert phase == "label" or any(checkpoints.glob(".*.scratch/*/*.ckpt"))


def test_what_hangs_is_cut_off_and_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    code = """
import sys, time
from interp_by_construction.engine import stopping
stopping.LAST_SECONDS = float(sys.argv[1])
with stopping.ended_by_signals():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep(60)
"""
    for last, times in ((0.5, 1), (60.0, 2)):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(last)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for _ in range(times):
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.2)
        assert process.wait(20) == 130
