"""A sweep on disk: its jobs in `runs/<sweep>/sweep.json`, the run of a job in
`runs/<sweep>/<number>/`, and the reason why it failed in `error.txt` there.

    {"schema": 1, "sweep": str, "jobs": [{"number": i, "overrides": [str, ...]}, ...]}

A job keeps its number: a sweep that is called again with more values adds jobs at the end.
Overrides that cannot change a result (`trainer.threads`, `paths.root`) do not distinguish jobs and
are not listed. Light to import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock

from interp_by_construction.config import NOT_IDENTITY, user_path
from interp_by_construction.engine.disk import write_json
from interp_by_construction.engine.run_directory import RunDirectory, State, place_of
from interp_by_construction.errors import StoreError
from interp_by_construction.sweeps.grid import key_of, swept

JobState = State | Literal["failed"]
"""State of a job: that of its run, or `failed` if it failed the last time."""


class Job(NamedTuple):
    """One job of a sweep."""

    number: int
    overrides: list[str]


class SweepDirectory:
    """One sweep on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, composed: Mapping[str, Any]) -> SweepDirectory:
        """The sweep of a composed configuration, which may still hold impossible values. Raises
        ConfigError for a name that leads out of `runs/`."""
        name = composed.get("run") or composed.get("experiment_name") or "default"
        typed = str((composed.get("paths") or {}).get("root", "."))
        root = user_path(typed, "paths.root").resolve()
        return cls(place_of(root / "runs", str(name)))

    @property
    def jobs(self) -> list[Job]:
        """All jobs that were ever planned, by number; empty if this is no sweep. Raises StoreError
        if the file is damaged."""
        file = self.path / "sweep.json"
        if not file.is_file():
            return []
        try:
            listed = json.loads(file.read_text())["jobs"]
            return [Job(int(job["number"]), list(job["overrides"])) for job in listed]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{file} is damaged: delete it and run the same sweep again; nothing is recomputed"
            ) from error

    def plan(self, wanted: Sequence[Sequence[str]]) -> list[int]:
        """Adds the jobs that are not listed yet, and deletes the errors of all wanted jobs; returns
        their numbers."""
        self.path.mkdir(parents=True, exist_ok=True)
        varied = swept(wanted)
        planned: list[int] = []
        with FileLock(self.path / ".sweep.lock"):
            jobs = self.jobs
            numbers = {frozenset(job.overrides): job.number for job in jobs}
            for overrides in wanted:
                listed = _telling(overrides, varied)
                if frozenset(listed) not in numbers:
                    number = max(numbers.values(), default=-1) + 1
                    numbers[frozenset(listed)] = number
                    jobs.append(Job(number, listed))
                planned.append(numbers[frozenset(listed)])
            listing = [job._asdict() for job in jobs]
            content = {"schema": 1, "sweep": self.path.name, "jobs": listing}
            write_json(self.path / "sweep.json", content)
        for number in planned:
            self._error_file(number).unlink(missing_ok=True)
        return planned

    def number(self, overrides: Sequence[str]) -> int | None:
        """The number of the job with these overrides; None if it was never planned."""
        given = {override.lstrip("+") for override in overrides}
        fitting = [job for job in self.jobs if given >= set(job.overrides)]
        # One job may list what all share and another one field more.
        return max(fitting, key=lambda job: len(job.overrides)).number if fitting else None

    def run(self, number: int) -> RunDirectory:
        return RunDirectory(self.path / str(number))

    def fail(self, number: int, text: str) -> None:
        self._error_file(number).parent.mkdir(parents=True, exist_ok=True)
        self._error_file(number).write_text(text.rstrip() + "\n")

    def error(self, number: int) -> str | None:
        """Why the job failed the last time, if it did."""
        file = self._error_file(number)
        return file.read_text() if file.is_file() else None

    def reason(self, number: int) -> str:
        """Why the job failed, in one line; empty if it did not fail."""
        error = self.error(number)
        if error is None:
            return ""
        lines = error.strip().splitlines() or ["it failed without a message"]
        # The last line of a traceback says what happened. Other messages count with all lines.
        if lines[0].startswith("Traceback"):
            return lines[-1]
        return " ".join(line.strip() for line in lines)

    def state(self, number: int) -> JobState:
        return self.run(number).standing if self.error(number) is None else "failed"

    def _error_file(self, number: int) -> Path:
        return self.path / str(number) / "error.txt"


def _telling(overrides: Sequence[str], varied: set[str]) -> list[str]:
    """The overrides that distinguish the job from others, without `+`."""

    def tells(key: str) -> bool:
        ignored = ("hydra", *NOT_IDENTITY)
        return key in varied or not any(f"{key}.".startswith(f"{name}.") for name in ignored)

    return [override.lstrip("+") for override in overrides if tells(key_of(override))]
