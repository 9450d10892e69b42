"""Makes the viewer artifact of a layer of a finished run."""

from __future__ import annotations

from interp_by_construction.config import TextAmounts, only
from interp_by_construction.engine.engine import Engine, given
from interp_by_construction.engine.session import reading_runtime
from interp_by_construction.engine.stage_lines import StageLines
from interp_by_construction.engine.store import Artifact
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.report.viewed import neighbours_of, viewer_parents
from interp_by_construction.simulators.handle import simulator_of
from interp_by_construction.stages.viewer import Viewer


def build_viewer(facts: RunFacts, layer: int) -> Artifact:
    """The artifact, which is computed if it is missing. Raises StoreError where an artifact of the
    run is gone."""
    cfg, parents = facts.config, viewer_parents(facts, layer)
    neighbours = neighbours_of(facts, layer)
    stage = Viewer(
        corpus=given(parents["corpus"]),
        simulate=given(parents["simulate"]),
        layer=layer,
        simulator=simulator_of(cfg),
        texts=only(TextAmounts, cfg.simulate),
        model=given(parents["model"]),
        function=given(parents["function"]) if "function" in parents else None,
        neighbours={side: given(parents[f"neighbours_{side}"]) for side in neighbours},
        neighbour_layers=neighbours,
        n_promoted=cfg.function.n_promoted,
    )
    return Engine(facts.store, reading_runtime(cfg, facts.store), StageLines().running).get(stage)
