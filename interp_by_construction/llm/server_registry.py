"""Which servers run on this machine, so that all processes that need the same one share it.

Jobs of a sweep share a server, and runs with one `paths.root` do. A server has a directory on the
local disk:

    users        locked (shared) by every process that uses the server
    alive        locked (exclusive) by the server's watchdog while it lives
    start.lock   held while somebody starts or replaces the server, so that two never do at once
    server.json  address, key and log, readable by its owner alone
    pid          process id of the watchdog
    socket       where the server listens, unless it has a port

All locks are `flock`s, which the kernel releases when a process ends in whatever way, SIGKILL
included. The watchdog ends the server as soon as nobody holds `users`. A process that joins in that
moment waits until the old server is gone.

Machines and containers may have one temporary directory in common. Each has its own entries there
(`machine.process_space`), so that no process id is ever read by a machine on which it means another
process.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from filelock import FileLock, Timeout

from interp_by_construction.engine.disk import sha256_json
from interp_by_construction.engine.locks import check_locks
from interp_by_construction.engine.machine import process_space
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.process_group import is_stopped

END_SECONDS = 15.0
"""Time for an orderly end before the server's process group is killed."""


class ServerRecord(NamedTuple):
    """Where a server listens."""

    url: str
    api_key: str
    log: str
    socket: str | None = None
    """The Unix socket that is asked in place of the host of `url`."""
    launch: str = ""
    """Differs from that of every other server, such as the one that is started when this one
    dies."""


class ServerEntry:
    """One server, as the processes of this machine find, start and leave it.

    `home` is its directory, created here.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._user_lock: IO[bytes] | None = None
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("users", "alive"):
            (home / name).touch()

    @property
    def alive(self) -> bool:
        """Whether the server's watchdog lives."""
        with (self.home / "alive").open("r+b") as file:
            return not _lock(file, fcntl.LOCK_SH)

    @property
    def pid(self) -> int | None:
        """Process id of the watchdog, which leads the server's process group; None if there is no
        server."""
        try:
            return int((self.home / "pid").read_text()) if self.alive else None
        except (FileNotFoundError, ValueError):
            # Its watchdog has only just begun.
            return None

    @property
    def stopped(self) -> bool:
        """Whether a process of the server was stopped by a signal."""
        pid = self.pid
        return pid is not None and is_stopped(pid)

    def read(self) -> ServerRecord | None:
        """The server that was started last; it may be dead."""
        try:
            return ServerRecord(**json.loads((self.home / "server.json").read_text()))
        except FileNotFoundError:
            return None

    def join(self) -> None:
        """Keeps the server up until `leave`, or until this process ends. Starts nothing."""
        if self._user_lock is None:
            lock = (self.home / "users").open("rb")
            fcntl.flock(lock, fcntl.LOCK_SH)
            self._user_lock = lock

    @contextmanager
    def starting(self, given_up: threading.Event) -> Iterator[None]:
        """Held by one process at a time. Raises LabelerError if it is given up while another
        process holds it."""
        lock = FileLock(self.home / "start.lock", timeout=0.2)
        while True:
            try:
                lock.acquire()
                break
            except Timeout:
                if given_up.is_set():
                    raise LabelerError("nobody waits for the server any more") from None
        try:
            yield
        finally:
            lock.release()

    def launch(
        self, record: ServerRecord, command: list[str], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        """Publishes `record`, and starts a watchdog that runs `command` and appends its output to
        the record's log.

        The watchdog inherits the descriptor that holds the lock `alive`, so the lock lasts from
        here to the end of the watchdog without a gap.
        """
        for left in (self.home / "pid", self.home / "socket"):
            left.unlink(missing_ok=True)
        partial = self.home / f".server.{os.getpid()}"
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(record._asdict()))
        partial.replace(self.home / "server.json")
        watchdog = str(Path(__file__).with_name("watchdog.py"))
        with (self.home / "alive").open("r+b") as alive, Path(record.log).open("ab") as log:
            fcntl.flock(alive, fcntl.LOCK_EX)
            return subprocess.Popen(
                [sys.executable, watchdog, str(self.home), *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(alive.fileno(),),
            )

    def leave(self) -> None:
        """The last one to leave ends the server, and returns when it is gone."""
        if self._user_lock is None:
            return
        self._user_lock.close()
        self._user_lock = None
        with (self.home / "users").open("r+b") as users:
            for _ in range(5):
                if _lock(users, fcntl.LOCK_EX):
                    self.end()
                    return
                # Perhaps it is only the watchdog, which takes the same lock for an instant.
                time.sleep(0.01)

    def end(self, seconds: float = END_SECONDS) -> None:
        """Ends the server, whoever uses it; returns when its process group is gone. seconds: time
        for an orderly end before the group is killed."""
        deadline, pid = time.monotonic() + seconds, None
        while self.alive:
            if pid is None and (pid := self.pid) is not None:
                os.kill(pid, signal.SIGTERM)
            elif pid is not None and time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
                deadline = time.monotonic() + END_SECONDS
            time.sleep(0.05)


def entry_of(*identity: Any) -> ServerEntry:
    """The entry of the server that `identity` describes, the same for equal values of one user on
    one machine.

    Raises LabelerError if the directory that would hold it belongs to another user, StoreError if
    locks do not work there.
    """
    base = Path(tempfile.gettempdir()) / f"interp-by-construction-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.stat().st_uid != os.getuid() or base.is_symlink():
        raise LabelerError(
            f"{base} belongs to somebody else: set TMPDIR to a directory of your own"
        )
    check_locks(base, "TMPDIR")
    parts = [*process_space(), *identity]
    return ServerEntry(base / sha256_json([str(part) for part in parts])[:16])


def _lock(file: IO[bytes], kind: int) -> bool:
    """Takes the lock; False if another process holds it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
