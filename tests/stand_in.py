"""Programs that stand in for vLLM, and for processes that use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

STAND_IN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from fake_server import FakeServer
place = sys.argv[1]
FakeServer(model=sys.argv[2], place=int(place) if place.isdigit() else place).serve()
"""
"""Serves at `argv[1]`, a socket or a port, the model `argv[2]`."""

USER = """
import sys, time
from pathlib import Path
from interp_by_construction.config import LabelerConfig
from interp_by_construction.llm import server
server.server_command = lambda kind, cfg, place: [sys.executable, "-c", sys.argv[2], str(place), cfg.model]
root = Path(sys.argv[1])
made = server.managed_server("generate", LabelerConfig(model=str(root)), root / "logs", root)
print(made.start(), made.pid, made.starts, flush=True)
sys.stdin.read()
"""
"""Uses the server of the directory `argv[1]` until its input ends. It says where the server
is, its watchdog, and how often this process has started it."""


def running(pid: int) -> bool:
    """Exists and is no zombie (where nobody reaps orphans, they stay as zombies)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)
