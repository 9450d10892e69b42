"""An engine with all that it takes, for the time of one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

from interp_by_construction.config import Config, to_dict
from interp_by_construction.engine.chatter import run_log
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.stage import Stage
from interp_by_construction.engine.stage_lines import StageLines
from interp_by_construction.engine.store import Store
from interp_by_construction.engine.tracking import tracked


class Session(NamedTuple):
    """What a command computes with."""

    engine: Engine
    runtime: Runtime
    lines: StageLines


@contextmanager
def open_engine(cfg: Config, directory: RunDirectory, announced: bool = True) -> Iterator[Session]:
    """An engine on the run's store, and its runtime, which is closed at the end. What libraries say
    meanwhile goes to the run's log. announced: whether the run's state says what is computed, which
    only the process that holds the run's lock may write."""
    store, trainer, lines = Store(cfg.store_dir), cfg.trainer, StageLines()

    def tracker(stage: str, layer: int | None) -> AbstractContextManager[Any]:
        return tracked(cfg.logger, directory.name, stage, layer, directory.logs, to_dict(cfg))

    @contextmanager
    def watch(stage: Stage[Any]) -> Iterator[None]:
        if announced:
            directory.announce(stage.name, stage.shown_layer)
        with lines.running(stage):
            yield

    runtime = Runtime(
        trainer.device,
        trainer.threads,
        cfg.labeler.threads,
        trainer.checkpoint_seconds,
        tracker,
        store.calls,
        directory.logs,
    )
    with run_log(directory.log):
        try:
            yield Session(Engine(store, runtime, watch, lines.waiting), runtime, lines)
        finally:
            runtime.close()


def reading_runtime(cfg: Config, store: Store) -> Runtime:
    """For what reads a finished run, maybe on another machine than it ran on: without a logger, and
    on a GPU only where there is one."""
    trainer = cfg.trainer
    return Runtime(
        "cpu" if trainer.device == "cpu" else "auto",
        trainer.threads,
        cfg.labeler.threads,
        trainer.checkpoint_seconds,
        lambda _stage, _layer: nullcontext(False),
        store.calls,
        store.root / "logs",
    )
