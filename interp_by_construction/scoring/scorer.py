"""What a scorer is: one way to ask others than the aligner whether labels say what nodes do.

A scorer is one file with its own baselines, listed in `scoring.registry`. Its function `score`
takes a `Case` (the labelled nodes of one layer, before and after alignment, and who judges them)
and returns rows of the table of scores. Summary, terminal and report show all rows there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import ScoringConfig
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.llm.client import Labeler
from interp_by_construction.scoring.score_table import Row
from interp_by_construction.scoring.simulated import SimulatedLayer
from interp_by_construction.simulators.exact import simulate_packed
from interp_by_construction.simulators.handle import Simulate
from interp_by_construction.stats.correlation import pairwise_correlation
from interp_by_construction.stats.undefined import means_defined
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.reading import activations_on

EMPTY_LABEL = "words"
"""Stands for the empty label where a simulator of any text needs one: it names every word, and so
none. Exact simulation gets a prompt without a label."""


class LanguageJudge(NamedTuple):
    """A language model that scores."""

    labeler: Labeler
    name: str
    """Shown in tables."""
    self_judged: bool
    """Whether it is the model that wrote the labels."""


class SimulatorJudge(NamedTuple):
    """The run's simulator, where it simulates any label on any text."""

    simulate: Simulate
    name: str
    encoded: Path | None
    """What its encoder read of the part `head_score`; None without an encoder."""
    self_judged: bool

    def on_score(self, labels: Sequence[str], passage: Passage) -> NDArray[np.float32]:
        """Simulations on the part `head_score`, which is `passage`, [token, label]."""
        simulation = self.simulate(labels)
        if self.encoded is None:
            return simulation(passage.tokens)
        return simulation.of_encoded(np.load(self.encoded, mmap_mode="r"))


class SimulatedTexts(NamedTuple):
    """The simulator's simulations of the nodes' own labels and, in the last column, of the empty
    label, [token, label]."""

    on_score: NDArray[np.float32]
    on_select: NDArray[np.float32]


class Scored(NamedTuple):
    """What a scorer found."""

    rows: Sequence[Row] = ()
    thresholds: Mapping[str, Mapping[str, float | None]] = {}
    """Judge -> question -> the threshold that was fitted for its answers."""
    files: Mapping[str, Sequence[Mapping[str, Any]]] = {}
    """Name of a file in the artifact -> its records."""


@dataclass
class Case:
    """The aligned nodes of one layer, and everything that is scored about them."""

    simulated: SimulatedLayer
    """What the labels say, and on what text; columns in the order of `labels`."""
    labels: list[str]
    models: Mapping[str, Path]
    """before and final."""
    cfg: ScoringConfig
    seed: int
    device: str
    judges: Sequence[LanguageJudge]
    """The labeler, then a separate judge if there is one."""
    simulator: SimulatorJudge | None
    blind: Sequence[str | None] | None
    """What the labeler calls the final model's nodes when it does not know their labels, in the
    order of `labels`, None where it failed; None for no blind relabelling."""
    _models: dict[str, Any] = field(default_factory=dict)
    _read: dict[tuple[str, Passage], NDArray[np.float64]] = field(default_factory=dict)

    @property
    def draw(self) -> tuple[int, int]:
        """Seed of what is drawn for a node; its row is added."""
        return self.seed, self.simulated.layer

    @cached_property
    def select(self) -> Passage:
        """Whole blocks of the select split, where whatever has to be chosen is chosen."""
        return Passage.of_split(self.simulated.corpus, "select", n_tokens=self.cfg.n_select_tokens)

    def real(self, moment: str, passage: Passage) -> NDArray[np.float64]:
        """Activations times poles, [token, node]; read once."""
        if moment not in self._models:
            model: Any = load_subject(self.models[moment])
            self._models[moment] = model.to(self.device)
        if (moment, passage) not in self._read:
            layer, nodes, poles = self.simulated.aligned
            values = activations_on(self._models[moment], passage, layer, nodes)
            self._read[moment, passage] = values.astype(np.float64) * poles
        return self._read[moment, passage]

    @cached_property
    def by_simulator(self) -> SimulatedTexts | None:
        """None without a simulator of any text."""
        if self.simulator is None:
            return None
        own, passage = self.simulated.on("head_score"), self.simulated.passage("head_score")
        empty = self.simulator.on_score([EMPTY_LABEL], passage)
        both = self.simulator.simulate([*self.labels, EMPTY_LABEL])
        return SimulatedTexts(np.concatenate([own, empty], axis=1), both(self.select.tokens))

    @cached_property
    def common(self) -> int:
        """Column of the common label: the one whose simulation has the highest mean r over all
        nodes before alignment.

        It is chosen on the select split. Without a simulator of any text it is chosen on the
        simulate split, where labels are simulated anyway.
        """
        if self.by_simulator is not None:
            text, said = self.select, self.by_simulator.on_select[:, : len(self.labels)]
        else:
            text, known = self.simulated.passage("fit"), self.simulated.values.get("fit")
            said = known if known is not None else self._exactly(text)
        use = text.is_text.reshape(-1)
        r = pairwise_correlation(self.real("before", text)[use], said[use])
        return int(np.argmax(np.nan_to_num(means_defined(r, axis=0), nan=-math.inf)))

    def _exactly(self, text: Passage) -> NDArray[np.float32]:
        description = "simulate for the common label"
        return simulate_packed(self.judges[0].labeler, self.labels, text.tokens, description)


Scorer = Callable[[Case], Scored]
"""Returns rows for the moments `before` and `final` as far as it scores them, and its baselines on
the final model: `shuffled` (other nodes' labels), `empty_label`, `common_label`. No rows where the
case lacks what it needs."""
