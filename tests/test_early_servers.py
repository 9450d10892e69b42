"""Servers that start before anybody needs them: nothing is raised early, nothing is left behind."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage_jobs import runtime
from stand_in import STAND_IN, running, wait_until

from interp_by_construction.config import LabelerConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm import server as module
from interp_by_construction.llm.early import early_servers
from interp_by_construction.llm.server import ManagedServer, managed_server

DIES = "import sys; sys.stderr.write('no such model'); sys.exit(3)"
HANGS = "import time; time.sleep(600)"


@pytest.fixture(autouse=True)
def pool() -> Iterator[None]:
    """No server is left for the next test."""
    yield
    module.stop_servers()


def runs(script: str, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Lets `script` stand in for vLLM; returns the commands as they are started."""
    started: list[list[str]] = []

    def command(kind: str, cfg: LabelerConfig, place: str | int) -> list[str]:
        started.append([sys.executable, "-c", script, str(place), cfg.model])
        return started[-1]

    monkeypatch.setattr(module, "server_command", command)
    return started


def served(tmp: Path) -> tuple[LabelerConfig, ManagedServer]:
    cfg, work = LabelerConfig(model=str(tmp)), runtime(tmp)
    return cfg, managed_server("generate", cfg, work.logs, work.calls.parent)


def test_whoever_needs_it_waits_for_the_start_that_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = runs(STAND_IN, monkeypatch)
    cfg, server = served(tmp_path)
    with early_servers(cfg, runtime(tmp_path)) as start:
        for _ in range(3):
            start(["generate"])
        assert server.start() == "http://vllm-generate" and server.alive
        assert len(started) == 1 == server.starts
    assert server.alive, "it stays for the next run of this process"


def test_what_nobody_used_is_stopped_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = runs(STAND_IN, monkeypatch)
    cfg, server = served(tmp_path)
    with early_servers(cfg, runtime(tmp_path)) as start:
        start(["generate"])
        wait_until(lambda: server._healthy, 60)
        pid = server.pid
    assert pid is not None and not running(pid) and not server.alive
    # It can be started again.
    assert server.start() and len(started) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_run_that_fails_leaves_none_behind_and_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    runs(HANGS, monkeypatch)
    cfg, server = served(tmp_path)
    began = time.monotonic()

    def run() -> None:
        with early_servers(cfg, runtime(tmp_path)) as start:
            start(["generate"])
            wait_until(lambda: server.pid is not None, 60)
            raise error

    with pytest.raises(error):
        run()
    assert not server.alive and time.monotonic() - began < 100 < cfg.startup_timeout


def test_one_that_is_stopped_before_it_has_begun_does_not_start_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(STAND_IN, monkeypatch)
    cfg, server = served(tmp_path)
    for _ in range(5):
        with early_servers(cfg, runtime(tmp_path)) as start:
            start(["generate"])
    assert not server.alive


def test_an_early_start_that_fails_is_no_error_until_somebody_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = runs(DIES, monkeypatch)
    cfg, server = served(tmp_path)
    with early_servers(cfg, runtime(tmp_path)) as start:
        start(["generate"])
        wait_until(lambda: server._early is not None and not server._early.is_alive(), 60)
        start(["generate"])
        assert len(started) == 1, "not again and again"
        with pytest.raises(LabelerError, match="no such model"):
            server.start()


def test_it_does_not_wait_for_another_process_that_starts_the_same_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = runs(STAND_IN, monkeypatch)
    cfg, server = served(tmp_path)
    with server._entry.starting(threading.Event()):
        began = time.monotonic()
        with early_servers(cfg, runtime(tmp_path)) as start:
            start(["generate"])
            time.sleep(0.3)
        assert time.monotonic() - began < 60 and not started


def test_other_backends_have_no_servers_to_start(tmp_path: Path) -> None:
    cfg = LabelerConfig(backend="transformers")
    with early_servers(cfg, runtime(tmp_path)) as start:
        start(["generate", "classify"])
    assert not module._pool
