"""`ibc run`: from a configuration to the graph of a run, and from the graph to finished artifacts.

The graph is known before anything is computed. What is missing of it is computed in its order; what
is there is linked. So the same command goes on after a kill, and a run grows layer by layer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from interp_by_construction.config import Config, to_dict
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.store import Store
from interp_by_construction.engine.tracking import tracked
from interp_by_construction.results.summary import write_results
from interp_by_construction.schedules.graph import RunGraph
from interp_by_construction.schedules.joint import joint
from interp_by_construction.schedules.layers import planned_layers
from interp_by_construction.schedules.loop import loop
from interp_by_construction.subject.load import layer_count

SCHEDULES = {"sequential": loop, "joint": joint}


def run(cfg: Config, name: str | None = None) -> RunDirectory:
    """Runs everything that `cfg` asks for and that does not exist yet; returns the run's
    directory. name: of the run, where it is not the configuration's (a job of a sweep)."""
    directory = RunDirectory(cfg.runs_dir / (name or cfg.run_name))
    with directory.lock():
        directory.adopt(cfg)
        layers = planned_layers(cfg, directory, layer_count(cfg.subject))
        graph = graph_of(cfg, layers)
        directory.write_plan(layers, graph.plan())
        with open_engine(cfg, directory) as engine:
            for layer, link, stage in graph.links():
                directory.mark(layer, link, engine.get(stage).fingerprint)
            write_results(directory, cfg, graph, engine)
        directory.finish(layers)
    return directory


def graph_of(cfg: Config, layers: Sequence[int]) -> RunGraph:
    """The stages of a run over `layers`, lowest first. Computes nothing.

    Raises ConfigError or another IbcError for a model, a head or a transcoder on disk that is
    missing or does not fit.
    """
    return SCHEDULES[cfg.schedule](cfg, layers)


@contextmanager
def open_engine(cfg: Config, directory: RunDirectory) -> Iterator[Engine]:
    """An engine on the run's store. What it opened, servers included, is closed at the end."""
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
        yield Engine(store, runtime, directory.announce)
    finally:
        runtime.close()


def _tracked(
    cfg: Config, directory: RunDirectory, stage: str, layer: int | None
) -> AbstractContextManager[Any]:
    logs = directory.path / "logs"
    return tracked(cfg.logger, directory.name, stage, layer, None, logs, to_dict(cfg))
