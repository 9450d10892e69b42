"""Recipes of what a layer is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interp_by_construction.engine.store import SCRATCH, Artifact
from interp_by_construction.schedules.workshop import Layer, Workshop

PLANTED = ("share", "phrase", "response")
"""Fields of TriggerConfig that change the subject; the others change how it is asked."""


class HidingRecipes(Workshop):
    """Layers are layers that are done, lowest first."""

    def _removed(self, layer: Layer) -> Artifact:
        """The loop's control: its segment of this layer without the layer's MLP."""
        position = self.layers.index(layer)
        before = (
            self.layers[position - 1].artifacts["control"] if position else self.shared["subject"]
        )
        return self._without(layer, before, None, layer.index)

    def _all_removed(self) -> Artifact:
        """All of the control's segments, each without one more MLP."""
        removed: Artifact | None = None
        for layer in self.layers:
            removed = self._without(layer, removed or self.shared["subject"], removed, None)
        assert removed is not None
        return removed

    def _without(
        self, layer: Layer, before: Artifact, below: Artifact | None, shown: int | None
    ) -> Artifact:
        cfg = self.cfg

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import removed

            with self._tracked("removed", layer.index) as logger:
                return removed.run(
                    before.path / "model",
                    None if below is None else below.path,
                    self.shared["corpus"].path,
                    layer.index,
                    cfg.align,
                    cfg.continue_,
                    cfg.evaluate,
                    cfg.trainer,
                    cfg.seed,
                    self._n_target_blocks(),
                    out,
                    out / SCRATCH,
                    self._device(),
                    logger,
                    self.shared["subject"].path / "model",
                )

        # The control's fingerprint stands for tokens, steps, rates and order: what is matched to it
        # follows its every change.
        parents = self._parents(model=before, control=layer.artifacts["control"], **self._teacher())
        config = {"layer": layer.index, "max_test_blocks": cfg.evaluate.max_test_blocks}
        return self._build("removed", shown, config, parents, {}, compute)
