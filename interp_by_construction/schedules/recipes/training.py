"""Recipes of models: align, freeze, continue, and the two comparisons."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from interp_by_construction.config import NEUTRAL, AlignConfig, fingerprinted
from interp_by_construction.engine.store import SCRATCH, Artifact
from interp_by_construction.schedules.recipes.dictionaries import DictionaryRecipes
from interp_by_construction.schedules.workshop import Layer, given


class TrainingRecipes(DictionaryRecipes):
    """Each takes the layer and the model before it."""

    def _align(self, layer: Layer, before: Artifact) -> Artifact:
        cfg = self.cfg
        parents = self._parents(
            model=before, simulate=layer.artifacts["simulate"], **self._teacher()
        )

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import align

            targets, corpus = layer.artifacts["simulate"].path, self.shared["corpus"].path
            with self._tracked("align", layer.index) as logger:
                return align.run(
                    before.path / "model",
                    corpus,
                    targets,
                    layer.index,
                    cfg.align,
                    cfg.trainer,
                    cfg.seed,
                    self._first(layer),
                    self._below(layer),
                    out,
                    out / SCRATCH,
                    logger,
                    self.shared["subject"].path / "model",
                    cfg.free.count,
                )

        config = self._phase(layer) | {
            "align": fingerprinted(cfg.align),
            "start_layer": self._first(layer),
        }
        config |= {"below": self._below(layer)} | self._widening()
        return self._build("align", layer.index, config, parents, {}, compute)

    def _freeze(self, layer: Layer, before: Artifact) -> Artifact:
        from interp_by_construction.stages.freeze import Freeze

        corpus, model, labels = map(
            given, (self.shared["corpus"], self._aligned_model(layer), layer.labels)
        )
        return self._make_stage(Freeze(corpus, model, labels, layer.index))

    def _continue(self, layer: Layer, before: Artifact) -> Artifact:
        cfg = self.cfg

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import continue_ as continue_training

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
                    self.shared["subject"].path / "model",
                    cfg.align.distill,
                    cfg.align.ablate_free,
                )

        parents = self._parents(
            model=layer.artifacts["align"], freeze=layer.artifacts["freeze"], **self._teacher()
        )
        config = self._phase(layer) | {"continue": dataclasses.asdict(cfg.continue_)}
        knobs = {"distill": cfg.align.distill, "ablate_free": cfg.align.ablate_free}
        config |= {name: value for name, value in knobs.items() if value}
        return self._build("continue", layer.index, config, parents, {}, compute)

    def _control(self, layer: Layer, before: Artifact) -> Artifact:
        """Same tokens, order, schedules; nothing aligned, nothing frozen. Knows no label, so that
        sweeps share it."""
        return self._comparison("control", layer, self._previous("control", layer), "none", {})

    def _freeze_only(self, layer: Layer, before: Artifact) -> Artifact:
        """Same freezing of the same nodes, no alignment."""
        frozen = {
            "below": self._below(layer),
            "aligned": self._aligned(layer),
            "start_layer": self._first(layer),
        }
        return self._comparison(
            "freeze_only", layer, self._previous("freeze_only", layer), "freeze_only", frozen
        )

    def _comparison(
        self,
        stage: str,
        layer: Layer,
        previous: Artifact,
        frozen: Literal["none", "freeze_only"],
        extra: dict[str, Any],
    ) -> Artifact:
        cfg = self.cfg

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import control

            with self._tracked(stage, layer.index) as logger:
                return control.run(
                    previous.path / "model",
                    self.shared["corpus"].path,
                    layer.index,
                    cfg.align,
                    cfg.continue_,
                    cfg.trainer,
                    cfg.seed,
                    self._n_target_blocks(),
                    frozen,
                    self._aligned(layer),
                    self._below(layer),
                    self._first(layer),
                    out,
                    out / SCRATCH,
                    logger,
                    self.shared["subject"].path / "model",
                    cfg.free.count,
                )

        # What is about labels does not touch it, so that runs with any knob are measured against
        # one and the same control.
        about_labels = ("weight", *NEUTRAL[AlignConfig])
        align = {
            key: value
            for key, value in dataclasses.asdict(cfg.align).items()
            if key not in about_labels
        }
        config = self._phase(layer) | {
            "align": align,
            "continue": dataclasses.asdict(cfg.continue_),
            **extra,
        }
        config |= {
            "max_align_tokens": cfg.simulate.max_align_tokens,
            "any_aligned": bool(self._aligned(layer)),
        }
        config |= self._widening() | self._distilled()
        return self._build(
            stage,
            layer.index,
            config,
            self._parents(model=previous, **self._teacher()),
            {},
            compute,
        )
