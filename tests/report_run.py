"""Runs that the tests of the report share: two layers matched with a head, and a sweep of copies of
it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from interp_by_construction.engine.run_directory import RunDirectory


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Figures for papers become empty files. Drawing them takes longer than all the pages."""
    patch.setattr(Figure, "savefig", lambda _figure, file, **_: file.touch())


def copy_of(run: RunDirectory, name: str) -> RunDirectory:
    """The same run under another name, without its report."""
    path = run.path.parent / name
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(run.path, path, ignore=shutil.ignore_patterns("report", ".lock"))
    return RunDirectory(path)


def make_sweep(root: Path, run: RunDirectory, config_of_job: str) -> None:
    """`runs/sweep`: job 0 is done, 1 has failed, 2 never began, 3 is a copy of 0 under another seed
    and weight."""
    sweep = root / "runs" / "sweep"
    shutil.rmtree(sweep, ignore_errors=True)
    for job in (0, 3):
        shutil.copytree(
            run.path, sweep / str(job), ignore=shutil.ignore_patterns("report", ".lock")
        )
    (sweep / "1").mkdir()
    (sweep / "1" / "error.txt").write_text("align.lr=9: the loss became nan at step 3\n")
    (sweep / "3" / "config.yaml").write_text(config_of_job)
