"""The viewer artifact of a layer of a finished run: made when a report is written, found again by
the next one."""

from __future__ import annotations

from contextlib import nullcontext

from interp_by_construction.config import Config, TextAmounts, only
from interp_by_construction.engine.engine import Engine, given
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.store import Artifact, Store
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.simulators.handle import simulator_of
from interp_by_construction.stages.viewer import Viewer


def build_viewer(facts: RunFacts, layer: int) -> Artifact:
    """Raises StoreError where an artifact of the run is gone."""
    cfg = facts.config
    artifacts = facts.artifacts(layer)
    position = facts.layers.index(layer)
    sides = {
        "below": facts.layers[position - 1 : position] if position else [],
        "above": facts.layers[position + 1 : position + 2],
    }
    neighbours = {side: found[0] for side, found in sides.items() if found}
    stage = Viewer(
        given(facts.shared("corpus")),
        given(facts.model(layer, "final")),
        given(artifacts["simulate"]),
        given(artifacts["function"]) if "function" in artifacts else None,
        {side: given(facts.labels(index)) for side, index in neighbours.items()},
        neighbours,
        layer,
        simulator_of(cfg),
        only(TextAmounts, cfg.simulate),
        cfg.function.n_promoted,
    )
    return Engine(facts.store, _runtime(cfg, facts.store), lambda _stage, _layer: None).get(stage)


def _runtime(cfg: Config, store: Store) -> Runtime:
    """A report may be written on another machine than the run; it tracks nothing."""
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
