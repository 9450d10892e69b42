"""Content-addressed store of stage outputs: `<store>/<stage>/<fingerprint>/{data..., metrics.json,
manifest.json}`.

An artifact exists if and only if it is complete (invariant 4), whenever the process is killed.

1. A stage writes into `<store>/<stage>/.<fingerprint>.partial`, which is empty when it begins.
   Checkpoints go to a folder beside it (`scratch_beside`), and are found again after a kill. Where
   locks do not reach other machines, the names of both end with the machine's (`locks.own_name`).
2. When the stage is done, every file and folder is flushed, and the manifest with the hash of every
   file is written and flushed. A process that is killed from here on leaves a complete partial
   folder, which the next one only has to move.
3. One rename makes the folder visible. What stood in its place without a manifest is moved aside.
4. The checkpoints go last, so that nothing is lost where one of these steps fails.

Each artifact has a file lock, so that parallel jobs compute a shared parent once. Where two
machines compute the same one nevertheless, the rename lets one of them win, and the other takes
what that one has made.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from interp_by_construction.engine.disk import (
    disk_errors,
    file_problem,
    flush,
    indented_json,
    is_regular,
    sha256_file,
    sha256_json,
    write_json,
)
from interp_by_construction.engine.locks import check_locks, is_locked, own_name
from interp_by_construction.errors import CorruptArtifact, StoreError

_LOG = logging.getLogger(__name__)

MANIFEST = "manifest.json"
METRICS = "metrics.json"
ATTEMPTS = 10
"""To put an artifact in its place while other machines do the same."""
SECONDS = "seconds.json"
"""Beside the checkpoints: what all attempts together have taken."""
COST = "cost.json"
"""Beside the checkpoints: `made_with`, and costs such as `labeler_tokens`, for the manifest."""


@dataclass(frozen=True)
class Recipe:
    """All that an artifact is computed from. Holds no paths, times or host names."""

    stage: str
    version: int
    """Schema version of the stage: raise it when its output changes for the same config."""
    config: Mapping[str, Any]
    parents: Mapping[str, str]
    """Role -> fingerprint."""
    identity: Mapping[str, str]
    """Identity of models and data that do not come from the store."""

    @property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON, first 32 hex digits."""
        return sha256_json(vars(self))[:32]


