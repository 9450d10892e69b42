"""Recipes of everything that is measured and changes nothing: losses, scores, what nodes do, audit,
judges."""

from __future__ import annotations

from typing import Any

from interp_by_construction.engine.stage import Stage
from interp_by_construction.engine.store import Artifact
from interp_by_construction.schedules.workshop import Layer, Workshop, given
from interp_by_construction.stages import LayerStages


class ScoreRecipes(Workshop):
    """Each but `_losses` takes a layer that is done."""

    def _losses(self, model: Artifact) -> Artifact:
        from interp_by_construction.stages.losses import Losses

        return self._make_stage(Losses.of(self.cfg, given(self.shared["corpus"]), given(model)))

    def _moments(self, layer: Layer) -> dict[str, Artifact]:
        """The models that the scores of a layer compare."""
        lower = None if self._together else self._lower(layer)
        before = self._origin if lower is None else lower.artifacts["continue"]
        if not self._together:
            # Where a dictionary was put in, there are no such nodes before.
            before = layer.artifacts.get("dictionary", before)
        return {
            "before": before,
            "after": layer.artifacts["align"],
            "final": self.layers[-1].artifacts["continue"],
        }

    def _seen(self, layer: Layer) -> LayerStages:
        """A layer as measurements see it."""
        moments = {moment: given(each) for moment, each in self._moments(layer).items()}
        below = self.layers[: self.layers.index(layer)]
        return LayerStages(
            index=layer.index,
            together=self._together,
            corpus=given(self.shared["corpus"]),
            original=given(self.shared["subject"]),
            stages={name: given(each) for name, each in layer.artifacts.items()},
            shared={name: given(each) for name, each in self.shared.items()},
            settled=given(self._aligned_model(layer)),
            below=tuple(self._seen(each) for each in below),
            **moments,
        )

    def _measured(self, kind: Any, layer: Layer) -> None:
        """Makes what a kind of stage measures of a layer, if the configuration has it."""
        stage: Stage[Any] | None = kind.examine(self.cfg, self._seen(layer))
        if stage is not None:
            layer.artifacts[stage.name] = self._make_stage(stage)

    def _of_run(self, kind: Any) -> None:
        """The same of all layers at once."""
        stage: Stage[Any] | None = kind.of(self.cfg, tuple(map(self._seen, self.layers)))
        if stage is not None:
            self.shared[stage.name] = self._make_stage(stage)
