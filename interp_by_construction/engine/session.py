"""An engine with all that it takes, for the time of one command."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from interp_by_construction.config import Config, to_dict
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.store import Store
from interp_by_construction.engine.tracking import tracked


@contextmanager
def open_engine(cfg: Config, directory: RunDirectory) -> Iterator[tuple[Engine, Runtime]]:
    """An engine on the run's store, and its runtime. What that opened, servers included, is closed
    at the end."""
    store, trainer = Store(cfg.store_dir), cfg.trainer
    runtime = Runtime(
        trainer.device,
        trainer.threads,
        cfg.labeler.threads,
        trainer.checkpoint_seconds,
        functools.partial(_tracked, cfg, directory),
        store.root / "calls.sqlite",
        directory.path / "logs",
    )
    try:
        yield Engine(store, runtime, directory.announce), runtime
    finally:
        runtime.close()


def _tracked(
    cfg: Config, directory: RunDirectory, stage: str, layer: int | None
) -> AbstractContextManager[Any]:
    logs = directory.path / "logs"
    return tracked(cfg.logger, directory.name, stage, layer, logs, to_dict(cfg))
