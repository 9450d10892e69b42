"""What all tests may ask for. Light to import, as some tests are about light imports."""

from __future__ import annotations

import importlib.metadata
import os
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stock import Stock

    from interp_by_construction.engine.run_directory import RunDirectory


# No test may reach the hub of models, and asking for it takes half a minute.
os.environ["HF_HUB_OFFLINE"] = "1"
# No test cuts the power, and a run waits for the disk for a tenth of its time.
os.fsync = lambda fd: None
# Each trainer asks for the plug-ins of all installed packages, which reads all their metadata.
importlib.metadata.entry_points = cache(importlib.metadata.entry_points)


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    from stock import Stock

    return Stock(tmp_path_factory)


@pytest.fixture
def few_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """`stage_jobs.compute` writes none: for tests that kill nothing, as one takes longer than a
    step."""
    import stage_jobs

    monkeypatch.setattr(stage_jobs, "runtime", partial(stage_jobs.runtime, seconds=3600.0))


@pytest.fixture(scope="session")
def shared_run(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunDirectory]:
    """The root and `runs/small` of one run for all tests of the report in a process. They may write
    its report and copies of it below `runs/`, and nothing else."""
    root = tmp_path_factory.mktemp("report")
    return root, stock.viewed(root)
