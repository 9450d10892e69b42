"""Results of runs and sweeps for the logger, so that W&B compares runs without manual work (docs/wandb.md).

A run becomes one logger run of type `result`: its configuration, and losses and scores as summary values. A sweep becomes one of
type `sweep`: the table of its jobs and the chart of tax against score. What was logged once is not logged again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from interp_by_construction.config import Config, to_dict
from interp_by_construction.report.facts import share_through_free
from interp_by_construction.runs import RunDirectory
from interp_by_construction.store import canonical_json
from interp_by_construction.sweeps.grid import key_of, swept
from interp_by_construction.sweeps.record import SweepDirectory
from interp_by_construction.tracking import log_points, log_summary, tracked


def log_result(cfg: Config, run: RunDirectory) -> None:
    """Logs `summary.json`'s losses and scores."""
    summary = run.summary
    if summary is None or not _is_new(cfg, run.path / "logs", "result", summary):
        return
    with tracked(cfg.logger, run.name, "result", None, None, run.path / "logs", to_dict(cfg)) as logger:
        log_summary(logger, result_values(summary))


def log_sweep(cfg: Config, sweep: SweepDirectory) -> None:
    """Logs a row per finished job and the chart of tax against final score. cfg: of any job."""
    jobs = [job for job in sweep.jobs if sweep.state(job.number) == "complete"]
    keys = sorted(swept([job.overrides for job in sweep.jobs]))
    rows = []
    for job in jobs:
        values = result_values(sweep.run(job.number).summary or {})
        given = {key_of(override): override.partition("=")[2] for override in job.overrides}
        rows.append([values.get(name) for name in FIGURES] + [job.number] + [given.get(key) for key in keys])
    logs = sweep.path / "logs"
    if not rows or not _is_new(cfg, logs, "sweep", rows):
        return
    with tracked(cfg.logger, sweep.path.name, "sweep", None, None, logs, to_dict(cfg)) as logger:
        log_points(logger, "jobs", [*FIGURES, "job", *keys], rows)


FIGURES = ("score_final", "tax", "truth", "through_free")
"""Columns of the sweep's table: x and y of its chart first."""


def result_values(summary: dict[str, Any]) -> dict[str, Any]:
    """Flat figures of a run: losses as in summary.json; scores and ground truth as means over the aligned nodes of all layers."""
    layers = summary.get("layers", [])
    values: dict[str, Any] = {key: value for key, value in summary.get("loss", {}).items() if isinstance(value, int | float)}
    for moment in sorted({moment for layer in layers for moment in layer["score"]}):
        values[f"score_{moment}"] = _mean([(layer["score"][moment]["mean"], layer["score"][moment]["n"]) for layer in layers])
    truths = [layer["truth"] for layer in layers if layer.get("truth")]
    values["truth"] = _mean([(truth["r_mean"], truth["n"]) for truth in truths])
    values["through_free"] = share_through_free(summary)
    return values


def _mean(parts: list[tuple[float | None, int]]) -> float | None:
    """Of (mean, count); None if nothing is defined."""
    defined = [(mean, n) for mean, n in parts if mean is not None and n]
    return sum(mean * n for mean, n in defined) / sum(n for _, n in defined) if defined else None


def _is_new(cfg: Config, logs: Path, what: str, content: Any) -> bool:
    """Whether this logger has not seen this yet; remembers it."""
    if cfg.logger.kind == "none":
        return False
    stamp = hashlib.sha256(canonical_json([cfg.logger.kind, cfg.logger.mode, cfg.logger.project, content])).hexdigest()
    logs.mkdir(parents=True, exist_ok=True)
    file = logs / f".{what}_logged"
    if file.is_file() and file.read_text() == stamp:
        return False
    file.write_text(stamp)
    return True
