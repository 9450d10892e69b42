"""label: one distinct explanation per node in words, chosen by how well it predicts the node
(`labelling.rounds`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import AskConfig, Config, SearchConfig, only
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.words import normalised
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Column, Record
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.engine.runtime import torch_threads
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.ask import Asker, no_refusal
from interp_by_construction.labelling.audit_cases import Auditor
from interp_by_construction.labelling.compare import Comparison
from interp_by_construction.labelling.incoming import strongest
from interp_by_construction.labelling.labels import Proposal, read_history, read_labels
from interp_by_construction.labelling.rounds import (
    ContrastCounts,
    Critic,
    Labelled,
    RevisionCounts,
    Revisions,
    Selection,
    label_nodes,
)
from interp_by_construction.labelling.sources import SourceCounts
from interp_by_construction.llm.handle import LanguageModel
from interp_by_construction.scoring.hotflip import per_text
from interp_by_construction.simulators import simulator_class
from interp_by_construction.simulators.handle import ConfiguredSimulator, simulator_of
from interp_by_construction.stages import load_model
from interp_by_construction.stages.collect import Collect
from interp_by_construction.subject.nodes import read_nodes, read_opposites
from interp_by_construction.subject.reading import activations_on


@dataclass(frozen=True)
class LabelRecord(Record):
    """How labelling went."""

    n_labels: int
    n_failed: int
    failed: dict[str, int]
    """By reason."""
    n_distinct: int
    n_last_resort: int
    """Labels that got the node's own top words, because every proposal was taken."""
    n_first_attempt: int
    n_other_pole: int
    """Nodes whose label describes the pole that is not dominant."""
    contrast: ContrastCounts
    revisions: RevisionCounts
    selection: Selection | None
    n_answers: int
    n_repeated_answers: int
    n_unparsed_answers: int
    unparsed_answers: dict[str, int]
    sources: SourceCounts
    n_structured_answers: int | None = None
    audits: RevisionCounts | None = None

    @classmethod
    def columns(cls, folder: Path) -> list[Column]:
        """`first_label`: the labeler's first readable answer about the node, before any choice;
        `first_r`: its r on the select split."""
        firsts: dict[int, Proposal] = {}
        for each in read_history(folder):
            if each.text is not None:
                firsts.setdefault(each.node, each)
        return [
            Column("first_label", "string", {node: each.text for node, each in firsts.items()}),
            Column("first_r", "float", {node: each.score for node, each in firsts.items()}),
        ]

    @classmethod
    def of(cls, found: Labelled) -> Self:
        failed = Counter(str(label.reason) for label in found.labels if label.text is None)
        return cls(
            n_labels=len(found.labels) - failed.total(),
            n_failed=failed.total(),
            failed=dict(sorted(failed.items())),
            n_distinct=len({normalised(label.text) for label in found.labels if label.text}),
            n_last_resort=found.n_last_resort,
            n_first_attempt=sum(label.attempts == 1 for label in found.labels),
            n_other_pole=found.n_other_pole,
            contrast=found.contrast,
            revisions=found.revisions,
            selection=found.selection,
            audits=found.audits,
            sources=SourceCounts.of(found.labels),
            **vars(found.answers),
        )


@dataclass(frozen=True)
class ComparedText:
    """A text on which labels are compared with nodes: evenly spaced blocks of a split."""

    n_tokens: int
    length: int | None
    """Tokens that are read of each block; null for all."""


@dataclass(frozen=True)
class Audits:
    """Rounds of revision by the worst cases of an audit."""

    n: int
    search: SearchConfig
    batch_size: int


