"""What a report knows of one run, read from its directory and the artifacts that it links to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from interp_by_construction.config import Config, identity
from interp_by_construction.engine.run_directory import RunDirectory, find_runs, place_of
from interp_by_construction.engine.store import Artifact, Store
from interp_by_construction.errors import ConfigError, StoreError
from interp_by_construction.results.models import model_link
from interp_by_construction.sweeps.record import JobState, SweepDirectory

N_EXAMPLES = 5
MOMENTS = {
    name: name.replace("_", " ")
    for name in ("before", "final", "shuffled", "empty_label", "common_label")
}
"""Moments of the scores by method, and how tables call them."""
KIND_COLUMNS = {
    "labels": "n",
    "before": "score_before",
    "final": "score_final",
    "second": "score_second",
    "rules": "score_rules",
    "own table per token": "table_r",
    "contextual": "n_contextual",
}
"""Head of a column -> key of `results.kinds`."""


@dataclass(frozen=True)
class RunFacts:
    """A run that has a summary."""

    directory: RunDirectory
    summary: dict[str, Any]
    store: Store

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def name(self) -> str:
        return self.directory.name

    @cached_property
    def config(self) -> Config:
        return self.directory.config()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Dotted name -> value of every field that makes the run what it is."""
        return identity(self.config)

    @property
    def layers(self) -> list[int]:
        """Layers that are finished."""
        return [record["layer"] for record in self.summary["layers"]]

    def layer(self, index: int) -> dict[str, Any]:
        """The record of layer `index` in the summary."""
        return next(record for record in self.summary["layers"] if record["layer"] == index)

    def artifacts(self, layer: int) -> dict[str, Artifact]:
        """Link name -> artifact of a layer. Raises StoreError where one is gone."""
        links = self.layer(layer)["artifacts"]
        return {name: self._artifact(name, fingerprint) for name, fingerprint in links.items()}

    def labels(self, layer: int) -> Artifact:
        """The labels of a layer: the matched ones where there are any."""
        links = self.layer(layer)["artifacts"]
        name = "assign" if "assign" in links else "label"
        return self._artifact(name, links[name])

    def model(self, layer: int, moment: str) -> Artifact:
        """The model that `score.<moment>` of a layer was measured on. Raises StoreError where it is
        gone."""
        link = model_link(self.directory, self.store, layer, moment)
        return self._artifact(link.name, link.fingerprint)

    def shared(self, name: str) -> Artifact:
        """What the layers share. Raises StoreError where it is gone."""
        links = self.directory.state["shared"]
        if name not in links:
            raise StoreError(
                f"{self.path / 'state.json'} links to no {name}: run the same command again"
            )
        return self._artifact(name, links[name])

    def _artifact(self, name: str, fingerprint: str) -> Artifact:
        known = {link.fingerprint: link.stage for link in self.directory.links}
        stage = known.get(fingerprint, name)
        found = self.store.get(stage, fingerprint) or _find_anywhere(self.store, fingerprint)
        if found is None:
            raise StoreError(
                f"{self.store.path(stage, fingerprint)}: an artifact of run {self.name} is gone; "
                "the same `ibc run` makes it again"
            )
        return found


def node_rows(run: RunDirectory) -> list[dict[str, Any]]:
    """The rows of `nodes.parquet`."""
    import pyarrow.parquet as pq  # Heavy, and `ibc status` does not need it.

    return pq.read_table(run.path / "nodes.parquet").to_pylist()


