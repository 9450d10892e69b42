"""What the labels of one layer say on each part of the text, as the simulate stage wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load_file

from interp_by_construction.config import TextAmounts
from interp_by_construction.corpus.parts import Part, part_passage
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.scoring.substitution import AlignedLayer
from interp_by_construction.simulators.exact import contrasted
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.nodes import AlignedNodes

CALIBRATED = 8192
"""Tokens of the align split that a scale is fitted on where there is no other text."""


@dataclass
class SimulatedLayer:
    """Opens the simulate artifact `folder` when it is first asked."""

    folder: Path
    corpus: Path
    layer: int
    texts: TextAmounts
    contrast: bool
    """Whether exact simulations are corrected for what the labeler says whatever the label."""
    _passages: dict[Part, Passage] = field(default_factory=dict)

    @cached_property
    def targets(self) -> dict[str, NDArray[Any]]:
        """`nodes`, `poles`, `values` and `mask` of the align part."""
        return load_file(self.folder / "targets.safetensors")

    @cached_property
    def values(self) -> dict[str, NDArray[Any]]:
        """All parts as they were written, [token, node]."""
        return load_file(self.folder / "simulated.safetensors")

    @cached_property
    def aligned(self) -> AlignedNodes:
        """The nodes that have a label, in the order of all columns."""
        return AlignedNodes(self.layer, self.targets["nodes"], self.targets["poles"])

    def passage(self, part: Part) -> Passage:
        """The text of a part; the same object each time, so that it is decoded once."""
        if part not in self._passages:
            self._passages[part] = part_passage(self.corpus, part, self.texts)
        return self._passages[part]

    def on(self, part: Part) -> NDArray[Any]:
        """Simulations as they are scored, [token, node]; exact ones corrected for contrast."""
        reference = self.values.get(f"{part}_reference")
        values = self.values[part]
        return values if reference is None else contrasted(values, reference, self.contrast)

    def part(self, part: Part) -> Simulated:
        """The same with its text, [block, pos, node]."""
        passage = self.passage(part)
        return Simulated(passage, self.on(part).reshape(*passage.shape, len(self.aligned.nodes)))

    def targets_on(self, n_tokens: int) -> Simulated:
        """The targets of the first blocks of the align part."""
        n, length = self.targets["mask"].shape
        n = min(n, max(1, n_tokens // length))
        passage = Passage.of_split(self.corpus, "align", n_blocks=n, length=length, first=True)
        return Simulated(passage, self.targets["values"][:n])

    def calibration_text(self, part: Part) -> Simulated:
        """Text that the scale of the simulations is fitted on. part: the simulator's
        `calibration_part`."""
        return self.targets_on(CALIBRATED) if part == "align" else self.part(part)

    @property
    def substituted(self) -> AlignedLayer:
        """What ablation and substitution read; needs a simulator of any text."""
        return AlignedLayer(
            self.aligned, self.part("head_score"), self.part("calibrate"), self.part("test")
        )
