"""vLLM servers that this process starts, watches and takes down.

One server generates text, one returns digit logits for every token (`classify`). Each asks for an
API key and writes a log. Those of a run listen on a Unix socket in a private directory, where no
other program can. `ibc serve` listens on a port of the loopback interface.

Processes that need the same server share it (`server_registry.py`), such as the jobs of a sweep. A
server starts when it is first needed, and again when it dies or hangs. `watchdog.py` ends it with
the last process that uses it.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from interp_by_construction.config import LabelerConfig
from interp_by_construction.engine.progress import loop
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.api_keys import api_key
from interp_by_construction.llm.backend import ServerKind
from interp_by_construction.llm.http_call import certificates
from interp_by_construction.llm.identity import labeler_identity
from interp_by_construction.llm.process_group import free_port, is_free, listens
from interp_by_construction.llm.server_registry import ServerEntry, ServerRecord, entry_of
from interp_by_construction.llm.vllm_command import server_command, server_environment
from interp_by_construction.shown import hide

_LOG = logging.getLogger(__name__)

MAX_RESTARTS = 3
LOG_LINES = 20
HANG_SECONDS = 10.0
"""A server that does not even say that it is well for so long hangs."""
LONGEST_SOCKET = 100
"""Bytes of the path of a Unix socket; systems allow little more."""


class ManagedServer:
    """One vLLM server. `start` is idempotent, restarts a dead server, and is safe to call from
    several threads. `entry` is where other processes find the same server."""

    def __init__(
        self,
        kind: ServerKind,
        cfg: LabelerConfig,
        log_dir: Path,
        entry: ServerEntry,
        key: str | None = None,
        public: bool = False,
    ) -> None:
        """key: what it asks for, or None for one that is made here. public: whether other programs
        shall reach it, through a port of the loopback interface."""
        self.kind = kind
        self.cfg = cfg
        self.log_dir = log_dir
        self.starts = 0
        """How often this object started a process; the first start is no restart."""
        self._entry = entry
        self._key = key or secrets.token_urlsafe(24)
        self._public = public
        hide(self._key)
        self._own_log = str((log_dir / f"vllm-{kind}-{os.getpid()}.log").resolve())
        self._record = ServerRecord("", "", self._own_log)
        self._process: subprocess.Popen[bytes] | None = None
        self._healthy = False
        self._lock = threading.Lock()
        self._early: threading.Thread | None = None
        self._given_up = threading.Event()
        self.used = False
        """Whether anybody has asked for its address."""

    @property
    def url(self) -> str:
        return self._record.url

    @property
    def record(self) -> ServerRecord:
        """Where it listens, once it was started."""
        return self._record

    @property
    def api_key(self) -> str:
        """The key that it asks for: the given one, or one that is made for this server."""
        return self._record.api_key

    @property
    def key_file(self) -> Path:
        """A private file that holds the key, written now."""
        file = self._entry.home / "api_key"
        file.touch(mode=0o600)
        file.write_text(f"{self.api_key}\n")
        return file

    @property
    def log(self) -> Path:
        """Output of vLLM; a restart appends to it."""
        return Path(self._record.log)

    @property
    def pid(self) -> int | None:
        return self._entry.pid

    @property
    def alive(self) -> bool:
        return self._entry.alive

    def hold(self) -> None:
        """Keeps the server up, once somebody has started it, until `stop` or the end of this
        process."""
        self._entry.join()

    def start_early(self) -> None:
        """Starts it in the background. `start` waits for that, and tries again if it failed."""
        if self._early is None and not self._healthy:
            self._early = threading.Thread(target=self._start_unasked, daemon=True, name=self.kind)
            self._early.start()

    def start(self) -> str:
        """The base URL of the healthy server, which is started if it does not run.

        Raises LabelerError with the last lines of the log if vLLM dies or does not answer within
        `startup_timeout` seconds.
        """
        self.used = True
        if self._healthy:
            return self._started()
        with loop("waits for vLLM"):
            return self._started()

    def _start_unasked(self) -> None:
        try:
            self._started()
        except LabelerError as error:
            _LOG.info("the early start failed: %s", error)

    def _started(self) -> str:
        with self._lock:
            if self._healthy and self.alive and self._entry.read() == self._record:
                return self.url
            self._healthy = False
            with self._entry.starting(self._given_up):
                self._entry.join()
                if self.alive and (found := self._entry.read()) is not None:
                    self._record = found
                else:
                    if self.starts > MAX_RESTARTS:
                        raise self._error(f"died {self.starts} times")
                    self._launch()
                self._wait()
            return self.url

    def stop(self) -> None:
        """Ends the server and all its children unless another process uses it; returns when they
        are gone."""
        self._given_up.set()
        if self._early is not None:
            self._early.join()
        with self._lock:
            self._early, self._healthy, self.used = None, False, False
            self._given_up.clear()
            self._entry.leave()
            if self._process is not None and not self.alive:
                self._process.wait()

    def end_if_it_hangs(self, launch: str) -> bool:
        """Ends the server `launch` where it does not answer any more; `start` replaces it. False
        where it is well, or where another server has taken its place."""
        with self._lock, self._entry.starting(self._given_up):
            found = self._entry.read()
            if not self.alive or found is None or found.launch != launch:
                return False
            if not self._entry.stopped and self._is_well(HANG_SECONDS):
                return False
            _LOG.warning("vLLM (%s) hangs and is started again; its log: %s", self.kind, self.log)
            self._healthy = False
            self._entry.end(seconds=0.0)
            return True

    def _launch(self) -> None:
        place = self._place()
        command = server_command(self.kind, self.cfg, place)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        launch = secrets.token_hex(8)
        if isinstance(place, str):
            where = ServerRecord(
                f"http://vllm-{self.kind}", self._key, self._own_log, place, launch
            )
        else:
            url = f"http://127.0.0.1:{place}"
            where = ServerRecord(url, self._key, self._own_log, None, launch)
        self._record = where
        environment = {**server_environment(self.cfg), "VLLM_API_KEY": self._key}
        if self._process is not None:
            # A dead one is reaped.
            self._process.poll()
        self._process = self._entry.launch(self._record, command, environment)
        _LOG.info("vLLM (%s) starts, its log: %s", self.kind, self.log)

    def _place(self) -> str | int:
        """The path of a socket, or a port where others shall reach it or the path is too long."""
        path = str(self._entry.home.resolve() / "socket")
        if not self._public and len(os.fsencode(path)) <= LONGEST_SOCKET:
            return path
        if self.cfg.port is None or not self._public:
            return free_port()
        if not is_free(self.cfg.port):
            raise LabelerError(
                f"labeler.port={self.cfg.port} is taken: choose another port, or leave it null for a "
                "free one"
            )
        return self.cfg.port

    def _wait(self) -> None:
        """Returns when the server is healthy."""
        deadline = time.monotonic() + self.cfg.startup_timeout
        while time.monotonic() < deadline:
            if self._given_up.is_set():
                raise LabelerError("nobody waits for the server any more")
            if not self.alive:
                if not self._lost_its_port() or self.starts > MAX_RESTARTS:
                    raise self._error("died while starting")
                self._launch()
            if self._is_well(5.0):
                self._healthy = True
                return
            time.sleep(0.25)
        self._entry.end()
        raise self._error(
            f"was not healthy after labeler.startup_timeout={self.cfg.startup_timeout:g} s"
        )

    def _lost_its_port(self) -> bool:
        """Whether another program took the port between our choice and the server's start."""
        port = urlsplit(self.url).port
        return port is not None and port != self.cfg.port and not is_free(port)

    def _is_well(self, seconds: float) -> bool:
        """Whether the server says so in time. Nothing is sent to another program on its port."""
        port, pid = urlsplit(self.url).port, self.pid
        if pid is None or (port is not None and not listens(pid, port)):
            return False
        transport = httpx.HTTPTransport(verify=certificates(), uds=self._record.socket)
        try:
            with httpx.Client(transport=transport, timeout=seconds) as http:
                return http.get(f"{self.url}/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _error(self, what: str) -> LabelerError:
        text = self.log.read_text(errors="replace") if self.log.is_file() else ""
        tail = "\n".join(f"  {line}" for line in text.splitlines()[-LOG_LINES:])
        return LabelerError(
            f"the vLLM server ({self.kind}) for labeler.model={self.cfg.model} {what}. Last lines of "
            f"{self.log}:\n{tail}\n"
            "Fix the cause, or use labeler=transformers to run the labeler without vLLM."
        )


def serve(kind: ServerKind, cfg: LabelerConfig, log_dir: Path) -> Iterator[ManagedServer]:
    """`ibc serve`: yields the server once it is healthy, then whenever it was restarted; ends it
    when it is closed. It asks for the labeler's key, where one is given."""
    with tempfile.TemporaryDirectory(prefix="interp-by-construction-") as home:
        entry, key = ServerEntry(Path(home)), api_key(cfg, "labeler")
        server = ManagedServer(kind, cfg, log_dir, entry, key, public=True)
        try:
            while True:
                if not server.alive:
                    server.start()
                    yield server
                time.sleep(1.0)
        finally:
            server.stop()


_pool: dict[tuple[Any, ...], ManagedServer] = {}
_pool_lock = threading.Lock()
_pool_owner = os.getpid()


def managed_server(
    kind: ServerKind, cfg: LabelerConfig, log_dir: Path, scope: Path
) -> ManagedServer:
    """The server for `kind` and the parts of `cfg` that a server depends on; not yet started.

    Processes of this machine that give the same `scope`, the directory of their store, share it.
    This process uses it until it ends or calls `stop_servers`.
    """
    global _pool_owner
    # A GPU that one job may not see must not serve it either.
    machine = (scope.resolve(), sys.executable, os.environ.get("CUDA_VISIBLE_DEVICES"))
    served = (labeler_identity(cfg), cfg.model, cfg.threads)
    key = (kind, *machine, *served)
    with _pool_lock:
        if _pool_owner != os.getpid():
            # A forked child must neither use nor end its parent's servers.
            _pool.clear()
            _pool_owner = os.getpid()
        if key not in _pool:
            _pool[key] = ManagedServer(kind, cfg, log_dir, entry_of(*key))
        return _pool[key]


@atexit.register
def stop_servers() -> None:
    """Leaves every server that this process uses; those that nobody else uses end."""
    with _pool_lock:
        servers = list(_pool.values()) if _pool_owner == os.getpid() else []
        _pool.clear()
    for server in servers:
        server.stop()
