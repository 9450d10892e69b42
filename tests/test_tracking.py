"""Loggers mirror a stage: same calls, three backends, nothing printed, nothing outside the given
directory."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from interp_by_construction.config import LoggerConfig
from interp_by_construction.engine.tracking import (
    finish,
    group_of,
    log_points,
    log_summary,
    log_table,
    next_attempt,
    run_id,
    tracked,
)
from interp_by_construction.errors import ConfigError

COLUMNS = ["layer", "node", "label", "score"]
ROWS = [
    [1, 7, "animals", 0.5],
    [1, 9, None, None],
    [1, 11, '<b>x</b>, "y"', float(0)],
    [1, 12, "=HYPERLINK(1)", -0.5],
]


CONFIG = {"align": {"weight": 0.3}, "labeler": {"model": "smollm2"}}
POINTS = [[0.5, 0.01, 0], [None, 0.02, 1]]


def use(cfg: LoggerConfig, directory: Path) -> None:
    with tracked(cfg, "demo", "align", 1, directory, CONFIG) as logger:
        if logger is not False:
            logger.log_metrics({"loss": 1.5}, step=0)
            logger.log_metrics({"loss": 1.0}, step=1)
        log_table(logger, "nodes", COLUMNS, ROWS)
        log_points(logger, "jobs", ["score_final", "tax", "job"], POINTS)
        log_summary(logger, {"score": {"final": 0.5, "n": 3}})


def test_none_is_false_and_writes_nothing(tmp_path: Path) -> None:
    with tracked(LoggerConfig(kind="none"), "demo", "align", 1, tmp_path / "logs") as logger:
        assert logger is False
    use(LoggerConfig(kind="none"), tmp_path / "logs")
    assert not list(tmp_path.iterdir())


def test_csv_holds_curve_table_and_summary(tmp_path: Path) -> None:
    use(LoggerConfig(kind="csv"), tmp_path)
    directory = tmp_path / "csv" / "demo-align-1-1"
    with (directory / "metrics.csv").open() as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == [1.5, 1.0]
    with (directory / "nodes.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == COLUMNS and rows[2] == ["1", "9", "", ""] and rows[3][2] == ROWS[2][2]
    assert rows[3][0:2] == ["1", "11"] and rows[4][2] == "'=HYPERLINK(1)" and rows[4][3] == "-0.5"
    with (directory / "jobs.csv").open() as file:
        assert list(csv.reader(file))[2] == ["", "0.02", "1"]
    assert json.loads((directory / "summary.json").read_text()) == {
        "score/final": 0.5,
        "score/n": 3,
    }


def test_a_second_attempt_never_overwrites_the_first(tmp_path: Path) -> None:
    cfg = LoggerConfig(kind="csv")
    use(cfg, tmp_path)
    first = (tmp_path / "csv" / "demo-align-1-1" / "metrics.csv").read_bytes()
    assert next_attempt("demo", "align", 1, tmp_path) == 2
    assert next_attempt("demo", "align", 2, tmp_path) == 1
    use(cfg, tmp_path)
    assert (tmp_path / "csv" / "demo-align-1-1" / "metrics.csv").read_bytes() == first
    assert (tmp_path / "csv" / "demo-align-1-2" / "metrics.csv").is_file()


def test_attempts_are_counted_whatever_the_random_end_of_an_id(tmp_path: Path) -> None:
    for identifier in ("demo-align-1-1-0123abcd", "demo-align-1-10-0123abcd", "demo-align-1-2-x"):
        (tmp_path / "wandb" / f"offline-run-20261130_120000-{identifier}").mkdir(parents=True)
    assert next_attempt("demo", "align", 1, tmp_path) == 2


@pytest.mark.parametrize("run", ["demo", "sweep/3", "name with spaces: é", "x" * 300])
def test_ids_are_accepted_by_file_systems_and_wandb(run: str) -> None:
    identifier = run_id(run, "continue", 12, 3)
    assert len(identifier) <= 119 and not set(identifier) & set("/\\#?%: ")
    assert identifier.endswith("-continue-12-3")
    assert run_id("demo", "pretrain", None, 1) == "demo-pretrain-1"


def test_jobs_of_a_sweep_are_one_group() -> None:
    assert [group_of(run) for run in ("demo", "sweep/0", "sweep/13")] == ["demo", "sweep", "sweep"]


def test_unknown_kind_names_the_choices(tmp_path: Path) -> None:
    cfg = LoggerConfig(kind="tensorboard")  # type: ignore[arg-type]
    with (
        pytest.raises(ConfigError, match=r"logger.kind=tensorboard.*wandb, csv or none"),
        tracked(cfg, "demo", "align", 1, tmp_path),
    ):
        pass


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from interp_by_construction.config import LoggerConfig
import test_tracking
test_tracking.use(LoggerConfig(kind="wandb"), Path(sys.argv[1]))
test_tracking.use(LoggerConfig(kind="wandb"), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_wandb_offline_needs_no_account_and_is_silent(tmp_path: Path) -> None:
    """In a process of its own: W&B keeps a service and environment variables for the life of a
    process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment["HOME"] = str(tmp_path / "home")
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "logs")]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and "wandb" not in done.stderr.lower(), done.stderr
    runs = sorted(path.name for path in (tmp_path / "logs" / "wandb").glob("offline-run-*"))
    ids = [name.rpartition("demo-")[2].rpartition("-") for name in runs]
    assert [attempt for attempt, _, _ in ids] == ["align-1-1", "align-1-2"]
    # No two runs of a project may have the same id, on whatever machine they are made.
    assert len({mark for _, _, mark in ids}) == 2
    files = list((tmp_path / "logs").rglob("*.wandb"))
    assert len(files) == 2
    # Offline runs are binary transaction logs; group, job type and the table's name stand in them
    # as plain text.
    content = files[0].read_bytes()
    assert all(
        word in content
        for word in (b"demo", b"align", b"nodes", b"score/final", b"weight", b"jobs_chart")
    )
    assert not (root / "wandb").exists()


def test_tracked_closes_the_logger_when_the_stage_fails(tmp_path: Path) -> None:
    cfg = LoggerConfig(kind="csv")

    def stage() -> None:
        with tracked(cfg, "demo", "align", 0, tmp_path) as logger:
            assert logger is not False
            logger.log_metrics({"loss": 2.0}, step=0)
            raise RuntimeError("stage")

    with pytest.raises(RuntimeError, match="stage"):
        stage()
    assert "2.0" in (tmp_path / "csv" / "demo-align-0-1" / "metrics.csv").read_text()
    finish(False)
