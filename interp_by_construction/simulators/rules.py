"""Simulator without any language model: a label is read as a rule of a small controlled English
(`truth.language`), which holds on a token or does not.

It simulates those labels alone that it can read and that need no later text. Its values are 0 and
1, and depend on the text up to the end of each token (`truth.text`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.errors import LabelerError
from interp_by_construction.simulators.base import Models, Simulation, Simulator
from interp_by_construction.truth import categories
from interp_by_construction.truth.cursor import Unreadable
from interp_by_construction.truth.expressions import Evaluation, Tables
from interp_by_construction.truth.language import VERSION, parsed, read
from interp_by_construction.truth.text import read_units


class RulesSimulator(Simulator):
    """Rules that labels are read as."""

    name = "rules"
    any_text = True
    reads_all = False
    simulated_parts = ("head_score", "calibrate", "test")
    scored_part = "head_score"
    calibration_part = "calibrate"

    @property
    def identity(self) -> dict[str, str]:
        return {"language": str(VERSION), "lexicon": categories.identity()}

    def reads(self, label: str) -> bool:
        try:
            return not parsed(label).looks_ahead
        except Unreadable:
            return False

    def open(self, models: Models) -> Callable[[Sequence[str]], Simulation]:
        return RulesSimulation


class RulesSimulation(Simulation):
    """Some labels as rules."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Raises LabelerError for a label that is in no readable form, and for one whose truth
        depends on later text."""
        self._rules = [read(label) for label in labels]
        self._tables = Tables()
        for label, rule in zip(labels, self._rules, strict=True):
            if rule.looks_ahead:
                raise LabelerError(
                    f"label {label!r} needs later text, which a simulation must not read; say what "
                    "can be told from the text up to a token, such as `after` instead of `before`"
                )

    def __call__(self, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        return Evaluation(read_units(texts), self._tables).tokens(self._rules)
