"""`ibc run`: from a configuration to the graph of a run, and from the graph to finished artifacts.

The graph is known before anything is computed. What is missing of it is computed in its order; what
is there is linked. So the same command goes on after a kill, and a run grows layer by layer.
"""

from __future__ import annotations

import logging
import time

from interp_by_construction.config import Config
from interp_by_construction.engine.disk import disk_errors
from interp_by_construction.engine.locks import check_locks, file_system, own_name
from interp_by_construction.engine.made_with import mixtures
from interp_by_construction.engine.progress import shown_seconds
from interp_by_construction.engine.run_directory import RunDirectory, near, place_of
from interp_by_construction.engine.seal import seal
from interp_by_construction.engine.session import Session, open_engine
from interp_by_construction.labelling.room import check_room
from interp_by_construction.llm.early import early_servers
from interp_by_construction.results.finished import Finished
from interp_by_construction.results.summary import write_results
from interp_by_construction.schedules.endpoints import check_endpoints
from interp_by_construction.schedules.graph import RunGraph
from interp_by_construction.schedules.helper import helper
from interp_by_construction.schedules.layers import planned_layers
from interp_by_construction.schedules.outlook import Outlook
from interp_by_construction.schedules.plan import graph_of
from interp_by_construction.subject.load import layer_count

_LOG = logging.getLogger(__name__)


def run(cfg: Config, name: str | None = None) -> RunDirectory:
    """Computes what `cfg` asks for and is missing. name: of the run, if it is a job of a sweep."""
    directory = RunDirectory(place_of(cfg.runs_dir, name or cfg.run_name))
    _check_place(cfg)
    with disk_errors(directory.path), directory.lock():
        directory.adopt(cfg)
        layers = planned_layers(cfg, directory, layer_count(cfg.subject))
        graph = graph_of(cfg, layers)
        directory.write_plan(graph.plan())
        with open_engine(cfg, directory) as session:
            compute(cfg, directory, graph, session)
            write_results(directory, cfg, graph, session.engine)
        directory.finish()
        seal(directory)
    return directory


def _check_place(cfg: Config) -> None:
    """Raises StoreError where several processes could not work on the store, and warns where
    several machines would not notice each other."""
    check_locks(cfg.store_dir)
    if own_name(cfg.store_dir):
        _LOG.warning(
            "file locks in %s may hold for this machine alone (file system %s): other machines may "
            "compute the same at the same time, and ask the labeler the same; no result is damaged",
            cfg.store_dir,
            file_system(cfg.store_dir).kind,
        )


def compute(cfg: Config, directory: RunDirectory, graph: RunGraph, session: Session) -> None:
    """All that is missing, each stage with a line on the terminal. Servers start before they are
    needed, and a helper computes meanwhile what it can."""
    engine, runtime, lines = session
    began, ahead = time.monotonic(), Outlook.of(cfg, graph, engine.find, runtime)
    if ahead.missing:
        check_room(cfg)
    lines.begin(ahead.headline(directory.name, near(directory.log)), ahead.missing)
    check_endpoints(cfg, ahead, runtime)
    with early_servers(cfg.labeler, runtime) as start, helper(cfg, directory, ahead):
        for layer, link, stage in graph.links(ahead.first):
            start(ahead.servers_due(stage))
            artifact = engine.get(stage)
            lines.made(stage, artifact)
            directory.mark(layer, link, artifact.fingerprint)
    mixed = mixtures(Finished.of(graph, engine).every)
    if mixed:
        _LOG.warning(
            "this run mixes artifacts that were made with different %s; `ibc verify %s` lists them",
            "; ".join(map(str, mixed)),
            directory.name,
        )
    if ahead.missing:
        took, wanted = (shown_seconds(n) for n in (time.monotonic() - began, ahead.seconds))
        _LOG.info("all stages took %s (estimated %s)", took, wanted)
