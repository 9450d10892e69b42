"""Finished runs and parts of runs that many tests need. Each is made once in a session of pytest,
by whichever of its processes asks first. Sessions share those below the folder that
`IBC_TEST_STOCK` names.

Three ways to save a whole run:

1. `head` and `plain` give a test file its own copy of a finished run, which it may damage.
2. `link` lets several files compute into one store, where equal stages are computed once. For
   runs that ask a `FakeServer` as it is, and for tests that damage nothing.
3. `begin` copies what a run needs before it asks the labeler. For runs whose labeler answers
   otherwise: answers are in no fingerprint.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer
from filelock import FileLock
from random_head import write_random_head
from small_run import config, matched
from stage_jobs import ancestry

from interp_by_construction import pipeline
from interp_by_construction.config import Config
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.seal import seal
from interp_by_construction.engine.session import open_engine
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.report.viewer import build_viewer
from interp_by_construction.schedules.layers import planned_layers
from interp_by_construction.schedules.plan import graph_of
from interp_by_construction.simulators.head import Head
from interp_by_construction.stages import all_stages
from interp_by_construction.subject.load import layer_count

STOCK_KEY = "stock-canary-9b3c"
"""The key of the labeler of `plain`, which no file may hold."""


class Stock:
    """What the tests of a session share, in one folder of the session."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        base = factory.getbasetemp()
        # The processes of pytest-xdist have folders beside each other.
        own = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        self.folder = Path(os.environ.get("IBC_TEST_STOCK", own)) / "stock"
        self.folder.mkdir(exist_ok=True)

    def plain(self, root: Path) -> RunDirectory:
        """A copy of `small` below `root`: two layers without a head."""

        def make(new: Path) -> None:
            with FakeServer(api_key=STOCK_KEY) as server, pytest.MonkeyPatch.context() as patch:
                patch.setenv("IBC_LABELER_API_KEY", STOCK_KEY)
                self._publish(pipeline.run(config(server, new)))

        return self._copy("plain", make, root)

    def head(self, root: Path) -> RunDirectory:
        """A copy of `small` below `root`: two layers matched with `head.safetensors`."""

        def make(new: Path) -> None:
            head = write_random_head(new / "head.safetensors")
            beside = Head.load(head)
            write_random_head(new / "second.safetensors", seed=1, layers=(2,), beside=beside)
            with FakeServer() as server:
                self._publish(pipeline.run(self.begin(matched(server, new, head))))

        return self._copy("head", make, root)

    def viewed(self, root: Path) -> RunDirectory:
        """The same, with the artifacts that a report makes."""

        def make(new: Path) -> None:
            run = self.head(new)
            facts = RunFacts(run, run.finished_summary(), run.store)
            for layer in facts.layers:
                build_viewer(facts, layer)

        return self._copy("viewed", make, root)

    def link(self, root: Path) -> Path:
        """Makes the stages' folders in the store of `root` those of the session; returns `root`.
        The cache of calls is its own."""
        (root / "store").mkdir()
        for stage in all_stages():
            (self.folder / "store" / stage).mkdir(parents=True, exist_ok=True)
            (root / "store" / stage).symlink_to(self.folder / "store" / stage)
        return root

    def begin(self, cfg: Config) -> Config:
        """Copies into the run's store what it needs and what depends on no label; returns `cfg`."""
        common = dataclasses.replace(
            cfg, paths=dataclasses.replace(cfg.paths, root=str(self.folder))
        )
        mine = RunDirectory(self.folder / "runs" / f"begun-{os.getpid()}")
        mine.logs.mkdir(parents=True, exist_ok=True)
        layers = planned_layers(
            cfg, RunDirectory(cfg.runs_dir / cfg.run_name), layer_count(cfg.subject)
        )
        with open_engine(common, mine) as session:
            for _, _, stage in graph_of(cfg, layers).links():
                if not any(each.name == "label" for each in ancestry([stage])):
                    made, own = session.engine.get(stage), cfg.store_dir / stage.name
                    if not (own / made.fingerprint).exists():
                        shutil.copytree(made.path, own / made.fingerprint)
        return cfg

    def _copy(self, name: str, make: Callable[[Path], Any], root: Path) -> RunDirectory:
        whole = self.folder / name
        with FileLock(f"{whole}.lock"):
            if not (whole / "made").is_file():
                shutil.rmtree(whole, ignore_errors=True)
                whole.mkdir()
                make(whole)
                (whole / "made").touch()
        # Without the cache of calls: who asks is counted.
        left = shutil.ignore_patterns("made", ".*lock", "calls.*")
        shutil.copytree(whole, root, dirs_exist_ok=True, ignore=left)
        run = RunDirectory(root / "runs" / "small")
        # Its configuration names its root and its head.
        saved = run.path / "config.yaml"
        saved.write_text(saved.read_text().replace(str(whole), str(root)))
        seal(run)
        return run

    def _publish(self, run: RunDirectory) -> None:
        """Adds what a run computed to the store of the session."""
        for stage, fingerprint in run.artifacts:
            final = self.folder / "store" / stage / fingerprint
            final.parent.mkdir(parents=True, exist_ok=True)
            # The store's own lock: another process may be computing the same.
            with FileLock(final.with_name(f".{fingerprint}.lock")):
                if not final.exists():
                    new = final.with_name(f".{fingerprint}.new")
                    shutil.copytree(run.store.path(stage, fingerprint), new)
                    new.replace(final)
