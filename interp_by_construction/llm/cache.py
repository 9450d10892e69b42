"""Per-call cache of the labeler: one sqlite file, keyed by the hash of everything that an answer
depends on.

Every answer is stored as it arrives, so that a killed run asks nothing twice. Several processes may
share the file.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from interp_by_construction.engine.disk import disk_errors, refusal, sha256_json
from interp_by_construction.engine.locks import file_system
from interp_by_construction.errors import StoreError
from interp_by_construction.llm.backend import N_DIGITS

_TEXT, _LOGITS = b"t", b"l"
_PATIENCE, _PAUSE = 60.0, 0.02
"""Seconds to wait for other processes, and between two attempts."""

_SPACE = 2**16
"""Free bytes that are too few for sqlite's index."""


def cache_key(payload: dict[str, Any]) -> str:
    """sha256 of `payload`, which names the model, the kind of call and all of its arguments."""
    return sha256_json(payload)


def encode(value: str | np.ndarray) -> bytes:
    """Text, or float32 logits [pos, 10], compressed. Nothing is rounded: a cached answer equals a
    fresh one."""
    if isinstance(value, str):
        return _TEXT + zlib.compress(value.encode("utf-8", "surrogatepass"), 1)
    return _LOGITS + zlib.compress(np.ascontiguousarray(value, dtype="<f4").tobytes(), 1)


def decode(blob: bytes) -> str | np.ndarray:
    """The inverse of `encode`."""
    body = zlib.decompress(blob[1:])
    if blob[:1] == _TEXT:
        return body.decode("utf-8", "surrogatepass")
    return np.frombuffer(body, dtype="<f4").reshape(-1, N_DIGITS).astype(np.float32)


class CallCache:
    """Map from key to bytes in the sqlite file `path`, opened on first use (and again in a forked
    child)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._owner = -1
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        row = self._execute("SELECT value FROM calls WHERE key = ?", key).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, key: str, value: bytes) -> None:
        """Stores and commits. The first answer stays: a second process that asked the same gets the
        same back."""
        self._execute("INSERT OR IGNORE INTO calls (key, value) VALUES (?, ?)", key, value)

    def __len__(self) -> int:
        return int(self._execute("SELECT count(*) FROM calls").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def _execute(self, statement: str, *values: str | bytes) -> sqlite3.Cursor:
        """Runs `statement`, and waits while another process is in the way.

        sqlite's own timeout does not cover the switch of a new file to the write-ahead log, nor the
        moment in which the last other connection closes: both answer "database is locked" at once.
        """
        deadline = time.monotonic() + _PATIENCE
        with self._lock, self._errors():
            while True:
                try:
                    return self._open().execute(statement, values)
                except sqlite3.OperationalError as error:
                    busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                    if not busy or time.monotonic() > deadline:
                        raise
                time.sleep(_PAUSE)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._owner != os.getpid():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            if file_system(self.path.parent).local:
                connection.execute("PRAGMA journal_mode=WAL")
                # A power cut may lose the last answers, which are then asked for again; it cannot
                # damage the file.
                connection.execute("PRAGMA synchronous=NORMAL")
            else:
                # The write-ahead log needs memory that all processes share:
                # https://sqlite.org/wal.html
                connection.execute("PRAGMA journal_mode=TRUNCATE")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
            )
            self._connection, self._owner = connection, os.getpid()
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with disk_errors(self.path):
                yield
        except sqlite3.OperationalError as error:
            if _is_full(error, self.path.parent):
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise StoreError(str(refusal(full, self.path))) from error
            raise StoreError(
                f"cannot use the call cache {self.path} ({error}): free some space, or set paths.root=DIR to a writable directory"
            ) from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"the call cache {self.path} is damaged ({error}): delete it; its calls will be made again"
            ) from error


def _is_full(error: sqlite3.OperationalError, folder: Path) -> bool:
    """Whether sqlite ran out of space. Where it cannot lengthen its index of the write-ahead log it
    says `disk I/O error`, as of a disk that fails."""
    code = error.sqlite_errorcode & 0xFF
    if code == sqlite3.SQLITE_IOERR:
        return shutil.disk_usage(folder).free < _SPACE
    return code == sqlite3.SQLITE_FULL
