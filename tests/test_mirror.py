"""What W&B gets of runs and sweeps: the figures of the report's chart, each once, and again only
where logging failed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from interp_by_construction.config import Config, compose, to_dict
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.run_files import SCHEMA
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError
from interp_by_construction.report import mirror
from interp_by_construction.report.facts import read_job
from interp_by_construction.report.pareto import Point, points_of
from interp_by_construction.sweeps.record import SweepDirectory


def layer(index: int, score: float | None, n: int, truth: dict[str, Any] | None) -> dict[str, Any]:
    scores = {moment: {"mean": score, "ci95": None, "n": n} for moment in ("before", "final")}
    counts = dict.fromkeys(("n_nodes", "n_free", "n_failed_labels", "n_distinct_labels"), 0) | {
        "n_aligned": n
    }
    return {
        "layer": index,
        "score": scores,
        "truth": truth,
        "seconds": {},
        "artifacts": {},
    } | counts


LAYERS = [layer(1, 0.5, 1, {"r_mean": 0.2, "n": 1}), layer(2, 0.8, 3, {"r_mean": 0.6, "n": 3})]
UNDEFINED = [*LAYERS, layer(3, None, 0, {"r_mean": None, "n": 0})]


def write_run(
    path: Path, cfg: Config, layers: list[dict[str, Any]], tax_ci95: list[float] | None
) -> Point:
    """A run that is complete, by what is read of it here; returns its point in the report's
    chart."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(to_dict(cfg)))
    loss = {
        "original": 1.0,
        "control": 1.1,
        "freeze_only": 1.15,
        "final": 1.2,
        "tax": 0.1,
        "tax_ci95": tax_ci95,
    }
    rest = {"run": path.name, "subject": {}, "labeler": {}, "invariants": {}}
    (path / "summary.json").write_text(
        json.dumps({"schema": SCHEMA, "complete": True, "loss": loss, "layers": layers, **rest})
    )
    facts = read_job(RunDirectory(path), Store(cfg.store_dir)).facts
    assert facts is not None
    return points_of([(facts, "")])[0]


@pytest.mark.parametrize(
    ("layers", "score", "truth"), [(LAYERS, 0.65, 0.4), (UNDEFINED, None, None)]
)
def test_a_run_has_the_figures_of_the_chart(
    layers: list[dict[str, Any]], score: float | None, truth: float | None, tmp_path: Path
) -> None:
    """Layers count alike, however many nodes they have, and a layer without a score is not left
    out."""
    cfg = compose([f"paths.root={tmp_path}", "run=one", "logger=csv"])
    point = write_run(tmp_path / "runs" / "one", cfg, layers, [0.05, 0.15])
    mirror.log_result(cfg, RunDirectory(tmp_path / "runs" / "one"))
    logged = json.loads((tmp_path / "runs/one/logs/csv/one-result-1/summary.json").read_text())
    assert (point.score, point.truth) == (
        score and pytest.approx(score),
        truth and pytest.approx(truth),
    )
    assert (logged["score_final"], logged["truth"]) == (point.score, point.truth)
    assert (logged["tax"], logged["tax_low"], logged["tax_high"]) == (
        point.tax,
        *(point.tax_ci95 or ()),
    )
    assert (
        logged["control"] == 1.1
        and logged["control_kind"] == "none"
        and logged["score_before"] == point.score
    )


def test_the_table_of_a_sweep_has_intervals_and_marks_controls(tmp_path: Path) -> None:
    overrides = [["align.target=label"], ["align.target=random"], ["align.weight=0"]]
    sweep = SweepDirectory(tmp_path / "runs" / "s")
    sweep.plan(overrides)
    base = [f"paths.root={tmp_path}", "run=s", "logger=csv"]
    for number, given in enumerate(overrides):
        write_run(
            sweep.path / str(number),
            compose([*base, *given]),
            LAYERS,
            None if number == 1 else [0.05, 0.15],
        )
    mirror.log_sweep(compose(base), sweep)
    with (sweep.path / "logs/csv/s-sweep-1/jobs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["control_kind"] for row in rows] == ["none", "random targets", "no alignment loss"]
    assert [(row["tax"], row["tax_low"], row["tax_high"]) for row in rows][:2] == [
        ("0.1", "0.05", "0.15"),
        ("0.1", "", ""),
    ]
    assert [(row["job"], row["align.target"]) for row in rows] == [
        ("0", "label"),
        ("1", "random"),
        ("2", ""),
    ]
    assert list(rows[0])[:2] == ["score_final", "tax"], "x and y of the chart"


def test_what_could_not_be_logged_is_logged_by_the_next_call_and_then_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose([f"paths.root={tmp_path}", "run=one", "logger=csv"])
    write_run(tmp_path / "runs" / "one", cfg, LAYERS, None)
    run, works = RunDirectory(tmp_path / "runs" / "one"), mirror.tracked

    @contextmanager
    def fails(*_: Any) -> Iterator[None]:
        raise ConfigError("logger.mode=online: W&B cannot start")
        yield

    monkeypatch.setattr(mirror, "tracked", fails)
    with pytest.raises(ConfigError):
        mirror.log_result(cfg, run)
    monkeypatch.setattr(mirror, "tracked", works)
    for _ in range(3):
        mirror.log_result(cfg, run)
    assert [path.name for path in (run.path / "logs" / "csv").iterdir()] == ["one-result-1"]
