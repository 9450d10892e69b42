"""Curves and tables of a stage: Weights & Biases (offline unless asked otherwise), CSV files, or
nothing.

A logger mirrors what the store holds. W&B cannot resume an offline run under a fixed id: it starts
a second run with the same id. An id can never be used again in a project, also by another machine.
So each attempt at a stage is a W&B run of its own, with id `run-stage-layer-attempt-mark` and a
random mark. All W&B runs of one `ibc run` or of one sweep have the same group;
docs/wandb.md says where to look. Only the main process of a stage logs.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interp_by_construction.config import LoggerConfig
from interp_by_construction.engine.one_process import be_main_process
from interp_by_construction.errors import ConfigError
from interp_by_construction.shown import cell

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger, WandbLogger

    Tracked = Logger | Literal[False]
    """False where nothing is logged, as `Trainer(logger=...)` takes it."""

_MAX_ID = 110
"""Without the mark. W&B refuses ids longer than 128 characters."""
MARK_BYTES = 4
"""Random bytes of a mark, each two digits."""


def run_id(run: str, stage: str, layer: int | None, attempt: int) -> str:
    """`run-stage-layer-attempt` in characters that W&B and file systems accept. In W&B a mark
    follows that no other run has."""
    parts = [run, stage, *([] if layer is None else [str(layer)]), str(attempt)]
    tail = "-".join(parts[1:])
    head = re.sub(r"[^A-Za-z0-9_.]+", "_", run)[: _MAX_ID - len(tail) - 1]
    return f"{head}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', tail)}"


def next_attempt(run: str, stage: str, layer: int | None, directory: Path) -> int:
    """The first attempt that has left nothing in `directory` yet, counted from 1."""
    attempt = 1
    # Folders are `csv/<id>`, and `wandb/<kind>-<time>-<id>-<mark>`.
    while any(_folders(run_id(run, stage, layer, attempt), directory)):
        attempt += 1
    return attempt


def _folders(identifier: str, directory: Path) -> Iterator[Path]:
    yield from directory.glob(f"csv/{identifier}")
    yield from directory.glob(f"wandb/*-{identifier}-{'?' * 2 * MARK_BYTES}")


def group_of(run: str) -> str:
    """What W&B groups by: the sweep of a job `sweep/3`, else the run itself."""
    return run.partition("/")[0]


@contextmanager
def tracked(
    cfg: LoggerConfig,
    run: str,
    stage: str,
    layer: int | None,
    directory: Path,
    config: Mapping[str, Any] | None = None,
) -> Iterator[Tracked]:
    """A Lightning logger for the next attempt at one stage. It is finished at the end of the block,
    as failed if the block raises.

    Args:
        directory: where files go; created if missing.
        config: the run's configuration, by which W&B can group, filter and plot.

    Raises:
        ConfigError: an unknown `logger.kind`, or W&B cannot start (for example online without an
        account).
    """
    if cfg.kind != "none":
        be_main_process()
    logger: Tracked = False
    if cfg.kind == "csv":
        from pytorch_lightning.loggers import CSVLogger

        directory.mkdir(parents=True, exist_ok=True)
        identifier = run_id(run, stage, layer, next_attempt(run, stage, layer, directory))
        logger = CSVLogger(save_dir=directory, name="csv", version=identifier)
    elif cfg.kind == "wandb":
        directory.mkdir(parents=True, exist_ok=True)
        logger = _wandb_logger(cfg, run, stage, layer, directory, config or {})
    elif cfg.kind != "none":
        raise ConfigError(f"logger.kind={cfg.kind} is unknown: use wandb, csv or none")
    try:
        yield logger
    except BaseException:
        finish(logger, failed=True)
        raise
    finish(logger)


def _wandb_logger(
    cfg: LoggerConfig,
    run: str,
    stage: str,
    layer: int | None,
    directory: Path,
    config: Mapping[str, Any],
) -> WandbLogger:
    # Offline, nothing leaves the machine, error reports included. wandb reads this when imported.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    logging.getLogger("wandb").setLevel(logging.ERROR)
    identifier = run_id(run, stage, layer, next_attempt(run, stage, layer, directory))
    try:
        experiment = wandb.init(
            project=cfg.project,
            group=group_of(run),
            job_type=stage,
            id=f"{identifier}-{secrets.token_hex(MARK_BYTES)}",
            name=" ".join([*run.split("/")[1:], stage, *([] if layer is None else [str(layer)])]),
            # `layer` is the layer at work. In the configuration it is the list of all layers.
            config={**config, "run": run, "stage": stage, "layer": layer},
            dir=str(directory),
            mode=cfg.mode,
            # Jobs of a sweep may run in one process. None may end the run of another.
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", disable_code=True, disable_git=True
            ),
        )
    except (wandb.errors.Error, OSError) as error:
        raise ConfigError(
            f"logger.mode={cfg.mode}: W&B cannot start ({error}); log in with `wandb login`, or set "
            "logger.mode=offline, logger=csv or logger=none"
        ) from error
    experiment.define_metric("trainer/global_step")
    experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=experiment)


def log_table(
    logger: Tracked, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Logs a table, such as one row per node. None marks what is undefined or missing."""
    if logger is False:
        return
    if directory := _csv_directory(logger):
        with (directory / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([cell(each) for each in columns])
            writer.writerows([[cell(each) for each in row] for row in rows])
        return
    _experiment(logger).log({name: _wandb_table(columns, rows)})


def log_points(
    logger: Tracked, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """`log_table` whose first two columns are also a scatter chart, x and y, in W&B."""
    log_table(logger, name, columns, rows)
    if logger is False or _csv_directory(logger):
        return
    import wandb

    points = _wandb_table(columns, [row for row in rows if None not in row[:2]])
    title = f"{columns[1]} against {columns[0]}"
    _experiment(logger).log(
        {f"{name}_chart": wandb.plot.scatter(points, columns[0], columns[1], title=title)}
    )


def _wandb_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    import wandb

    # A column may hold None. Without mixed types W&B takes a column's type from its first row.
    data = [list(row) for row in rows]
    return wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)


def log_summary(logger: Tracked, metrics: Mapping[str, Any]) -> None:
    """Logs final figures; nested mappings become `outer/inner`."""
    if logger is False:
        return
    flat = dict(_flatten(metrics))
    if directory := _csv_directory(logger):
        path = directory / "summary.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**known, **flat}, indent=1, sort_keys=True) + "\n")
        return
    _experiment(logger).summary.update(flat)


def finish(logger: Tracked, failed: bool = False) -> None:
    """Flushes and closes; a logger is not used afterwards."""
    if logger is False:
        return
    if _csv_directory(logger):
        logger.save()
        return
    _experiment(logger).finish(exit_code=int(failed))


def _csv_directory(logger: Logger) -> Path | None:
    from pytorch_lightning.loggers import CSVLogger

    if not isinstance(logger, CSVLogger):
        return None
    # Touched first: Lightning creates the directory with the experiment.
    _ = logger.experiment
    directory = Path(logger.log_dir)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _experiment(logger: Logger) -> Any:
    return logger.experiment  # type: ignore[attr-defined]


def _flatten(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value
