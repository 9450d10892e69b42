"""judge: how labels score with methods that alignment did not train on, per node, with chance and
baselines. `scoring.registry` lists the scorers in their order.

Moments, all over the same nodes: `before` alignment and `final`. Baselines of the final model, as
far as a scorer has them: `shuffled` (other nodes' labels), `empty_label` (no label) and
`common_label` (one label for all nodes, the best before alignment). Everything is scored on the
score split. Thresholds and the common label are chosen on other text.

The final model is the one after the layer's own repair. Aligned nodes are frozen then, so that
later layers change none of their activations (invariant 1, checked in every run).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors.numpy import load_file, save_file

from interp_by_construction.config import AskConfig, CollectConfig, Config, ScoringConfig, only
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Column, Record, read_record
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.engine.runtime import torch_threads
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.engine.store import METRICS
from interp_by_construction.labelling.blind import BlindLabeler
from interp_by_construction.labelling.labels import Label, read_labels
from interp_by_construction.llm.handle import LanguageModel
from interp_by_construction.scoring.llm_judge import PROMPTS
from interp_by_construction.scoring.registry import SCORERS, scorer
from interp_by_construction.scoring.score_table import Row, RowSummary, per_node
from interp_by_construction.scoring.scorer import Case, LanguageJudge, SimulatorJudge
from interp_by_construction.simulators.handle import simulator_of
from interp_by_construction.stages import LayerMeasurement, LayerStages, load_model

BEFORE = "_before"
N_ROWS, QUESTION_TOKENS = 5, 100
"""For the estimate: moments and baselines, and tokens of a question to a language model."""


@dataclass(frozen=True)
class JudgeNames:
    """Who plays which role."""

    labeler: str
    judge: str | None


@dataclass(frozen=True)
class Relabelling:
    """How the aligned nodes are labelled afresh."""

    collect: CollectConfig
    ask: AskConfig


@dataclass(frozen=True)
class JudgeRecord(Record):
    """Scores of one layer."""

    n_aligned: int
    common_label: str | None
    thresholds: dict[str, dict[str, float | None]]
    """Judge -> question -> threshold fitted for its answers."""
    scores: tuple[RowSummary, ...]
    judges: JudgeNames
    n_blind_failed: int | None
    """Null without blind relabelling."""

    def lines(self) -> Iterator[str]:
        """None: the scores have a table of their own."""
        return iter(())

    @classmethod
    def columns(cls, folder: Path) -> list[Column]:
        """`<method>_<role>` is a final score, `<method>_<role>_before` the same before alignment.

        The role is labeler or judge, so that columns are called the same whatever model plays it,
        or the simulator's name. Methods that compare texts have none.
        """
        record, values = read_record(cls, folder / METRICS), load_file(folder / "judge.safetensors")
        roles = {record.judges.labeler: "labeler"}
        if record.judges.judge is not None:
            roles[record.judges.judge] = "judge"
        suffixes = {"before": BEFORE, "final": ""}
        found = []
        for row in record.scores:
            if row.moment in suffixes:
                role = [] if row.judge is None else [roles.get(row.judge, row.judge)]
                name = "_".join([row.method, *role]) + suffixes[row.moment]
                found.append(Column.of_floats(name, values["nodes"], values[row.key]))
        return found


@dataclass(frozen=True)
class Judge(LayerMeasurement[JudgeRecord]):
    """Writes `judge.safetensors` (`nodes`, `poles`, and per row of the table its value for each
    node, NaN where undefined), and what the scorers write."""

    name = "judge"
    version = 4
    record = JudgeRecord
    says = "has a language model judge the labels"

    before: Stage[Any]
    final: Stage[Any]
    labels: Stage[Any]
    encode: Stage[Any] | None
    """With a simulator of any text that has an encoder."""
    incoming: Stage[Any] | None
    """Labels of the layer underneath, for blind relabelling."""
    labeler: LanguageModel
    judge: LanguageModel | None
    """None: the labeler judges itself."""
    names: JudgeNames
    """What tables call the two."""
    scorers: tuple[str, ...]
    """Names in `scoring.registry`."""
    scoring: ScoringConfig
    relabelling: Relabelling | None
    n_bootstrap: int
    seed: int

    @classmethod
    def examine(cls, cfg: Config, layer: LayerStages) -> Self | None:
        """None where that is switched off."""
        if not cfg.scores.enabled:
            return None
        blind, any_text = cfg.scores.blind, simulator_of(cfg).any_text
        return cls(
            **cls.common(cfg, layer),
            before=layer.before,
            final=layer.stages["continue"],
            labels=layer.labels,
            encode=layer.shared.get("encode") if any_text else None,
            incoming=layer.below[-1].labels if blind and layer.below else None,
            labeler=LanguageModel(cfg.labeler),
            judge=None if cfg.judge is None else LanguageModel(cfg.judge, "judge"),
            names=_names(cfg),
            scorers=tuple(SCORERS),
            scoring=only(ScoringConfig, cfg.scores),
            relabelling=Relabelling(cfg.collect, only(AskConfig, cfg.label)) if blind else None,
            n_bootstrap=cfg.evaluate.n_bootstrap,
            seed=cfg.seed,
        )

    def effort(self, sizes: Sizes) -> Effort:
        scoring, n_nodes = self.scoring, sizes.nodes
        n_judged = min(n_nodes, scoring.detection_nodes or n_nodes)
        n_questions = n_judged * len(PROMPTS) * scoring.detection_excerpts
        n_excerpts = n_nodes * (scoring.n_top + scoring.n_random)
        n_rated = n_questions * QUESTION_TOKENS + n_excerpts * scoring.window
        how = self.relabelling
        return Effort(
            rated=n_rated * N_ROWS, answers=0 if how is None else n_nodes * how.ask.n_candidates
        )

    def compute(self, job: Job) -> JudgeRecord:
        named = [each for each in read_labels(job.path(self.labels)) if each.text is not None]
        case = self._case(job, named, self._blind(job))
        rows: list[Row] = []
        thresholds: dict[str, dict[str, float | None]] = {}
        common = None
        if named:
            with torch_threads(job.runtime.encoder_threads):
                common = case.labels[case.common]
                for name in self.scorers:
                    scored = scorer(name)(case)
                    rows += scored.rows
                    thresholds |= {key: dict(each) for key, each in scored.thresholds.items()}
                    for file, records in scored.files.items():
                        write_rows(job.out / file, records)
        _, nodes, poles = case.simulated.aligned
        save_file({"nodes": nodes, "poles": poles} | per_node(rows), job.out / "judge.safetensors")
        return JudgeRecord(
            len(named),
            common,
            thresholds,
            tuple(RowSummary.of(row, self.n_bootstrap, self.seed) for row in rows),
            self.names,
            None if case.blind is None else sum(text is None for text in case.blind),
        )

    def _case(self, job: Job, named: Sequence[Label], blind: Sequence[str | None] | None) -> Case:
        labeler = LanguageJudge(job.use(self.labeler), self.names.labeler, True)
        judges = [labeler]
        if self.judge is not None and self.names.judge is not None:
            same = self.judge.weights == self.labeler.weights
            judges.append(LanguageJudge(job.use(self.judge), self.names.judge, same))
        simulator = None
        if self.simulator.any_text:
            simulator = SimulatorJudge(
                job.use(self.simulator),
                self.simulator.name,
                None if self.encode is None else job.path(self.encode) / "head_score.npy",
                self.simulator.self_judged,
            )
        return Case(
            self.simulated(job),
            [str(each.text) for each in named],
            {"before": job.model(self.before), "final": job.model(self.final)},
            self.scoring,
            self.seed,
            job.runtime.device,
            judges,
            simulator,
            blind,
        )

    def _blind(self, job: Job) -> list[str | None] | None:
        """A fresh label of every aligned node of the final model, None where it failed."""
        if self.relabelling is None:
            return None
        how = self.relabelling
        refusal = self.simulator.refusal
        blind = BlindLabeler(job.use(self.labeler), how.collect, how.ask, self.seed, refusal)
        passage = Passage.of_split(
            job.path(self.corpus), "label", n_blocks=how.collect.max_blocks, first=True
        )
        below = () if self.incoming is None else read_labels(job.path(self.incoming))
        labels = read_labels(job.path(self.labels))
        return blind.relabel(load_model(job, self.final), passage, self.layer, labels, below)


def _names(cfg: Config) -> JudgeNames:
    """Two servers may call different models the same."""
    if cfg.judge is None:
        return JudgeNames(cfg.labeler.model, None)
    same = cfg.judge.model == cfg.labeler.model
    return JudgeNames(cfg.labeler.model, f"{cfg.judge.model} (judge)" if same else cfg.judge.model)
