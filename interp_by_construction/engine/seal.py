"""`runs/<name>/seal.json`: the hashes of what a finished run wrote, and of the contents of its
artifacts.

A manifest holds the hashes of its files, so whoever changes data can write a fitting manifest. The
seal of each run that uses the artifact says what it was. An artifact that was deleted and made
again has the same contents, and so the same hash, though it took other seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from interp_by_construction.engine.disk import (
    file_problem,
    read_regular,
    sha256_file,
    sha256_json,
    write_json,
)
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import MANIFEST
from interp_by_construction.errors import CorruptArtifact

SEAL = "seal.json"
SEALED = ("config.yaml", "env.json", "state.json", "summary.json", "nodes.parquet", "lines.json")
"""Files of a run."""


def seal(run: RunDirectory) -> None:
    """Writes the seal of a run that has just been finished.

    Raises CorruptArtifact where an artifact is not the one that an earlier seal of this run names.
    """
    contents = _contents(run)
    before = (_read(run) or {}).get("artifacts", {})
    for name in contents.keys() & before.keys():
        if contents[name] != before[name]:
            raise CorruptArtifact(
                f"{run.store.root / name} is not what it was when run {run.name} was finished; "
                "delete it and run the same command again to recompute it. If it was recomputed with "
                f"other versions or on another machine, delete {run.path / SEAL} to accept it"
            )
    files = {name: sha256_file(run.path / name) for name in SEALED}
    written = {"files": files, "artifacts": contents}
    write_json(run.path / SEAL, written | {"checksum": sha256_json(written)})


def seal_problems(run: RunDirectory) -> Iterator[str]:
    """One line for each file of a finished run, and for each of its artifacts, that is not what
    was sealed. Of a run that goes on, only the artifacts are compared."""
    written, file = _read(run), run.path / SEAL
    finished = run.standing == "complete" or run.done_layers == run.state["planned"] != []
    if written is None:
        if finished or os.path.lexists(file):
            why = "differs from what was written" if os.path.lexists(file) else "missing"
            yield f"{file}: {why}; the same `ibc run` writes it anew"
        return
    for name, expected in written["files"].items() if finished else ():
        if problem := file_problem(run.path / name, expected):
            yield f"{run.path / name}: {problem}"
    now = _contents(run)
    for name, expected in written["artifacts"].items():
        if name in now and now[name] != expected:
            yield f"{run.store.root / name / MANIFEST}: not the one that the run was made with"


def _contents(run: RunDirectory) -> dict[str, str]:
    """`stage/fingerprint` -> hash over the names and hashes of its files, of the artifacts that are
    there."""
    found = {}
    for stage, fingerprint in run.artifacts:
        manifest = run.store.path(stage, fingerprint) / MANIFEST
        try:
            found[f"{stage}/{fingerprint}"] = sha256_json(
                json.loads(read_regular(manifest))["files"]
            )
        except (OSError, ValueError, LookupError, TypeError):
            # What is wrong with it is told by `Store.verify`.
            continue
    return found


def _read(run: RunDirectory) -> dict[str, Any] | None:
    """What was sealed; None where there is no seal, or one that was changed."""
    try:
        written = json.loads(read_regular(run.path / SEAL))
        checksum = written.pop("checksum")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return written if checksum == sha256_json(written) else None