@dataclass(frozen=True)
class Artifact:
    """A complete stage output on disk."""

    stage: str
    fingerprint: str
    path: Path

    @property
    def metrics(self) -> dict[str, Any]:
        """What the stage measured."""
        return json.loads((self.path / METRICS).read_text())

    @property
    def manifest(self) -> dict[str, Any]:
        """Recipe, hashes and sizes of the files, and cost."""
        return json.loads((self.path / MANIFEST).read_text())

    @property
    def seconds(self) -> float:
        """Wall time of all processes that worked on it, killed ones included."""
        return float(self.manifest["seconds"])

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time of the same processes with all their threads, but without the servers that they
        asked. None for what an older version began."""
        seconds = self.manifest.get("cpu_seconds")
        return None if seconds is None else float(seconds)

    @property
    def device(self) -> str | None:
        """`cpu`, or the name of the GPU; None where it was not recorded."""
        return self.made_with.get("device")

    @property
    def made_with(self) -> dict[str, str]:
        """Versions and machine (`engine.made_with`); empty where an older version made it."""
        return self.manifest.get("made_with", {})

    @property
    def labeler_tokens(self) -> int:
        """Tokens that language models read and wrote for it. Answers from the cache cost none."""
        return int(self.manifest.get("labeler_tokens", 0))


class Store:
    """The artifacts below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def calls(self) -> Path:
        """The cache of answers of language models, shared by all runs on the store."""
        return self.root / f"calls{own_name(self.root)}.sqlite"

    def path(self, stage: str, fingerprint: str) -> Path:
        """Where the artifact is, or would be. Raises StoreError for what is no stage or no
        fingerprint, such as a path out of the store in a file of somebody else."""
        if not (stage.isidentifier() and fingerprint.isalnum()):
            raise StoreError(
                f"{stage}/{fingerprint} is no artifact: the file that names it is damaged"
            )
        return self.root / stage / fingerprint

    def get(self, stage: str, fingerprint: str) -> Artifact | None:
        """The artifact if it is complete. Raises CorruptArtifact for a file of another size than
        recorded; `verify` recomputes the hashes."""
        path = self.path(stage, fingerprint)
        if not (path / MANIFEST).is_file():
            return None
        artifact = Artifact(stage, fingerprint, path)
        try:
            sizes = {
                name: int(entry["bytes"]) for name, entry in artifact.manifest["files"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptArtifact(_corrupt(path / MANIFEST, path)) from error
        for name, size in sizes.items():
            file = path / name
            if not file.is_file() or file.stat().st_size != size:
                raise CorruptArtifact(_corrupt(file, path))
        return artifact

    def busy(self, recipe: Recipe) -> bool:
        """Whether a process computes the artifact of `recipe`."""
        return is_locked(self._lock_file(recipe))

    def build(
        self,
        recipe: Recipe,
        compute: Callable[[Path], dict[str, Any]],
        waiting: AbstractContextManager[None] | None = None,
    ) -> Artifact:
        """The artifact of `recipe`. Where it does not exist yet, `compute(directory) -> metrics`
        is called. It may leave checkpoints in `scratch_beside(directory)`; they are found again
        after a kill. waiting: entered while another process computes it."""
        final = self.path(recipe.stage, recipe.fingerprint)
        partial = final.with_name(f".{recipe.fingerprint}{own_name(self.root)}.partial")
        scratch = scratch_beside(partial)
        found = self.get(recipe.stage, recipe.fingerprint)
        if found is not None and not scratch.exists():
            return found
        with disk_errors(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            with _acquired(FileLock(self._lock_file(recipe)), waiting or nullcontext()):
                found = self.get(recipe.stage, recipe.fingerprint)
                if found is None:
                    if _problems(partial, recipe.fingerprint):
                        self._fill(recipe, partial, compute)
                    self._publish(partial, recipe)
                # Another machine may have made the artifact meanwhile.
                for left in (partial, scratch):
                    shutil.rmtree(left, ignore_errors=True)
        return Artifact(recipe.stage, recipe.fingerprint, final)

    def _fill(
        self, recipe: Recipe, partial: Path, compute: Callable[[Path], dict[str, Any]]
    ) -> None:
        """Computes the artifact into a partial folder, and completes that."""
        scratch = scratch_beside(partial)
        # It is there as long as anything else is left of an attempt.
        scratch.mkdir(exist_ok=True)
        # What a failed attempt left is no part of the artifact.
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        with _stopwatch(scratch / SECONDS):
            metrics = compute(partial)
        cost = json.loads((scratch / SECONDS).read_text())
        if (scratch / COST).is_file():
            cost |= json.loads((scratch / COST).read_text())
        self._complete(recipe, partial, metrics, cost)

    def _publish(self, partial: Path, recipe: Recipe) -> None:
        """Makes a complete folder the artifact, unless another machine was faster."""
        final = self.path(recipe.stage, recipe.fingerprint)
        for _ in range(ATTEMPTS):
            if self.get(recipe.stage, recipe.fingerprint) is not None:
                return
            _move_aside(final)
            try:
                partial.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                # Another machine has put something there since.
                continue
            flush(final.parent)
            return
        raise StoreError(
            f"{final} appears and disappears: is another process deleting in the store?"
        )

    def _lock_file(self, recipe: Recipe) -> Path:
        final = self.path(recipe.stage, recipe.fingerprint)
        return final.with_name(f".{recipe.fingerprint}.lock")

    def _complete(
        self, recipe: Recipe, partial: Path, metrics: dict[str, Any], cost: dict[str, Any]
    ) -> None:
        with disk_errors(partial):
            (partial / METRICS).write_text(indented_json(metrics))
            files = {}
            for path in sorted(partial.rglob("*")):
                flush(path)
                if path.is_file():
                    files[path.relative_to(partial).as_posix()] = {
                        "sha256": sha256_file(path),
                        "bytes": path.stat().st_size,
                    }
            manifest = {**vars(recipe), "fingerprint": recipe.fingerprint, "files": files, **cost}
            write_json(partial / MANIFEST, {**manifest, "checksum": sha256_json(manifest)})
            flush(partial)

    def verify(self, stage: str, fingerprint: str) -> list[str]:
        """Recomputes every hash and the fingerprint. One line per problem, each with its file."""
        return _problems(self.path(stage, fingerprint), fingerprint)


def _problems(path: Path, fingerprint: str) -> list[str]:
    """What is wrong with an artifact in a folder, one line each. No link is followed, so that an
    artifact does not depend on what is outside of it."""
    if path.is_symlink():
        return [f"{path}: a link to another folder"]
    if not path.is_dir():
        return [f"{path}: missing"]
    if not is_regular(path / MANIFEST):
        return [f"{path / MANIFEST}: missing, or not a regular file"]
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        files: dict[str, Any] = manifest["files"]
        recipe = Recipe(**{each.name: manifest[each.name] for each in fields(Recipe)})
        expected = recipe.fingerprint
        checksum = manifest.pop("checksum")
        intact = checksum == sha256_json(manifest) and (
            indented_json({**manifest, "checksum": checksum}) == (path / MANIFEST).read_text()
        )
    except (ValueError, KeyError, TypeError):
        return [f"{path / MANIFEST}: unreadable"]
    if not intact or expected != fingerprint or manifest.get("fingerprint") != fingerprint:
        return [f"{path / MANIFEST}: differs from what was written"]
    problems = []
    for name, entry in files.items():
        if problem := file_problem(path / name, entry["sha256"]):
            problems.append(f"{path / name}: {problem}")
    known = {path / name for name in (*files, MANIFEST)}
    for folder, folders, names in os.walk(path):
        there = (Path(folder, name) for name in names)
        problems += [f"{file}: not in the manifest" for file in there if file not in known]
        links = (Path(folder, name) for name in folders)
        problems += [f"{link}: a link to another folder" for link in links if link.is_symlink()]
    return problems


@contextmanager
def _acquired(lock: BaseFileLock, waiting: AbstractContextManager[None]) -> Iterator[None]:
    """Holds the lock; inside `waiting` as long as another process holds it. Raises StoreError where
    there are no locks."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with waiting:
            lock.acquire()
    except NotImplementedError:
        check_locks(Path(lock.lock_file).parent)
        raise
    try:
        yield
    finally:
        lock.release()


def scratch_beside(partial: Path) -> Path:
    """The folder for checkpoints and costs of an artifact that is made in `partial`."""
    return partial.with_name(f".{partial.name.lstrip('.').removesuffix('.partial')}.scratch")


def _move_aside(final: Path) -> None:
    """Makes room where a folder without a manifest stands, such as one that was deleted half."""
    if final.exists():
        number = next(n for n in range(10**6) if not _aside(final, n).exists())
        aside = _aside(final, number)
        try:
            final.rename(aside)
        except FileNotFoundError:
            # Another machine has moved it.
            return
        if (aside / MANIFEST).is_file():
            # Another machine has completed it since.
            aside.rename(final)
        else:
            _LOG.warning("%s has no manifest, so it was moved to %s", final, aside)


def _aside(final: Path, number: int) -> Path:
    return final.with_name(f".{final.name}.incomplete-{number}")


def _corrupt(file: Path, artifact: Path) -> str:
    return f"{file} is damaged; delete {artifact} and run the same command again to recompute it"


@contextmanager
def _stopwatch(path: Path) -> Iterator[None]:
    """Adds wall and CPU time of the body to `path`, also when the body fails."""
    clocks = {"seconds": time.monotonic, "cpu_seconds": time.process_time}
    # An artifact that an older version began gets no CPU time: only a part of it is known.
    before = json.loads(path.read_text()) if path.is_file() else dict.fromkeys(clocks, 0.0)
    start = {name: clocks[name]() for name in before}
    try:
        yield
    finally:
        write_json(
            path, {name: round(before[name] + clocks[name]() - start[name], 3) for name in before}
        )
