"""What a store holds that no run needs: `ibc gc`.

1. A run needs every artifact of its plan, made or not, and what those were computed from. It also
   needs what a report makes of these (`MADE_BY_REPORTS`).
2. All other artifacts are garbage, and so is what killed attempts have left of them. What another
   machine has begun under its own name (`locks.own_name`) is left to that machine.
3. Nothing is removed while a process works on a run or on the artifact. What is removed is renamed
   first, so that no half of an artifact is ever found.

The cache of answers (`calls.sqlite`) belongs to no run and stays.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from interp_by_construction.engine.disk import disk_errors
from interp_by_construction.engine.locks import check_locks
from interp_by_construction.engine.machine import host
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import MANIFEST
from interp_by_construction.errors import StoreError

NAME = re.compile(
    r"\.?(?P<fingerprint>[0-9a-f]{32})(@(?P<host>.+))?(?P<rest>\.(partial|scratch|incomplete-\d+))?"
)
"""Of an artifact's folder, and of what an attempt to make it leaves beside it."""
MADE_BY_REPORTS = ("viewer",)
"""Stages that are no part of a run's plan: reports make them of its artifacts."""
REMOVED = ".removed-"
"""Before the name of a folder that is being removed."""


@dataclass(frozen=True)
class Garbage:
    """One folder of the store that nothing needs."""

    path: Path
    fingerprint: str
    bytes: int
    why: str


def garbage(root: Path) -> list[Garbage]:
    """All of it in the store of `root`, the largest first.

    Raises ConfigError or StoreError for a run whose state cannot be read: what it needs is unknown.
    """
    store = root / "store"
    kept = _needed(store, _planned(root / "runs"))
    found = []
    for stage in store.iterdir() if store.is_dir() else ():
        for path in stage.iterdir() if stage.is_dir() and not stage.is_symlink() else ():
            name = path.name.removeprefix(REMOVED)
            match = NAME.fullmatch(name)
            if match is None or match["host"] not in (None, host()) or not path.is_dir():
                continue
            why = _why(path, match, (stage.name, match["fingerprint"]) in kept)
            if why:
                found.append(Garbage(path, match["fingerprint"], _bytes(path), why))
    return sorted(found, key=lambda each: (-each.bytes, each.path))


def remove(root: Path, found: list[Garbage]) -> list[Garbage]:
    """Removes garbage; returns what is gone. What a process works on stays.

    Raises StoreError while a run is in use, as it may be about to use any artifact, and where locks
    do not work.
    """
    check_locks(root / "store")
    for run in _runs(root / "runs"):
        if run.in_use:
            raise StoreError(f"run {run.name} is in use by another process: wait for it")
    gone = []
    for each in found:
        with _locked(each) as mine, disk_errors(each.path):
            if mine and each.path.exists():
                aside = each.path
                if not aside.name.startswith(REMOVED):
                    aside = each.path.rename(each.path.with_name(REMOVED + each.path.name))
                shutil.rmtree(aside)
                gone.append(each)
    return gone


def _why(path: Path, match: re.Match[str], needed: bool) -> str:
    """Why a folder is garbage; empty where it is not."""
    rest = (match["rest"] or "").lstrip(".")
    if path.name.startswith(REMOVED):
        return "its removal was interrupted"
    if rest.startswith("incomplete"):
        return "it was found without a manifest"
    if not rest:
        return "" if needed else "no run links to it"
    if (path.parent / match["fingerprint"] / MANIFEST).is_file():
        return "its artifact is complete"
    return "" if needed else "an attempt that no run goes on with"


def _runs(folder: Path) -> Iterator[RunDirectory]:
    for file in sorted(folder.rglob("state.json")):
        yield RunDirectory(file.parent)


def _planned(runs: Path) -> set[tuple[str, str]]:
    """(stage, fingerprint) of all that the runs consist of."""
    return {(link.stage, link.fingerprint) for run in _runs(runs) for link in run.plan}


def _needed(store: Path, planned: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The same with all that those were computed from, by their manifests."""
    stage_of = {path.name: path.parent.name for path in store.glob("*/*")}
    needed: set[tuple[str, str]] = set()
    left = list(planned)
    while left:
        link = left.pop()
        if link not in needed:
            needed.add(link)
            manifest = store.joinpath(*link, MANIFEST)
            if manifest.is_file():
                parents = _parents(manifest)
                left += [(stage_of[each], each) for each in parents if each in stage_of]
    known = {fingerprint for _, fingerprint in needed}
    for stage in MADE_BY_REPORTS:
        for manifest in store.glob(f"{stage}/*/{MANIFEST}"):
            if set(_parents(manifest)) <= known:
                needed.add((stage, manifest.parent.name))
    return needed


def _parents(manifest: Path) -> list[str]:
    try:
        return list(json.loads(manifest.read_text())["parents"].values())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{manifest} is damaged, so it is unknown what its run needs: delete {manifest.parent} "
            "and run the same command again to recompute it"
        ) from error


@contextmanager
def _locked(found: Garbage) -> Iterator[bool]:
    """Holds the lock of an artifact. False where another process holds it."""
    lock = FileLock(found.path.with_name(f".{found.fingerprint}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