@dataclass(frozen=True)
class LabelNodes(Stage[LabelRecord]):
    """Labels the collected nodes of a layer.

    Writes `labels.jsonl`, and `history.jsonl`: every answer with its score and why it was chosen or
    dropped.
    """

    name = "label"
    version = 6
    record = LabelRecord
    says = "asks a language model what neurons respond to"

    corpus: Stage[Any]
    model: Stage[Any]
    collect: Stage[Any]
    below: Stage[Any] | None
    """Labels of the aligned layer underneath, of which the strongest inputs are shown."""
    encoded: Mapping[str, Stage[Any]]
    """Split -> what the simulator's encoder read of its text; empty without an encoder."""
    layer: int
    labeler: LanguageModel
    simulator: ConfiguredSimulator | None
    """Scores the candidates, and drops those that it cannot read; null where the first one counts,
    whatever it is."""
    texts: Mapping[str, ComparedText]
    """select: the text on which candidates are scored; label: that of the counter-examples."""
    ask: AskConfig
    audits: Audits | None
    min_score: float | None
    """A node whose label scores lower has none; null where labels are dealt out anew."""
    seed: int

    @classmethod
    def of(
        cls,
        cfg: Config,
        collect: Collect,
        below: Stage[Any] | None,
        encoded: Mapping[str, Stage[Any]],
    ) -> Self:
        """Labels the nodes of `collect`."""
        texts, n_audits = compared_texts(cfg), cfg.label.audit_rounds
        simulator = simulator_of(cfg)
        audits = Audits(n_audits, only(SearchConfig, cfg.audit), cfg.evaluate.batch_size)
        return cls(
            corpus=collect.corpus,
            model=collect.model,
            collect=collect,
            below=below,
            encoded=encoded,
            layer=collect.layer,
            labeler=LanguageModel(cfg.labeler),
            simulator=simulator if texts or not simulator.reads_all else None,
            texts=texts,
            ask=replace(only(AskConfig, cfg.label), revisions=n_revisions(cfg)),
            audits=audits if n_audits else None,
            min_score=cfg.label.min_score if cfg.nodes.assign == "none" else None,
            seed=cfg.seed,
        )

    def effort(self, sizes: Sizes) -> Effort:
        ask, texts = self.ask, self.texts
        # About every second node is asked again, because another one holds its label.
        rounds = 0.5 + (ask.revisions or 0) + (0 if self.audits is None else self.audits.n)
        n_answers = sizes.nodes * (ask.n_candidates + ask.n_revised * rounds)
        asked = Effort(read=sum(each.n_tokens for each in texts.values()), answers=n_answers)
        if self.simulator is None:
            return asked
        if self.simulator.any_text:
            return asked + Effort(labels=n_answers)
        return asked + Effort(rated=n_answers * texts["select"].n_tokens)

    def compute(self, job: Job) -> LabelRecord:
        collected = job.path(self.collect)
        nodes = read_nodes(collected)
        views = [*nodes, *read_opposites(collected)]
        model: Any = None
        if self.below is not None or self.texts:
            model = load_model(job, self.model)
        below = [] if self.below is None else read_labels(job.path(self.below))
        incoming = strongest(model, self.layer, below, views, self.ask.n_incoming)
        with torch_threads(job.runtime.encoder_threads):
            ids = [node.node for node in nodes]
            compared = {split: self._comparison(job, model, ids, split) for split in self.texts}
            revisions: dict[str, Revisions] = {}
            if self.ask.revisions:
                revisions["revisions"] = Revisions(self.ask.revisions, compared["label"])
            if self.audits is not None:
                revisions["audits"] = Revisions(self.audits.n, self._auditor(job, model))
            refusal = no_refusal if self.simulator is None else self.simulator.refusal
            asker = Asker(job.use(self.labeler), self.ask, incoming, self.seed, refusal)
            found = label_nodes(
                views, asker, compared.get("select"), **revisions, min_score=self.min_score
            )
        for file, rows in (("labels", found.labels), ("history", found.history)):
            write_rows(job.out / f"{file}.jsonl", [asdict(row) for row in rows])
        return LabelRecord.of(found)

    def _comparison(self, job: Job, model: Any, nodes: list[int], split: str) -> Comparison:
        assert self.simulator is not None
        text, simulator = self.texts[split], job.use(self.simulator)
        passage = Passage.of_split(
            job.path(self.corpus), split, n_tokens=text.n_tokens, length=text.length
        )
        encoded = self.encoded.get(split)
        rows = None if encoded is None else np.load(job.path(encoded) / f"{split}.npy")

        def simulate(labels: Sequence[str]) -> NDArray[np.float32]:
            return simulator(labels).on(passage.tokens, rows)

        real = activations_on(model, passage, self.layer, np.array(nodes, dtype=np.int64))
        return Comparison(passage, real, nodes, simulate, self.simulator.shown)

    def _auditor(self, job: Job, model: Any) -> Critic:
        assert self.simulator is not None and self.audits is not None
        simulator = job.use(self.simulator)
        return Auditor(
            model,
            job.path(self.corpus),
            self.layer,
            lambda labels: per_text(simulator(labels)),
            self.audits.search,
            self.audits.batch_size,
            self.seed,
        )


def n_revisions(cfg: Config) -> int:
    """Rounds of revision. By default one where simulations are cheap and candidates are scored,
    else none."""
    n = cfg.label.revisions
    if n is None and simulator_class(cfg.simulate.simulator).any_text:
        return int(cfg.label.head_select_tokens > 0)
    return n or 0


def compared_texts(cfg: Config) -> dict[str, ComparedText]:
    """Split -> text on which labels are chosen (select) and revised (label). Empty where the first
    candidate counts."""
    if simulator_class(cfg.simulate.simulator).any_text:
        select = ComparedText(cfg.label.head_select_tokens, None)
        label = ComparedText(cfg.simulate.n_label_tokens, None)
    else:
        select = label = ComparedText(cfg.label.select_tokens, cfg.simulate.excerpt_tokens)
    if not select.n_tokens:
        return {}
    return {"select": select, "label": label} if n_revisions(cfg) else {"select": select}
