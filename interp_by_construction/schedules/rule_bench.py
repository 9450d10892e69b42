"""`ibc bench truth planted=rules`: does the labeler find the rule that a node was made by?

1. Every label of `truth.planted_rules` that holds on some tokens of the text becomes a node: the
   rule's truth plus noise, with an r of the given grade.
2. The run's labeler gets the nodes as a layer, with the prompts of the label stage, and nothing
   but its answers counts: no list of labels, no choice by a simulator.
3. A node's rule is recovered if the truth of an answer, read as a rule, correlates with that of
   the planted label above `SAME`. An answer that no rule reads is not recovered, and counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import AskConfig, Config, SelectionConfig, only
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.disk import write_json
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.engine.session import open_engine
from interp_by_construction.labelling.ask import Asker
from interp_by_construction.labelling.evidence import gather_evidence
from interp_by_construction.labelling.labels import Proposal
from interp_by_construction.llm.client import Labeler
from interp_by_construction.llm.handle import LanguageModel
from interp_by_construction.stages.corpus import Corpus
from interp_by_construction.stats.correlation import pairwise_correlation
from interp_by_construction.truth.language import is_rule, truth_on
from interp_by_construction.truth.planted import plant, planted_batches
from interp_by_construction.truth.planted_rules import KINDS

SAME = 0.8
"""Of two labels that say the same, r of their truths."""
LEAST = 20
"""Tokens on which a planted rule must hold."""


class Planted(NamedTuple):
    """Rules that are planted on a text."""

    labels: list[str]
    kinds: list[str]
    truth: NDArray[np.float32]
    """[token, label]"""


def run_rule_bench(cfg: Config) -> tuple[Path, dict[str, Any]]:
    """Runs the benchmark; returns the file with the result and the result itself."""
    directory = RunDirectory(cfg.runs_dir / ".bench")
    with directory.lock(), open_engine(cfg, directory) as (engine, runtime, _):
        corpus = engine.get(Corpus.of(cfg)).path
        result = _measured(cfg, corpus, runtime)
    path = directory.path / "rules.json"
    write_json(path, result)
    return path, result


def _measured(cfg: Config, corpus: Path, runtime: Runtime) -> dict[str, Any]:
    runtime.prepare()
    labeler = runtime.use(LanguageModel(cfg.labeler))
    passage = Passage.of_split(corpus, "label", n_tokens=cfg.bench.n_tokens)
    planted = planted_on(passage)
    sets = [_one(cfg, passage, planted, labeler, grade) for grade in cfg.bench.grades]
    return {
        "labeler": labeler.info | {"identity": labeler.identity},
        "n_tokens": int(passage.is_text.sum()),
        "n_planted": len(planted.labels),
        "absent": [
            label for labels in KINDS.values() for label in labels if label not in planted.labels
        ],
        "seed": cfg.seed,
        "bench": dataclasses.asdict(cfg.bench),
        "label": dataclasses.asdict(cfg.label),
        "sets": sets,
    }


def planted_on(passage: Passage) -> Planted:
    """The planted rules that hold on enough tokens of a text, and fail to hold on as many."""
    every = [(label, kind) for kind, labels in KINDS.items() for label in labels]
    truth = truth_on(passage.tokens, [label for label, _ in every])
    n = truth[passage.is_text.reshape(-1)].sum(axis=0)
    kept = [i for i in range(len(every)) if LEAST <= n[i] < passage.is_text.sum() - LEAST]
    return Planted([every[i][0] for i in kept], [every[i][1] for i in kept], truth[:, kept])


def _one(
    cfg: Config, passage: Passage, planted: Planted, labeler: Labeler, grade: float
) -> dict[str, Any]:
    """All planted nodes at one grade."""
    rng = np.random.default_rng([cfg.seed, round(1000 * grade)])
    is_text = passage.is_text.reshape(-1)
    values = plant(planted.truth > 0, is_text, grade, rng)
    read = planted_batches(passage, values, cfg.collect.batch_size)
    whole = SelectionConfig(count=None, select="all")
    nodes = gather_evidence(read, passage, 0, cfg.collect, whole, cfg.seed).nodes
    asker = Asker(labeler, only(AskConfig, cfg.label), {}, cfg.seed)
    asked = asker.ask([asker.plain(node) for node in nodes], "proposal", cfg.label.n_candidates, {})
    answers = _by_node(asked, len(planted.labels))
    r = agreement(passage, planted.truth, [text for own in answers for text in own])
    return (
        {"grade": grade}
        | summary(planted, answers, r)
        | {"unparsed": asker.counts().unparsed_answers}
    )


def _by_node(proposals: Sequence[Proposal], n: int) -> list[list[str]]:
    """The answers of each node that are labels, the greedy one first."""
    answers: list[list[str]] = [[] for _ in range(n)]
    for proposal in proposals:
        if proposal.text is not None:
            answers[proposal.node].append(proposal.text)
    return answers


def agreement(
    passage: Passage, truth: NDArray[np.float32], labels: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Label -> r of its truth with that of each planted rule, [planted]; only labels that rules
    can read."""
    use = passage.is_text.reshape(-1)
    readable = [label for label in dict.fromkeys(labels) if is_rule(label)]
    said = truth_on(passage.tokens, readable) if readable else np.zeros((len(use), 0))
    r = np.nan_to_num(pairwise_correlation(truth[use], said[use]))
    return {label: r[:, i] for i, label in enumerate(readable)}


def summary(
    planted: Planted, answers: Sequence[Sequence[str]], r: dict[str, NDArray[np.float64]]
) -> dict[str, Any]:
    """Shares of nodes by kind. `first`: the first answer is right. `any`: one of the answers is.
    `chance`: the first answer of another node is."""

    def right(row: int, label: str) -> bool:
        return label in r and bool(r[label][row] > SAME)

    n = len(planted.labels)
    first = [bool(own) and right(row, own[0]) for row, own in enumerate(answers)]
    some = [any(right(row, label) for label in own) for row, own in enumerate(answers)]
    foreign = [
        right(row, own[0])
        for row in range(n)
        for other, own in enumerate(answers)
        if own and other != row
    ]
    kinds = np.array(planted.kinds)
    return {
        "n": n,
        "first": float(np.mean(first)) if n else None,
        "any": float(np.mean(some)) if n else None,
        "chance": float(np.mean(foreign)) if foreign else None,
        "n_answers": sum(map(len, answers)),
        "n_readable": sum(label in r for own in answers for label in own),
        "kinds": {
            kind: {
                "n": int((kinds == kind).sum()),
                "first": float(np.mean(np.array(first)[kinds == kind])),
                "any": float(np.mean(np.array(some)[kinds == kind])),
            }
            for kind in dict.fromkeys(planted.kinds)
        },
        "nodes": [
            {"planted": label, "kind": kind, "answers": list(own), "right": hit}
            for label, kind, own, hit in zip(
                planted.labels, planted.kinds, answers, some, strict=True
            )
        ],
    }
