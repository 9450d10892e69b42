"""A run's directory `runs/<name>/`: `config.yaml`, `env.json`, `state.json` (links to artifacts),
`summary.json`, `nodes.parquet`, `lines.json` (what stages say of their results), logs.

Holds names and fingerprints only; everything heavy stays in the store. Light to import, so that
`ibc status` is fast.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from interp_by_construction.config import Config, from_saved, identity, to_dict
from interp_by_construction.config.group import is_plain_name, require
from interp_by_construction.engine.disk import disk_errors, write_json
from interp_by_construction.engine.environment import environment
from interp_by_construction.engine.run_files import (
    AFRESH,
    SCHEMA,
    check_summary,
    groups,
    is_state,
    read_json,
)
from interp_by_construction.engine.run_lock import in_use, only_here
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError, StoreError
from interp_by_construction.version import __version__

State = Literal["complete", "running", "incomplete", "missing"]
"""incomplete: begun, and not running; missing: never begun."""

LINES = "lines.json"


class Link(NamedTuple):
    """One stage of a run."""

    layer: int | None
    """None for what belongs to no layer."""
    name: str
    """What the run calls it: the stage's name but where a layer has several of a kind."""
    stage: str
    """Name of the stage, which is also its folder in the store."""
    fingerprint: str


