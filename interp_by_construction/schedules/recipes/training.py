"""Recipes of models: align, freeze, continue, and the comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp_by_construction.engine.store import Artifact
from interp_by_construction.schedules.recipes.dictionaries import DictionaryRecipes
from interp_by_construction.schedules.workshop import Layer, given

if TYPE_CHECKING:
    from interp_by_construction.engine.stage import Stage
    from interp_by_construction.training.train import Setting


class TrainingRecipes(DictionaryRecipes):
    """Each takes the layer and the model before it. With schedule=joint the layers share one align
    artifact, and a layer's `continue` is its settling."""

    def _align(self, layer: Layer, before: Artifact) -> Artifact:
        from interp_by_construction.stages.align import Align

        aligned = self.layers if self._together else [layer]
        model = self._origin if self._together else before
        below = None if self._together else self._labels_below(layer)
        setting = self._setting(layer)
        return self._make_stage(Align.of(setting, given(model), _targets(aligned), below))

    def _freeze(self, layer: Layer, before: Artifact) -> Artifact:
        from interp_by_construction.stages.freeze import Freeze

        corpus, model, labels = map(
            given, (self.shared["corpus"], self._aligned_model(layer), layer.labels)
        )
        return self._make_stage(Freeze(corpus, model, labels, layer.index))

    def _continue(self, layer: Layer, before: Artifact) -> Artifact:
        from interp_by_construction.stages.continue_ import Continue

        model, labels = given(self._aligned_model(layer)), given(layer.labels)
        above = self.layers[self.layers.index(layer) + 1 :] if self._together else []
        setting, targets = self._setting(layer), _targets(above)
        return self._make_stage(Continue.of(setting, model, labels, layer.index, targets))

    def _control(self, layer: Layer, before: Artifact) -> Artifact:
        from interp_by_construction.stages.control import Control

        model = given(self._previous("control", layer))
        return self._make_stage(Control.of(self._setting(layer), model, layer.index))

    def _freeze_only(self, layer: Layer, before: Artifact) -> Artifact:
        from interp_by_construction.stages.freeze_only import FreezeOnly

        model, labels = given(self._previous("freeze_only", layer)), given(layer.labels)
        setting, below = self._setting(layer), self._labels_below(layer)
        return self._make_stage(FreezeOnly.of(setting, model, labels, layer.index, below))

    def _removed(self, layer: Layer | None) -> Artifact:
        """The control's training without the layer's MLP; None: without those of all layers."""
        from interp_by_construction.stages.removed import Removed

        shown = None if layer is None else layer.index
        make = self._make_shared if layer is None else self._make_stage
        layers = self.layers if layer is None else [layer]
        if self._together:
            removed = [each.index for each in layers]
            return make(Removed.of(self._setting(), given(self._origin), removed, shown))
        lower = None if layer is None else self._lower(layer)
        made = self.shared["subject"] if lower is None else lower.artifacts["control"]
        for each in layers:
            made = make(Removed.of(self._setting(), given(made), [each.index], shown))
        return made

    def _setting(self, layer: Layer | None = None) -> Setting:
        """layer: one that is not done yet."""
        from interp_by_construction.training.train import Setting

        layers = {each.index for each in self.layers} | ({layer.index} if layer else set())
        corpus, subject = given(self.shared["corpus"]), given(self.shared["subject"])
        return Setting(self.cfg, corpus, subject, sorted(layers))

    def _labels_below(self, layer: Layer) -> Stage | None:
        lower = self._lower(layer)
        return None if lower is None else given(lower.labels)


def _targets(layers: list[Layer]) -> dict[int, Stage]:
    return {each.index: given(each.artifacts["simulate"]) for each in layers}
