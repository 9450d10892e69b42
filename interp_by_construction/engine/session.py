"""An engine with all that it takes, for the time of one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from interp_by_construction.config import Config, to_dict
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.store import Store
from interp_by_construction.engine.tracking import tracked


@contextmanager
def open_engine(cfg: Config, directory: RunDirectory) -> Iterator[tuple[Engine, Runtime]]:
    """An engine on the run's store, and its runtime, which is closed at the end."""
    store, trainer, logs = Store(cfg.store_dir), cfg.trainer, directory.path / "logs"

    def tracker(stage: str, layer: int | None) -> AbstractContextManager[Any]:
        return tracked(cfg.logger, directory.name, stage, layer, logs, to_dict(cfg))

    runtime = Runtime(
        trainer.device,
        trainer.threads,
        cfg.labeler.threads,
        trainer.checkpoint_seconds,
        tracker,
        store.root / "calls.sqlite",
        logs,
    )
    try:
        yield Engine(store, runtime, directory.announce), runtime
    finally:
        runtime.close()


def reading_runtime(cfg: Config, store: Store) -> Runtime:
    """For what reads a finished run, maybe on another machine than it ran on: without a logger, and
    on a GPU only where there is one."""
    trainer = cfg.trainer
    return Runtime(
        "auto" if trainer.device == "cuda" else trainer.device,
        trainer.threads,
        cfg.labeler.threads,
        trainer.checkpoint_seconds,
        lambda _stage, _layer: nullcontext(False),
        store.root / "calls.sqlite",
        store.root / "logs",
    )
