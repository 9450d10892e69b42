"""An artifact is absent or whole, wherever the process that makes it is killed, and no finished
phase is made twice."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.campaign import drawn, note

from interp_by_construction.engine.store import Recipe, Store, scratch_beside

RECIPE = Recipe("stage", 1, {"a": 1}, {}, {})
OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
"""Audit events that are counted, beside calls of fsync."""
KILLED = 9


def compute(log: Path) -> Callable[[Path], dict[str, Any]]:
    """A stage with a phase whose end is kept beside the artifact. log: a letter for each phase."""

    def run(out: Path) -> dict[str, Any]:
        done = scratch_beside(out) / "phase"
        if not done.exists():
            (scratch_beside(out) / "last.ckpt").write_bytes(b"half")
            log.open("a").write("p")
            done.with_suffix(".tmp").write_bytes(b"weights")
            done.with_suffix(".tmp").replace(done)
        (out / "model").mkdir()
        (out / "model" / "weights").write_bytes(done.read_bytes())
        (out / "table").write_text("1\n")
        return {"n": 2}

    return run


def killed_at(k: int, work: Callable[[], object]) -> bool:
    """Whether a forked process, killed right before its k-th operation on files, got so far."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def counted(event: str, args: tuple[Any, ...]) -> None:
            nonlocal count
            if event in OPERATIONS:
                count += 1
                if count == k:
                    os._exit(KILLED)

        fsync = os.fsync

        def counted_fsync(handle: Any) -> None:
            counted("open", ())
            fsync(handle)

        os.fsync = counted_fsync
        sys.addaudithook(counted)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, KILLED), code
    return code == KILLED


def whole(root: Path) -> dict[str, Any]:
    """The reference: hashes of the data of an artifact that was made without a kill."""
    store = Store(root / "reference")
    artifact = store.build(RECIPE, compute(root / "reference.log"))
    assert store.verify("stage", artifact.fingerprint) == []
    return dict(artifact.manifest["files"])


def test_killed_at_any_operation_it_is_absent_or_whole(tmp_path: Path) -> None:
    reference = whole(tmp_path)
    k, again = 0, True
    while again:
        k += 1
        store, log = Store(tmp_path / str(k)), tmp_path / f"{k}.log"
        again = killed_at(k, lambda store=store, log=log: store.build(RECIPE, compute(log)))  # type: ignore[misc]
        _holds(store, log, reference)
    note(k, k)
    assert k > 40, "opens, renames, removals, folders and flushes are counted"


def test_killed_twice_it_is_absent_or_whole(tmp_path: Path) -> None:
    """At any operation, and then at any one of the second attempt."""
    reference = whole(tmp_path)
    cases = [(first, second) for first in range(1, 60) for second in range(1, 60, 5)]
    for first, second in drawn(cases, 12, most=600):
        name = f"{first}-{second}"
        store, log = Store(tmp_path / name), tmp_path / f"{name}.log"
        for k in (first, second):
            killed_at(k, lambda store=store, log=log: store.build(RECIPE, compute(log)))  # type: ignore[misc]
        _holds(store, log, reference)


def _holds(store: Store, log: Path, reference: dict[str, Any]) -> None:
    """After a kill: absent or whole, one more attempt makes the reference, and nothing is left of
    the attempts but what a kill between the last two steps leaves."""
    fingerprint = RECIPE.fingerprint
    if store.get("stage", fingerprint) is not None:
        assert store.verify("stage", fingerprint) == []
    partial = store.path("stage", fingerprint).with_name(f".{fingerprint}.partial")
    finished = (scratch_beside(partial) / "phase").exists()
    before = log.read_text() if log.exists() else ""
    artifact = store.build(RECIPE, compute(log))
    assert store.verify("stage", fingerprint) == []
    assert artifact.manifest["files"] == reference
    assert not finished or log.read_text() == before, "a finished phase is not made again"
    assert not [path for path in artifact.path.parent.iterdir() if path.suffix != ".lock"][1:]


def test_a_folder_without_manifest_is_moved_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As an interrupted `rm -r` leaves it. Nothing of it is lost."""
    store = Store(tmp_path)
    final = store.path("stage", RECIPE.fingerprint)
    for content in ("first", "second"):
        final.mkdir(parents=True)
        (final / "rest").write_text(content)
        store.build(RECIPE, compute(tmp_path / "log"))
        assert store.verify("stage", RECIPE.fingerprint) == []
        (final / "manifest.json").unlink()
        for file in sorted(final.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        final.rmdir()
    kept = sorted(tmp_path.glob("stage/.*.incomplete-*/rest"))
    assert [file.read_text() for file in kept] == ["first", "second"]
    assert "has no manifest, so it was moved to" in caplog.text
