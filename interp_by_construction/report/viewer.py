"""The viewer artifact of a layer of a finished run: made when a report is written, found again by
the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interp_by_construction.config import Config
from interp_by_construction.engine.store import Artifact, Recipe
from interp_by_construction.errors import StoreError
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.schedules.workshop import VERSIONS


def build_viewer(facts: RunFacts, layer: int) -> Artifact:
    """Raises StoreError where an artifact of the run is gone."""
    cfg = facts.config
    if cfg is None:
        raise StoreError(
            f"{facts.path / 'config.yaml'} is missing: the report needs it to find the run's text"
        )
    artifacts = facts.artifacts(layer)
    position = facts.layers.index(layer)
    sides = {
        "below": facts.layers[position - 1 : position] if position else [],
        "above": facts.layers[position + 1 : position + 2],
    }
    neighbours = {side: found[0] for side, found in sides.items() if found}
    model = facts.model(layer, "final")
    parents = {"corpus": facts.shared("corpus").fingerprint, "model": model.fingerprint}
    parents |= {"simulate": artifacts["simulate"].fingerprint}
    parents |= {side: facts.labels(index).fingerprint for side, index in neighbours.items()}
    if "function" in artifacts:
        parents["function"] = artifacts["function"].fingerprint
    config = {"layer": layer, "neighbours": neighbours, "n_promoted": cfg.function.n_promoted}
    recipe = Recipe("viewer", VERSIONS["viewer"], config, parents, {})

    def compute(out: Path) -> dict[str, Any]:
        from interp_by_construction.engine.device import resolve_device
        from interp_by_construction.labelling.labels import read_labels
        from interp_by_construction.stages import viewer
        from interp_by_construction.subject.nodes import read_promoted

        beside = {
            side: viewer.Neighbour(index, read_labels(facts.labels(index).path))
            for side, index in neighbours.items()
        }
        promoted = read_promoted(artifacts["function"].path) if "function" in artifacts else {}
        return viewer.run(
            model.path / "model",
            facts.shared("corpus").path,
            artifacts["simulate"].path,
            layer,
            cfg.simulate,
            beside.get("below"),
            beside.get("above"),
            list(promoted),
            cfg.function.n_promoted,
            out,
            _device(cfg, resolve_device),
        )

    return facts.store.build(recipe, compute)


def _device(cfg: Config, resolve: Any) -> Any:
    """A report may be written on another machine than the run."""
    return resolve("auto" if cfg.trainer.device == "cuda" else cfg.trainer.device)
