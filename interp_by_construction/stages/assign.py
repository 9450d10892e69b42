"""assign: deal the labels out anew, so that each node gets a label that says what it does already
(`labelling.matching`).

A node fails if it correlates with no label (it is constant), or if the pool has no label left for
it. A failed node becomes free and is counted (invariant 3). Only the label split is read (invariant
2). Later stages see the labels alone: the simulate stage computes its targets from label and text
(invariant 5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import Config
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.words import normalised
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Record, or_undefined
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.engine.runtime import torch_threads
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.general import GeneralLabels, general_labels
from interp_by_construction.labelling.labels import Label, read_history, read_labels
from interp_by_construction.labelling.matching import (
    Correlations,
    Match,
    MatchLimits,
    correlate,
    deal,
    pool,
)
from interp_by_construction.labelling.sources import SourceCounts
from interp_by_construction.simulators.handle import ConfiguredSimulator, simulator_of
from interp_by_construction.stages import load_model
from interp_by_construction.stages.label import LabelNodes
from interp_by_construction.stats.undefined import mean_defined
from interp_by_construction.subject.nodes import AlignedNodes, read_opposites


@dataclass(frozen=True)
class AssignRecord(Record):
    """How well the labels fit before and after the match, on the text that it was made on."""

    n_labels: int
    n_failed: int
    n_failed_labeler: int
    """Nodes that the labeler had no label for, whether or not they got one of the pool."""
    n_distinct: int
    n_pool: int
    """Labels that the simulator reads."""
    n_pool_absent: int
    """Labels of the pool that hardly ever apply."""
    n_pool_usable: int
    n_pool_general: int
    n_tokens: int
    r_mean_before: float | None
    n_undefined_before: int
    r_mean_after: float | None
    n_turned: int
    """Nodes whose pole turned."""
    n_kept: int
    """Nodes that kept the label that they had."""
    sources: SourceCounts
    learnable_r_mean: float | None = None

    def lines(self) -> Iterator[str]:
        yield (
            f"labels matched on the label split: r {or_undefined(self.r_mean_before)} -> "
            f"{or_undefined(self.r_mean_after)}, pool of {self.n_pool}, {self.n_failed_labeler} "
            "nodes the labeler failed on"
        )


@dataclass(frozen=True)
class Assign(Stage[AssignRecord]):
    """Matches the labels of a layer with its nodes; the nodes stay.

    Writes `labels.jsonl` (as the label stage does) and `matched.jsonl`: per node the r of its label
    on the label split, that of the label that it had before, and, with `limits.learnable`, the r
    that a fresh neuron reaches on it.
    """

    name = "assign"
    version = 6
    record = AssignRecord
    says = "gives each neuron the label that fits best"

    corpus: Stage[Any]
    model: Stage[Any]
    collect: Stage[Any]
    labels: Stage[Any]
    encoded: Stage[Any] | None
    """What the simulator's encoder read of the label split; null without one."""
    layer: int
    n_tokens: int
    simulator: ConfiguredSimulator
    general: GeneralLabels | None
    limits: MatchLimits
    seed: int
    """Of fresh neurons."""

    @classmethod
    def of(cls, cfg: Config, labels: LabelNodes, encoded: Stage[Any] | None) -> Self:
        label = cfg.label
        return cls(
            corpus=labels.corpus,
            model=labels.model,
            collect=labels.collect,
            labels=labels,
            encoded=encoded,
            layer=labels.layer,
            n_tokens=cfg.simulate.n_label_tokens,
            simulator=simulator_of(cfg),
            general=GeneralLabels() if label.general_pool else None,
            limits=MatchLimits(
                label.min_tokens, label.max_overlap, cfg.nodes.learnable, label.min_score
            ),
            seed=cfg.seed,
        )

    def effort(self, sizes: Sizes) -> Effort:
        n_general = 0 if self.general is None else len(general_labels())
        return Effort(labels=2 * sizes.nodes + n_general, read=self.n_tokens, seconds=3)

    def compute(self, job: Job) -> AssignRecord:
        labels = read_labels(job.path(self.labels))
        general = [] if self.general is None else job.use(self.general)
        every = pool(labels, read_history(job.path(self.labels)), general)
        candidates = [each for each in every if self.simulator.refusal(each.text) is None]
        passage = Passage.of_split(job.path(self.corpus), "label", n_tokens=self.n_tokens)
        with torch_threads(job.runtime.encoder_threads):
            found = self._correlations(job, passage, labels, [each.text for each in candidates])
        both = [node.node for node in read_opposites(job.path(self.collect))]
        may_turn = np.isin([label.node for label in labels], both)
        dealt = deal(labels, candidates, found, self.limits, may_turn)
        chosen = [match.label for match in dealt.matches]
        write_rows(job.out / "labels.jsonl", [asdict(label) for label in chosen])
        write_rows(job.out / "matched.jsonl", [_row(match) for match in dealt.matches])
        return AssignRecord(
            n_pool=len(candidates),
            n_pool_absent=int((found.n_applies < self.limits.min_tokens).sum()),
            n_pool_usable=len(dealt.usable),
            n_pool_general=sum(candidate.source == "general" for candidate in candidates),
            n_tokens=int(passage.is_text.sum()),
            **_of_matches(dealt.matches),
        )

    def _correlations(
        self, job: Job, passage: Passage, labels: Sequence[Label], texts: Sequence[str]
    ) -> Correlations:
        """Labels whose text is in `texts` against the nodes of `labels`."""
        model = load_model(job, self.model)
        rows = None
        if self.encoded is not None:
            rows = np.load(job.path(self.encoded) / "label.npy", mmap_mode="r")
        simulation = job.use(self.simulator)(texts)

        def simulate(at: slice) -> NDArray[np.float32]:
            use = passage.is_text[at].reshape(-1)
            if rows is None:
                return simulation(passage.part(at).tokens)[use]
            read = rows[at.start * passage.length : at.stop * passage.length]
            return simulation.of_encoded(read[use])

        nodes, poles = (
            np.array([getattr(label, key) for label in labels], dtype=np.int64)
            for key in ("node", "pole")
        )
        views = AlignedNodes(self.layer, nodes, poles)
        seed = self.seed if self.limits.learnable else None
        return correlate(model, passage, views, len(texts), simulate, seed)


def _row(match: Match) -> dict[str, Any]:
    return {
        "node": match.label.node,
        "label": match.label.text,
        "r": match.r,
        "own_label": match.own.text,
        "own_r": match.own_r,
        "learnable_r": match.learnable_r,
    }


def _of_matches(matches: Sequence[Match]) -> dict[str, Any]:
    """The part of the record that counts nodes."""
    labels = [match.label for match in matches]
    n_labels = sum(label.text is not None for label in labels)
    r, own_r, learnable_r = (
        mean_defined(np.array([getattr(match, name) for match in matches], dtype=np.float64))
        for name in ("r", "own_r", "learnable_r")
    )
    return {
        "n_labels": n_labels,
        "n_failed": len(matches) - n_labels,
        "n_failed_labeler": sum(match.own.text is None for match in matches),
        "n_distinct": len({normalised(label.text) for label in labels if label.text}),
        "r_mean_before": own_r,
        "n_undefined_before": sum(
            match.own.text is not None and match.own_r is None for match in matches
        ),
        "r_mean_after": r,
        "learnable_r_mean": learnable_r,
        "n_turned": sum(match.label.pole != match.own.pole for match in matches),
        "n_kept": sum(
            match.label.text == match.own.text for match in matches if match.label.text is not None
        ),
        "sources": SourceCounts.of(labels),
    }
