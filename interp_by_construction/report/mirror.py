"""Results of runs and sweeps for the logger (docs/wandb.md), each logged once.

A run becomes one logger run of type `result`: its configuration, and losses and scores as summary
values. A sweep becomes one of type `sweep`: the table of its jobs and the chart of tax against
score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from interp_by_construction.config import Config, to_dict
from interp_by_construction.engine.disk import canonical_json
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.engine.tracking import log_points, log_summary, tracked
from interp_by_construction.report.facts import RunFacts, read_job, score_of
from interp_by_construction.report.pareto import Point, points_of
from interp_by_construction.sweeps.grid import key_of, swept
from interp_by_construction.sweeps.record import SweepDirectory


def log_result(cfg: Config, run: RunDirectory) -> None:
    """Logs `summary.json`'s losses and scores."""
    facts = read_job(run, Store(cfg.store_dir)).facts
    if facts is not None:
        values = result_values(facts)
        _log_once(
            cfg, run.name, "result", run.path / "logs", values, partial(log_summary, metrics=values)
        )


def log_sweep(cfg: Config, sweep: SweepDirectory) -> None:
    """Logs a row per finished job and the chart of tax against final score. cfg: of any job."""
    keys, store = sorted(swept([job.overrides for job in sweep.jobs])), Store(cfg.store_dir)
    done = [
        (job, read_job(sweep.run(job.number), store).facts)
        for job in sweep.jobs
        if sweep.state(job.number) == "complete"
    ]
    finished = [(job, facts) for job, facts in done if facts is not None]
    points = points_of([(facts, "") for _, facts in finished])
    rows = []
    for (job, _), point in zip(finished, points, strict=True):
        given = {key_of(override): override.partition("=")[2] for override in job.overrides}
        swept_values = [given.get(key) for key in keys]
        rows.append([*figures(point).values(), job.number, *swept_values])
    if rows:
        columns = [*figures(points[0]), "job", *keys]
        log = partial(log_points, name="jobs", columns=columns, rows=rows)
        _log_once(cfg, sweep.path.name, "sweep", sweep.path / "logs", rows, log)


def figures(point: Point) -> dict[str, Any]:
    """A run in the sweep's table, x and y of its chart first. `tax_low` to `tax_high` is the tax's
    95 % interval, `control_kind` what makes it a control, or `none`."""
    low, high = point.tax_ci95 or (None, None)
    return {
        "score_final": point.score,
        "tax": point.tax,
        "tax_low": low,
        "tax_high": high,
        "truth": point.truth,
        "through_free": point.through_free,
        "control_kind": point.control or "none",
    }


def result_values(facts: RunFacts) -> dict[str, Any]:
    """Flat figures of a run: losses as in summary.json, `score_<moment>` as means over layers, and
    `figures`."""
    summary = facts.summary
    values: dict[str, Any] = {
        key: value for key, value in summary["loss"].items() if isinstance(value, int | float)
    }
    for moment in sorted({moment for layer in summary["layers"] for moment in layer["score"]}):
        values[f"score_{moment}"] = score_of(summary, moment)
    return values | figures(points_of([(facts, "")])[0])


def _log_once(
    cfg: Config, run: str, kind: str, logs: Path, content: Any, log: Callable[..., None]
) -> None:
    """Calls `log` with a logger unless the same `content` was logged before. If logging fails, the
    next call tries again."""
    if cfg.logger.kind == "none":
        return
    stamp = hashlib.sha256(
        canonical_json([cfg.logger.kind, cfg.logger.mode, cfg.logger.project, content])
    ).hexdigest()
    file = logs / f".{kind}_logged"
    if file.is_file() and file.read_text() == stamp:
        return
    with tracked(cfg.logger, run, kind, None, logs, to_dict(cfg)) as logger:
        log(logger)
    file.write_text(stamp)
