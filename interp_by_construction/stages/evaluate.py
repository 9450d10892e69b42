"""evaluate: how well labels predict the aligned nodes of one layer on held-out text, and what that
is compared with (invariants 6, 7).

1. Simulation scores are Pearson's r of each node with what its label says. The main scores use the
   simulator that made the targets. Targets distilled from exact simulations are scored with the
   exact simulation. The `exact` scores use it in every run.
2. Chance is the mean r with the simulations of other nodes' labels (`shuffled`).
3. The `second` scores are by a simulator that took no part in training, where there is one. The
   `rules` scores are of those labels that can be read as a rule (`truth.language`), against what
   the rule says: no language model takes part in them.
4. Beside r stand average precision and F1 (`stats.detection`): does the label find the tokens on
   which the node is strongly active? What is strong, and where F1 draws its line, is set on the
   select split.
5. On stories, nodes are also compared with the lexicon and the rules (`scoring.story_truth`).
6. The final model is checked to hold frozen weights and activations bit for bit (invariant 1).

Scores are against the nodes' own labels, whatever they were trained towards. Only `trained` and
`trained_before`, with align.target=shuffled, are against the labels trained towards. Random targets
say nothing about text that was not trained on, so they have no such score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from interp_by_construction.config import Config
from interp_by_construction.corpus.parts import extent
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Column, Record, to_json
from interp_by_construction.engine.rows import read_rows, write_rows
from interp_by_construction.engine.runtime import torch_threads
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.engine.tracking import log_summary, log_table
from interp_by_construction.labelling.labels import Label, read_labels
from interp_by_construction.scoring.detection_scores import DETECTION, detection_scores
from interp_by_construction.scoring.layer_scores import (
    BY_RULES,
    SECOND,
    rule_scores,
    simulation_scores,
    trained_scores,
)
from interp_by_construction.scoring.story_truth import StoryScores, score_stories
from interp_by_construction.simulators import simulator_class
from interp_by_construction.stages import LayerMeasurement, LayerStages, load_model
from interp_by_construction.stages.freeze import frozen_identical
from interp_by_construction.stages.label import compared_texts
from interp_by_construction.stats.baselines import other_labels
from interp_by_construction.stats.bootstrap import mean_ci95
from interp_by_construction.stats.undefined import mean_defined, or_none
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.nodes import AlignedNodes
from interp_by_construction.subject.reading import activations_on
from interp_by_construction.training.targets import Target, other_nodes

EXACT_SCORES = ("exact", "exact_before", "exact_shuffled", "final_raw")
SCORE_COLUMNS = (
    *("before", "after", "final", "shuffled", "exact", "exact_before", "second", "second_before"),
    *("rules", "rules_before"),
    *DETECTION,
)
TRUTH_COLUMNS = {
    "concept": "string",
    "r": "float",
    "auc": "float",
    "rule": "string",
    "rule_r": "float",
    "rule_auc": "float",
    "r_before": "float",
}
"""Against the lexicon, and against rules where it names no concept."""


@dataclass(frozen=True)
class Score:
    """One kind of score, over the nodes where it is defined."""

    mean: float | None
    ci95: tuple[float, float] | None
    n: int
    n_undefined: int
    simulator: str
    self_judged: bool
    """Whether the model that wrote the labels is behind the simulator."""

    @classmethod
    def of(
        cls, values: NDArray[Any], simulator: str, self_judged: bool, n_bootstrap: int, seed: int
    ) -> Self:
        """values: r per node [node], NaN where undefined."""
        defined = values[~np.isnan(values)]
        interval = mean_ci95(defined, n_bootstrap, seed) if len(defined) else None
        n, n_undefined = len(defined), len(values) - len(defined)
        return cls(mean_defined(values), interval, n, n_undefined, simulator, self_judged)


@dataclass(frozen=True)
class EvaluateRecord(Record):
    """Scores of one layer."""

    n_tokens: int
    n_exact_tokens: int
    n_held_out_tokens: int
    score: dict[str, Score]
    truth: StoryScores | None
    """Null where the corpus has no ground truth."""
    frozen_identical: bool

    def lines(self) -> Iterator[str]:
        """The ground truth. Scores have a table of their own."""
        if self.truth is not None:
            yield from self.truth.lines()

    @classmethod
    def columns(cls, folder: Path) -> list[Column]:
        """`score_<kind>` and `truth_<what>` of every aligned node."""
        scores, truth = load_file(folder / "scores.safetensors"), read_truth(folder)
        return [
            Column.of_floats(f"score_{kind}", scores["nodes"], scores[kind])
            for kind in SCORE_COLUMNS
            if kind in scores
        ] + [
            Column(f"truth_{name}", kind, {node: each[name] for node, each in truth.items()})
            for name, kind in TRUTH_COLUMNS.items()
        ]


@dataclass(frozen=True)
class Evaluate(LayerMeasurement[EvaluateRecord]):
    """Writes `scores.safetensors`: `nodes`, `poles`, and r per node [node] for every kind of score,
    NaN where undefined. On stories also `truth.jsonl`, one record per aligned node."""

    name = "evaluate"
    version = 7
    record = EvaluateRecord
    says = "scores the labels on held-out text"

    before: Stage[Any]
    after: Stage[Any]
    final: Stage[Any]
    labels: Stage[Any]
    freeze: Stage[Any]
    n_select_tokens: int | None
    """Of the text on which labels were chosen. Null where the simulator does not read any text
    cheaply, or labels are not chosen by it: there are no average precision and F1 then."""
    encoded: Stage[Any] | None
    """What the simulator's encoder read of that text; null without an encoder."""
    target: Target
    """What the nodes were trained towards."""
    n_truth_tokens: int | None
    """Tokens that the ground truth is measured on; None where there is none."""
    n_bootstrap: int
    seed: int

    @classmethod
    def examine(cls, cfg: Config, layer: LayerStages) -> Self:
        n_truth_tokens = cfg.evaluate.max_truth_tokens if cfg.data.kind == "stories" else None
        return cls(
            **cls.common(cfg, layer),
            before=layer.before,
            after=layer.after,
            final=layer.final,
            labels=layer.labels,
            freeze=layer.stages["freeze"],
            n_select_tokens=(n_select := _n_select(cfg)),
            encoded=layer.shared.get("encode_select") if n_select else None,
            target=cfg.align.target,
            n_truth_tokens=n_truth_tokens,
            n_bootstrap=cfg.evaluate.n_bootstrap,
            seed=cfg.seed,
        )

    def effort(self, sizes: Sizes) -> Effort:
        parts = {"score", self.simulator.scored_part}
        n_tokens = sum(extent(part, self.texts).n_tokens for part in parts)
        n_select = 2 * (self.n_select_tokens or 0)
        return Effort(read=3 * n_tokens + 2 * (self.n_truth_tokens or 0) + n_select, seconds=1)

    def compute(self, job: Job) -> EvaluateRecord:
        simulated = self.simulated(job)
        named = [each for each in read_labels(job.path(self.labels)) if each.text is not None]
        own = simulated.passage(self.simulator.scored_part)
        exact = simulated.passage("score")
        passages: dict[str, Passage] = {"score": exact, self.simulator.scored_part: own}
        if self.n_truth_tokens is not None:
            passages["truth"] = Passage.of_split(
                job.path(self.corpus), "score", n_tokens=self.n_truth_tokens
            )
        if self.n_select_tokens:
            passages["select"] = Passage.of_split(
                job.path(self.corpus), "select", n_tokens=self.n_select_tokens
            )
        real = self._real(job, passages, simulated.aligned)
        on_text, words = real[self.simulator.scored_part], [str(each.text) for each in named]
        per_node = simulation_scores(simulated, real, self.simulator.scored_part, self.seed)
        per_node |= rule_scores(words, own, on_text, self.seed)
        if self.target == "shuffled":
            columns = other_nodes(len(words), self.seed, self.layer)
            per_node |= trained_scores(simulated, on_text, self.simulator.scored_part, columns)
        if self.n_select_tokens:
            said = self._on_select(job, words, passages["select"])
            own_said = simulated.on(self.simulator.scored_part)[own.is_text.reshape(-1)]
            n = own_said.shape[1]
            other = other_labels(n, [self.seed, self.layer]) if n > 1 else None
            per_node |= detection_scores(on_text, own_said, real["select"], said, other)
        saved = per_node | {"nodes": simulated.aligned.nodes, "poles": simulated.aligned.poles}
        save_file(saved, job.out / "scores.safetensors")
        truth = None
        if self.n_truth_tokens is not None:
            truth, nodes = score_stories(real["truth"], passages["truth"], words)
            rows = zip(named, nodes, strict=True)
            write_rows(job.out / "truth.jsonl", ({"node": each.node} | row for each, row in rows))
        score = {kind: self._score(kind, values) for kind, values in per_node.items()}
        with job.tracked() as logger:
            log_table(logger, "nodes", *_node_table(per_node, named))
            log_summary(logger, {"score": to_json(score), "truth": to_json(truth) or {}})
        return EvaluateRecord(
            int(own.is_text.sum()),
            int(exact.is_text.sum()),
            int(own.held_out[own.is_text].sum()),
            score,
            truth,
            frozen_identical(load_subject(job.model(self.final)), job.path(self.freeze)),
        )

    def _real(
        self, job: Job, passages: Mapping[str, Passage], aligned: AlignedNodes
    ) -> dict[str, dict[str, NDArray[Any]]]:
        """Passage -> moment -> activations times poles where there is text, [token, node]. One
        model is in memory at a time."""
        models = {"before": self.before, "after": self.after, "final": self.final}
        read: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in passages}
        for moment, stage in models.items():
            model = load_model(job, stage)
            for name, passage in passages.items():
                if moment == "after" and name in ("truth", "select"):
                    continue
                values = activations_on(model, passage, self.layer, aligned.nodes)
                read[name][moment] = values[passage.is_text.reshape(-1)] * aligned.poles
        return read

    def _on_select(self, job: Job, labels: list[str], passage: Passage) -> NDArray[np.float32]:
        """What the labels say where there is text, [token, node]."""
        encoded = self.encoded
        rows = None if encoded is None else np.load(job.path(encoded) / "select.npy")
        with torch_threads(job.runtime.encoder_threads):
            simulation = job.use(self.simulator)(labels)
            return simulation.on(passage.tokens, rows, passage.is_text.reshape(-1))

    def _score(self, kind: str, values: NDArray[Any]) -> Score:
        names = dict.fromkeys(EXACT_SCORES, self.simulator.exact_name) | {"final_raw": "exact"}
        simulator = self.simulator.simulator
        names |= dict.fromkeys(("dense_before", "dense_final"), simulator.target_name)
        names |= dict.fromkeys(SECOND, str(simulator.second_name))
        names |= dict.fromkeys(BY_RULES, "rules")
        name = names.get(kind, simulator.score_name)
        # Exact simulations are the labeler's own.
        judged = kind in EXACT_SCORES or (kind not in BY_RULES and self.simulator.self_judged)
        return Score.of(values, name, judged, self.n_bootstrap, self.seed)


def _n_select(cfg: Config) -> int | None:
    texts = compared_texts(cfg)
    cheap = simulator_class(cfg.simulate.simulator).any_text
    return texts["select"].n_tokens if cheap and "select" in texts else None


def read_truth(folder: Path) -> dict[int, dict[str, Any]]:
    """Node -> its record in `truth.jsonl`; empty where the corpus has no ground truth."""
    file = folder / "truth.jsonl"
    return {record["node"]: record for record in read_rows(file)} if file.is_file() else {}


def _node_table(
    scores: Mapping[str, NDArray[Any]], labels: Sequence[Label]
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows for the logger, a row per aligned node; None where undefined."""
    kinds = ("before", "after", "final", "shuffled")
    rows = [
        [label.node, label.text, *(or_none(scores[kind][i]) for kind in kinds)]
        for i, label in enumerate(labels)
    ]
    return ["node", "label", *kinds], rows
