"""Managed servers whose user, watchdog or program is killed, that hang, or whose port a stranger
takes: a call is answered, no server is left behind, and a stranger gets no byte."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_server import fake_text
from faults.campaign import SCALE, SEED, drawn
from labeler_clients import complete
from stand_in import STAND_IN, USER, wait_until

from interp_by_construction.config import LabelerConfig
from interp_by_construction.llm import process_group
from interp_by_construction.llm import server as module
from interp_by_construction.llm.client import make_labeler
from interp_by_construction.llm.server import ManagedServer
from interp_by_construction.llm.server_registry import ServerEntry

SECONDS = 7.0
"""After which nothing of a server may be left."""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(
        module,
        "server_command",
        lambda kind, cfg, place: [sys.executable, "-c", STAND_IN, str(place), cfg.model],
    )
    yield
    module.stop_servers()


def gone(group: int, seconds: float = SECONDS) -> None:
    wait_until(lambda: not list(process_group.members(group)), seconds)


def _kill_group(group: int) -> None:
    os.killpg(group, signal.SIGKILL)


def _kill_watchdog(group: int) -> None:
    os.kill(group, signal.SIGKILL)


def _kill_program(group: int) -> None:
    os.kill(next(pid for pid, _ in process_group.members(group) if pid != group), signal.SIGKILL)


def _stop_group(group: int) -> None:
    os.killpg(group, signal.SIGSTOP)


def _stop_program(group: int) -> None:
    os.kill(next(pid for pid, _ in process_group.members(group) if pid != group), signal.SIGSTOP)


FAULTS: tuple[Callable[[int], None], ...] = (
    _kill_group,
    _kill_watchdog,
    _kill_program,
    _stop_group,
    _stop_program,
)


def test_whatever_happens_to_a_server_the_next_call_is_answered(tmp_path: Path) -> None:
    cases = [(fault, number) for number in range(7) for fault in FAULTS]
    for fault, number in drawn(cases, 3):
        folder = tmp_path / f"{fault.__name__}-{number}"
        folder.mkdir()
        cfg = LabelerConfig(model=str(folder), timeout=1.0)
        with make_labeler(cfg, folder / "calls.sqlite", folder / "logs") as made:
            assert complete(made, ["a"]) == [fake_text("a", 1, 0.7)]
            server = module.managed_server("generate", cfg, folder, folder)
            first = server.pid
            assert first is not None
            time.sleep(random.Random(f"{SEED} {number}").random() / 5)
            fault(first)
            assert complete(made, ["b", "c"]) == [fake_text(each, 1, 0.7) for each in "bc"]
            assert server.pid not in (None, first) and server.starts == 2
            gone(first)
            second = server.pid
            module.stop_servers()
            assert second is not None
            gone(second)


def test_a_server_ends_with_the_last_of_those_that_start_it_at_once(tmp_path: Path) -> None:
    n_starters = {"few": 5, "tenth": 20, "all": 20}[SCALE]
    for number in drawn(range(5), 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", USER, str(folder), STAND_IN]
        users = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(n_starters)
        ]
        said = [user.stdout.readline().split() for user in users if user.stdout is not None]
        assert len({tuple(each[:2]) for each in said}) == 1, "one server"
        assert sum(int(each[2]) for each in said) == 1, "started once"
        for user in random.Random(f"{SEED} {number}").sample(users, n_starters):
            user.kill()
        gone(int(said[0][1]))
        for user in users:
            user.communicate()


def test_one_that_is_slow_but_well_is_not_replaced(tmp_path: Path) -> None:
    cfg = LabelerConfig(model=str(tmp_path))
    server = module.managed_server("generate", cfg, tmp_path, tmp_path)
    server.start()
    assert not server.end_if_it_hangs(server.record.launch)
    first = server.pid
    assert first is not None
    os.killpg(first, signal.SIGSTOP)
    assert not server.end_if_it_hangs("another launch"), "somebody else has replaced that one"
    assert server.end_if_it_hangs(server.record.launch) and not server.alive


class _Stranger:
    """Listens on a port and remembers who comes, and what is sent."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen()
        self.port = self.socket.getsockname()[1]

    def heard(self) -> int:
        """How many connections were made."""
        self.socket.setblocking(False)
        try:
            self.socket.accept()
        except BlockingIOError:
            return 0
        return 1


def test_a_stranger_on_the_port_gets_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the port between our choice and the start of the server."""
    for number in drawn(range(20), 2):
        stranger, choose = _Stranger(), process_group.free_port
        ports = iter([stranger.port])
        monkeypatch.setattr(
            module, "free_port", lambda ports=ports, choose=choose: next(ports, None) or choose()
        )
        entry = ServerEntry(tmp_path / str(number))
        server = ManagedServer("generate", LabelerConfig(model="m"), tmp_path, entry, public=True)
        url = server.start()
        assert not url.endswith(f":{stranger.port}") and server.starts == 2
        assert process_group.listens(server.pid or 0, int(url.rpartition(":")[2]))
        assert not process_group.listens(server.pid or 0, stranger.port)
        pid = server.pid
        server.stop()
        assert pid is not None
        gone(pid)
        assert stranger.heard() == 0
        stranger.socket.close()


def test_a_path_that_is_too_long_for_a_socket_takes_a_port(tmp_path: Path) -> None:
    entry = ServerEntry(tmp_path / ("long" * 30))
    server = ManagedServer("generate", LabelerConfig(model="m", port=1), tmp_path, entry)
    assert server.start().startswith("http://127.0.0.1:")
    server.stop()
