"""The viewer artifact of a layer of a finished run. The first report makes it."""

from __future__ import annotations

from interp_by_construction.config import TextAmounts, only
from interp_by_construction.engine.engine import Engine, given
from interp_by_construction.engine.session import reading_runtime
from interp_by_construction.engine.store import Artifact
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.simulators.handle import simulator_of
from interp_by_construction.stages.viewer import Viewer


def build_viewer(facts: RunFacts, layer: int) -> Artifact:
    """Raises StoreError where an artifact of the run is gone."""
    cfg = facts.config
    artifacts = facts.artifacts(layer)
    position = facts.layers.index(layer)
    neighbours: dict[str, int] = {}
    if position:
        neighbours["below"] = facts.layers[position - 1]
    if position + 1 < len(facts.layers):
        neighbours["above"] = facts.layers[position + 1]
    stage = Viewer(
        corpus=given(facts.shared("corpus")),
        simulate=given(artifacts["simulate"]),
        layer=layer,
        simulator=simulator_of(cfg),
        texts=only(TextAmounts, cfg.simulate),
        model=given(facts.model(layer, "final")),
        function=given(artifacts["function"]) if "function" in artifacts else None,
        neighbours={side: given(facts.labels(index)) for side, index in neighbours.items()},
        neighbour_layers=neighbours,
        n_promoted=cfg.function.n_promoted,
    )
    return Engine(facts.store, reading_runtime(cfg, facts.store), lambda _stage, _layer: None).get(
        stage
    )
