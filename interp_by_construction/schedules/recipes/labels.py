"""Recipes of labels and of what they say: collect, label, assign, simulate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp_by_construction.engine.store import Artifact
from interp_by_construction.schedules.recipes.text import TextRecipes
from interp_by_construction.schedules.workshop import Layer, given, threads

if TYPE_CHECKING:
    from interp_by_construction.stages.collect import Collect
    from interp_by_construction.stages.label import LabelNodes


class LabelRecipes(TextRecipes):
    """Each takes the layer and the model before it."""

    def _collect_stage(self, layer: Layer, before: Artifact) -> Collect:
        from interp_by_construction.stages.collect import Collect

        return Collect.of(self.cfg, given(self.shared["corpus"]), given(before), layer.index)

    def _label_stage(self, layer: Layer, before: Artifact) -> LabelNodes:
        from interp_by_construction.stages.label import LabelNodes, compared_texts

        lower = self.layers[-1] if self.layers else None
        splits = compared_texts(self.cfg) if self.simulator.any_text else {}
        return LabelNodes.of(
            self.cfg,
            self._collect_stage(layer, before),
            None if lower is None else given(lower.labels),
            {split: given(each) for split in splits if (each := self._encode_split(split))},
            self.language_model,
        )

    def _collect(self, layer: Layer, before: Artifact) -> Artifact:
        return self._make_stage(self._collect_stage(layer, before))

    def _label(self, layer: Layer, before: Artifact) -> Artifact:
        return self._make_stage(self._label_stage(layer, before))

    def _assign(self, layer: Layer, before: Artifact) -> Artifact:
        """Only with nodes.assign=match; the nodes stay."""
        from interp_by_construction.stages.assign import Assign

        encoded = self._encode_split("label")
        parent = None if encoded is None else given(encoded)
        return self._make_stage(Assign.of(self.cfg, self._label_stage(layer, before), parent))

    def _simulate(self, layer: Layer, before: Artifact) -> Artifact:
        """Reads labels and text, and no activation (invariant 5)."""
        from interp_by_construction.stages.simulate import Simulate

        encoded = self.shared.get("encode")
        return self._make_stage(
            Simulate.of(
                self.cfg,
                given(self.shared["corpus"]),
                None if encoded is None else given(encoded),
                given(layer.labels),
                layer.index,
            )
        )