def examples(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """`N_EXAMPLES` rows spread evenly from the best to the worst final score, so that good and bad
    nodes are seen; all of them where there are fewer. Nodes without a final score are left out."""
    scored = [row for row in rows if row["score_final"] is not None]
    scored.sort(key=lambda row: (-row["score_final"], row["layer"], row["node"]))
    if len(scored) <= N_EXAMPLES:
        return scored
    return [scored[i * (len(scored) - 1) // (N_EXAMPLES - 1)] for i in range(N_EXAMPLES)]


def score_of(summary: dict[str, Any], moment: str = "final") -> float | None:
    """Mean over layers of their mean scores; None where one of them is undefined or missing."""
    return mean((layer["score"].get(moment) or {}).get("mean") for layer in summary["layers"])


def truth_of(summary: dict[str, Any], name: str = "r_mean") -> float | None:
    """Mean over layers of r with the ground truth: `r_mean` of the final model, `r_before` before
    alignment."""
    return mean((layer.get("truth") or {}).get(name) for layer in summary["layers"])


def mean(values: Iterable[float | None]) -> float | None:
    """The mean; None where a value is undefined or there is none."""
    given = list(values)
    known = [value for value in given if value is not None]
    return sum(known) / len(known) if known and len(known) == len(given) else None


def method_rows(layer: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per method and judge, with the record of each of `MOMENTS` or None."""
    rows: dict[tuple[str, str | None], dict[str, Any]] = {}
    for record in layer.get("scores_by_method", []):
        rows.setdefault((record["method"], record["judge"]), {})[record["moment"]] = record
    return [
        {
            "method": next(iter(moments.values()))["title"],
            "judge": judge or "text",
            "self_judged": any(record["self_judged"] for record in moments.values()),
            "n": moments.get("final", next(iter(moments.values())))["n"],
            "moments": {name: moments.get(name) for name in MOMENTS},
        }
        for (_, judge), moments in rows.items()
    ]


def kind_rows(layer: dict[str, Any]) -> tuple[list[str], list[tuple[str, list[Any]]]]:
    """Heads of the columns that have a value, and for each kind of label its name and values."""
    kinds = layer.get("kinds") or {}
    shown = {
        title: key
        for title, key in KIND_COLUMNS.items()
        if any(row.get(key) is not None for row in kinds.values())
    }
    return list(shown), [
        (kind, [row[key] for key in shown.values()]) for kind, row in kinds.items()
    ]


def share_through_free(summary: dict[str, Any]) -> float | None:
    """Share of the loss that flows through free nodes, in all aligned layers at once; None where it
    is undefined or the run is not done."""
    return ((summary.get("work") or {}).get("share_free") or {}).get("value")


def distill_weight(summary: dict[str, Any]) -> float:
    """`align.distill` of the run. Its control and its freeze-only run are distilled alike."""
    return float((summary.get("align") or {}).get("distill") or 0.0)


def _find_anywhere(store: Store, fingerprint: str) -> Artifact | None:
    """The artifact of that fingerprint, whatever stage made it."""
    stages = sorted(path.name for path in store.root.glob("*") if (path / fingerprint).is_dir())
    return store.get(stages[0], fingerprint) if stages else None


@dataclass(frozen=True)
class Job:
    """One job of a sweep, or a run by itself."""

    directory: RunDirectory
    status: JobState
    note: str
    facts: RunFacts | None


def find_jobs(runs_dir: Path, name: str, store: Store) -> tuple[list[Job], bool]:
    """The run called `name`, or all jobs of that sweep; and whether it is a sweep.

    Raises ConfigError for an unknown name, a summary of another schema, and where nothing is
    finished.
    """
    sweep = SweepDirectory(place_of(runs_dir, name))
    numbers = [job.number for job in sweep.jobs]
    jobs = [read_job(sweep.run(number), store, sweep.reason(number)) for number in numbers]
    jobs = jobs or [read_job(run, store) for run in find_runs(runs_dir, name)]
    is_sweep = not (sweep.path / "config.yaml").is_file()
    if not any(job.facts for job in jobs):
        what = "the sweep" if is_sweep else "the run"
        states = ", ".join(f"{job.directory.name}: {job.status}" for job in jobs[:8])
        raise ConfigError(
            f"{name}: {what} has no finished layer, so nothing to report ({states}); see `ibc status {name}`"
        )
    return jobs, is_sweep


def read_job(directory: RunDirectory, store: Store, failure: str = "") -> Job:
    """failure: why it failed the last time. Raises ConfigError for a summary of another schema."""
    status: JobState = "failed" if failure else directory.standing
    note = failure[:300]
    summary = directory.summary
    if summary is None:
        return Job(directory, status, note or directory.whereabouts, None)
    facts = RunFacts(directory, summary, store)
    if not summary["complete"]:
        note = f"layers done: {', '.join(map(str, facts.layers))}; {note or directory.whereabouts}"
    return Job(directory, status, note, facts)