class RunDirectory:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """`NAME`, or `SWEEP/JOB` for a job of a sweep."""
        parent = self.path.parent
        return self.path.name if parent.name == "runs" else f"{parent.name}/{self.path.name}"

    @property
    def store(self) -> Store:
        """The store beside `runs/`."""
        runs = next((each for each in self.path.parents if each.name == "runs"), self.path.parent)
        return Store(runs.parent / "store")

    @property
    def logs(self) -> Path:
        """Folder of curves, of what servers say, and of `log`."""
        return self.path / "logs"

    @property
    def log(self) -> Path:
        """What libraries say, and when each stage began and ended."""
        return self.logs / "run.log"

    @property
    def state(self) -> dict[str, Any]:
        """start_layer, planned, done, running, shared {link: fingerprint}, layers {layer: {link:
        fingerprint}}, and plan: the same with [stage, fingerprint] of all that the run consists of,
        made or not, in the order of computation.

        Raises ConfigError for one of another schema, StoreError for a damaged one."""
        file = self.path / "state.json"
        if not file.is_file():
            empty: dict[str, Any] = {
                "start_layer": None,
                "planned": [],
                "done": [],
                "running": None,
            }
            return {**empty, "shared": {}, "layers": {}}
        fix = "delete it and run the same command again"
        state = read_json(file, fix)
        if not is_state(state):
            raise StoreError(f"{file} is damaged: {fix}; nothing is recomputed")
        if state["shared"] and "plan" not in state:
            raise ConfigError(
                f"{file}: it has no plan: a version before schema {SCHEMA} wrote it; {AFRESH}"
            )
        return state

    @property
    def plan(self) -> list[Link]:
        """All stages of the run in the order of computation, made or not."""
        planned = groups(self.state.get("plan", {"shared": {}, "layers": {}}))
        return [Link(layer, name, *each) for layer, own in planned for name, each in own.items()]

    @property
    def links(self) -> list[Link]:
        """Those of the plan whose artifacts have been made."""
        made = dict(groups(self.state))
        return [
            link
            for link in self.plan
            if made.get(link.layer, {}).get(link.name) == link.fingerprint
        ]

    @property
    def artifacts(self) -> list[tuple[str, str]]:
        """(stage, fingerprint) of all that has been made, each once."""
        return sorted({(link.stage, link.fingerprint) for link in self.links})

    def write_plan(self, plan: dict[str, Any]) -> None:
        """Writes what the run is going to consist of (`RunGraph.plan`), before anything is
        computed. Links that are no part of it belong to another result and are removed. A summary
        of fewer layers is marked as not complete."""
        layers = sorted(map(int, plan["layers"]))
        state = {**self.state, "start_layer": layers[0], "planned": layers, "plan": plan}
        for group, links in [("shared", plan["shared"]), *plan["layers"].items()]:
            made = state["shared"] if group == "shared" else state["layers"].get(group, {})
            for name in [name for name, each in made.items() if links.get(name, [0, 0])[1] != each]:
                del made[name]
        state["layers"] = {
            key: each for key, each in state["layers"].items() if key in plan["layers"]
        }
        self._write(state)
        summary = self.summary
        if summary is not None and summary["complete"] and len(self.links) < len(self.plan):
            write_json(self.path / "summary.json", summary | {"complete": False}, sort=False)

    def finish(self) -> None:
        """All that is planned is done."""
        state = self.state
        self._write({**state, "done": state["planned"], "running": None})

    @property
    def start_layer(self) -> int | None:
        """The first layer that the run aligns; None before it has planned."""
        return self.state["start_layer"]

    @property
    def done_layers(self) -> list[int]:
        """Layers that are finished, in the order in which they were."""
        return list(self.state["done"])

    @property
    def summary(self) -> dict[str, Any] | None:
        """None before it is written. Raises ConfigError or StoreError, as `state` does."""
        file = self.path / "summary.json"
        if not file.is_file():
            return None
        summary = read_json(file, "the same `ibc run` writes it anew")
        check_summary(file, summary)
        return summary

    @property
    def lines(self) -> dict[str, Any]:
        """What each stage says of its result (`results.lines`); empty before it is written. Raises
        StoreError if the file is damaged."""
        file = self.path / LINES
        if not file.is_file():
            return {"shared": {}, "layers": {}}
        return read_json(file, "the same `ibc run` writes it anew")

    def config(self) -> Config:
        """The run's config. Raises StoreError if it is missing, ConfigError if it is of another
        version."""
        file = self.path / "config.yaml"
        if not file.is_file():
            raise StoreError(f"{file} is missing: {self.path} is not a run")
        try:
            return from_saved(yaml.safe_load(file.read_text()))
        except ConfigError as error:
            raise ConfigError(
                f"{file}: {error}. {self._version} wrote it, and this is version {__version__}; "
                f"{AFRESH}"
            ) from error

    @property
    def _version(self) -> str:
        """Which version of this package began the run."""
        try:
            return f"version {json.loads((self.path / 'env.json').read_text())['version']}"
        except (OSError, ValueError, LookupError):
            return "an older version"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Raises StoreError if another process works on this run."""
        with disk_errors(self.path):
            self.logs.mkdir(parents=True, exist_ok=True)
        with only_here(self.path, self.name):
            yield

    @property
    def in_use(self) -> bool:
        """Whether a process works on this run."""
        return in_use(self.path)

    @property
    def standing(self) -> State:
        """What became of the run."""
        if not (self.path / "config.yaml").is_file():
            return "missing"
        try:
            complete = (self.summary or {}).get("complete")
        except (ConfigError, StoreError):
            # The same `ibc run` writes a damaged summary anew, so something is left to do.
            complete = False
        if complete:
            return "complete"
        return "running" if self.in_use else "incomplete"

    @property
    def whereabouts(self) -> str:
        """How far a run has come that is not complete."""
        if self.standing == "missing":
            return "it never began"
        running = self.state["running"]
        if not running:
            return "it waits or has ended"
        layer = "" if running["layer"] is None else f" of layer {running['layer']}"
        return f"{'at' if self.in_use else 'stopped at'} {running['stage']}{layer}"

    def finished_summary(self) -> dict[str, Any]:
        """The summary of a run that is done. Raises ConfigError for one that is not, and as
        `summary` does."""
        summary = self.summary
        if summary is None or not summary["complete"]:
            raise ConfigError(
                f"run {self.name} is not finished ({self.whereabouts}): give the same `ibc run` "
                f"again, it goes on where it stopped; `ibc status {self.name}` shows how far it is"
            )
        return summary

    def adopt(self, cfg: Config) -> None:
        """Writes the config of a new run. Raises ConfigError, with the differing fields, where an
        old run has another one, and for a run of another schema."""
        file = self.path / "config.yaml"
        if file.is_file() and self.state["shared"]:
            with contextlib.suppress(StoreError):
                _ = self.summary
            old, new = identity(self.config()), identity(cfg)
            listing = "\n".join(
                f"  {key}: {old.get(key)} -> {new.get(key)}"
                for key in sorted({*old, *new})
                if old.get(key) != new.get(key)
            )
            if listing:
                raise ConfigError(
                    f"run {self.name} exists with another config; give another run=NAME, or the values that it was made with to go "
                    f"on with it. Differing fields, as it was made -> as asked for:\n{listing}"
                )
            return
        with disk_errors(file):
            file.write_text(yaml.safe_dump(to_dict(cfg), sort_keys=False, allow_unicode=True))
        write_json(self.path / "env.json", environment())

    def announce(self, stage: str, layer: int | None) -> None:
        """Says in the state what is being computed now."""
        self._write({**self.state, "running": {"stage": stage, "layer": layer, "pid": os.getpid()}})

    def mark(self, layer: int | None, stage: str, fingerprint: str) -> None:
        """Links an artifact."""
        state = self.state
        links = state["shared"] if layer is None else state["layers"].setdefault(str(layer), {})
        if links.get(stage) != fingerprint or state["running"]:
            links[stage] = fingerprint
            self._write({**state, "running": None})

    def _write(self, state: dict[str, Any]) -> None:
        write_json(self.path / "state.json", state, sort=False)


def near(path: Path) -> Path:
    """As it is shown: from the working directory on, where the path is below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def place_of(runs_dir: Path, name: str) -> Path:
    """The folder of the run or sweep called `name`. Raises ConfigError for a name, and for a link,
    that leads out of `runs_dir`."""
    require(is_plain_name(name), "run", name, "give a plain name")
    path = runs_dir / name
    if not path.resolve().is_relative_to(runs_dir.resolve()):
        raise ConfigError(
            f"run={name}: {path} is a link that leads out of {runs_dir}: remove it, or give another "
            "run=NAME or paths.root=DIR"
        )
    return path


def find_runs(runs_dir: Path, name: str) -> list[RunDirectory]:
    """The run, or the jobs of the sweep, called `name`. Raises ConfigError with the known runs, and
    StoreError for a run without its configuration."""
    path = place_of(runs_dir, name.rstrip("/"))
    if (path / "config.yaml").is_file():
        return [RunDirectory(path)]
    if (path / "state.json").is_file():
        raise StoreError(
            f"{path / 'config.yaml'} is missing or no regular file, so run {name} cannot be read: put "
            "it back, or give a new run=NAME"
        )
    jobs = [job for job in path.glob("*") if (job / "config.yaml").is_file()]
    if jobs:
        return [RunDirectory(job) for job in sorted(jobs, key=lambda p: (len(p.name), p.name))]
    there = sorted(p.name for p in runs_dir.glob("*") if p.is_dir() and not p.name.startswith("."))
    raise ConfigError(
        f"run {name}: not found in {runs_dir}; there {'are ' + ', '.join(there) if there else 'is none yet'}"
    )
