"""`ibc run`: from a configuration to the graph of a run, and from the graph to finished artifacts.

The graph is known before anything is computed. What is missing of it is computed in its order; what
is there is linked. So the same command goes on after a kill, and a run grows layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence

from interp_by_construction.config import Config
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.session import open_engine
from interp_by_construction.results.summary import write_results
from interp_by_construction.schedules.graph import RunGraph
from interp_by_construction.schedules.joint import joint
from interp_by_construction.schedules.layers import planned_layers
from interp_by_construction.schedules.loop import loop
from interp_by_construction.simulators import check as check_simulator
from interp_by_construction.subject.load import layer_count

SCHEDULES = {"sequential": loop, "joint": joint}


def run(cfg: Config, name: str | None = None) -> RunDirectory:
    """Computes what `cfg` asks for and is missing. name: of the run, if it is a job of a sweep."""
    directory = RunDirectory(cfg.runs_dir / (name or cfg.run_name))
    with directory.lock():
        directory.adopt(cfg)
        layers = planned_layers(cfg, directory, layer_count(cfg.subject))
        graph = graph_of(cfg, layers)
        directory.write_plan(graph.plan())
        with open_engine(cfg, directory) as (engine, _):
            for layer, link, stage in graph.links():
                directory.mark(layer, link, engine.get(stage).fingerprint)
            write_results(directory, cfg, graph, engine)
        directory.finish()
    return directory


def graph_of(cfg: Config, layers: Sequence[int]) -> RunGraph:
    """The stages of a run over `layers`, lowest first. Computes nothing.

    Raises ConfigError or another IbcError for a model, a head or a transcoder on disk that is
    missing or does not fit.
    """
    check_simulator(cfg)
    return SCHEDULES[cfg.schedule](cfg, layers)
