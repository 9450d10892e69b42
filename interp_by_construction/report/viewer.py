"""Makes the viewer artifact of a layer of a finished run."""

from __future__ import annotations

from contextlib import nullcontext

from interp_by_construction.config import Config, TextAmounts, only
from interp_by_construction.engine.engine import Engine, given
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.stage_lines import StageLines
from interp_by_construction.engine.store import Artifact, Store
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
    return Engine(facts.store, _runtime(cfg, facts.store), StageLines().running).get(stage)


def _runtime(cfg: Config, store: Store) -> Runtime:
    """For another machine than the run's, and without a logger."""
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
