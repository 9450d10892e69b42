"""One stage a file, named like the stage. What they have in common stands here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interp_by_construction.engine.stage import Stage
from interp_by_construction.training.train import Setting


@dataclass(frozen=True)
class LayerStages:
    """One layer of a run whose models are all made: what measurements of it may read."""

    index: int
    setting: Setting
    """Of the run's training."""
    stages: Mapping[str, Stage[Any]]
    """Link name -> stage of this layer: collect, label, assign, simulate, align, freeze, continue,
    control, freeze_only, dictionary, losses_continue ... as far as the run has them."""
    shared: Mapping[str, Stage[Any]]
    """The same of the whole run: corpus, subject, encode, losses ..."""
    before: Stage[Any]
    """Model before this layer was aligned."""
    after: Stage[Any]
    """Model right after its alignment."""
    settled: Stage[Any]
    """Model in which its aligned activations were frozen (see `freeze`)."""
    final: Stage[Any]
    """The run's last model."""
    below: tuple[LayerStages, ...] = ()
    """The aligned layers under it, lowest first."""

    @property
    def together(self) -> bool:
        """Whether all layers are aligned at once (schedule=joint)."""
        return self.setting.together

    @property
    def corpus(self) -> Stage[Any]:
        """The run's text."""
        return self.setting.corpus

    @property
    def original(self) -> Stage[Any]:
        """The subject before any layer was aligned."""
        return self.setting.original

    @property
    def labels(self) -> Stage[Any]:
        """The final labels: the matched ones where there are any, else the labeler's."""
        return self.stages.get("assign", self.stages["label"])

    @property
    def simulate(self) -> Stage[Any]:
        """The layer's targets and simulations."""
        return self.stages["simulate"]
