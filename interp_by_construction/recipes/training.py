"""Recipes of models: align, freeze, continue, and the two comparisons."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from interp_by_construction.store import SCRATCH, Artifact
from interp_by_construction.workshop import Layer, Workshop


class TrainingRecipes(Workshop):
    """Each takes the layer and the model before it."""

    def _align(self, layer: Layer, before: Artifact) -> Artifact:
        cfg = self.cfg
        parents = self._parents(model=before, simulate=layer.artifacts["simulate"])

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import align

            targets, corpus = layer.artifacts["simulate"].path, self.shared["corpus"].path
            with self._tracked("align", layer.index) as logger:
                return align.run(
                    before.path / "model", corpus, targets, layer.index, cfg.align, cfg.trainer, cfg.seed, self._first(layer),
                    self._below(layer), out, out / SCRATCH, logger,
                )  # fmt: skip

        config = self._phase(layer) | {"align": dataclasses.asdict(cfg.align), "start_layer": self._first(layer)}
        config |= {"below": self._below(layer)}
        return self._build("align", layer.index, config, parents, {}, compute)

    def _freeze(self, layer: Layer, before: Artifact) -> Artifact:
        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import freeze

            aligned = self._aligned(layer)
            return freeze.run(model.path / "model", self.shared["corpus"].path, layer.index, aligned, out)

        model = self._aligned_model(layer)
        parents = self._parents(model=model, label=layer.labels)
        return self._build("freeze", layer.index, {"layer": layer.index}, parents, {}, compute)

    def _continue(self, layer: Layer, before: Artifact) -> Artifact:
        cfg = self.cfg

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import continue_training

            model, corpus = layer.artifacts["align"].path / "model", self.shared["corpus"].path
            with self._tracked("continue", layer.index) as logger:
                return continue_training.run(
                    model,
                    corpus,
                    layer.index,
                    self._aligned(layer),
                    cfg.continue_,
                    cfg.trainer,
                    cfg.seed,
                    out,
                    out / SCRATCH,
                    logger,
                )

        parents = self._parents(model=layer.artifacts["align"], freeze=layer.artifacts["freeze"])
        config = self._phase(layer) | {"continue": dataclasses.asdict(cfg.continue_)}
        return self._build("continue", layer.index, config, parents, {}, compute)

    def _control(self, layer: Layer, before: Artifact) -> Artifact:
        """Same tokens, order, schedules; nothing aligned, nothing frozen. Knows no label, so that sweeps share it."""
        lower = self._lower(layer)
        previous = lower.artifacts["control"] if lower is not None else self.shared["subject"]
        return self._comparison("control", layer, previous, "none", {})

    def _freeze_only(self, layer: Layer, before: Artifact) -> Artifact:
        """Same freezing of the same nodes, no alignment."""
        lower = self._lower(layer)
        previous = lower.artifacts["freeze_only"] if lower is not None else self.shared["subject"]
        frozen = {"below": self._below(layer), "aligned": self._aligned(layer), "start_layer": self._first(layer)}
        return self._comparison("freeze_only", layer, previous, "freeze_only", frozen)

    def _comparison(
        self, stage: str, layer: Layer, previous: Artifact, frozen: Literal["none", "freeze_only"], extra: dict[str, Any]
    ) -> Artifact:
        cfg = self.cfg

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import control

            with self._tracked(stage, layer.index) as logger:
                return control.run(
                    previous.path / "model", self.shared["corpus"].path, layer.index, cfg.align, cfg.continue_, cfg.trainer,
                    cfg.seed, self._n_target_blocks(), frozen, self._aligned(layer), self._below(layer), self._first(layer), out,
                    out / SCRATCH, logger,
                )  # fmt: skip

        align = dataclasses.asdict(cfg.align)
        align.pop("weight")
        config = self._phase(layer) | {"align": align, "continue": dataclasses.asdict(cfg.continue_), **extra}
        config |= {"max_align_tokens": cfg.simulate.max_align_tokens, "any_aligned": bool(self._aligned(layer))}
        return self._build(stage, layer.index, config, self._parents(model=previous), {}, compute)
