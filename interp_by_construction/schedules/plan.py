"""From a configuration to the graph of its run."""

from __future__ import annotations

from collections.abc import Sequence

from interp_by_construction.config import Config
from interp_by_construction.schedules.graph import RunGraph
from interp_by_construction.schedules.joint import joint
from interp_by_construction.schedules.loop import loop
from interp_by_construction.simulators import check as check_simulator

SCHEDULES = {"sequential": loop, "joint": joint}


def graph_of(cfg: Config, layers: Sequence[int]) -> RunGraph:
    """The stages of a run over `layers`, lowest first. Computes nothing.

    Raises ConfigError or another IbcError for a model, a head or a transcoder on disk that is
    missing or does not fit.
    """
    check_simulator(cfg)
    return SCHEDULES[cfg.schedule](cfg, layers)
