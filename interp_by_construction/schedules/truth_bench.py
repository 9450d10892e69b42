"""`ibc bench truth`: labelling, matching and simulation of planted nodes, whose concept is known.

1. For every grade, one node per concept of the stories lexicon: membership plus noise, with an r of
   that grade. Beside them nodes of two concepts each, and nodes of noise alone, which no label is
   right for.
2. Labelling: the run's labeler gets them as a layer, with the prompts and the code of the label
   stage. Does the label name the planted concept, read from its text alone?
3. Matching: labels are dealt out from the pool (all that was proposed, and the general list) by a
   simulator that reads any text cheaply, as nodes.assign=match does.
4. Simulation: is each node, on other text, predicted better by the name of its own concept than by
   those of the others?
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
from interp_by_construction.engine.progress import track
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.runtime import Runtime, torch_threads
from interp_by_construction.engine.session import open_engine
from interp_by_construction.errors import ConfigError
from interp_by_construction.labelling.ask import Asker
from interp_by_construction.labelling.evidence import gather_evidence
from interp_by_construction.labelling.general import general_labels
from interp_by_construction.labelling.matching import Correlator, match, pool
from interp_by_construction.labelling.rounds import Labelled, label_nodes
from interp_by_construction.llm.handle import LanguageModel
from interp_by_construction.scoring.recovery import recovery, true_label_ranks
from interp_by_construction.scoring.truth import CONCEPTS, membership, nearest_concept
from interp_by_construction.simulators import SIMULATORS, create, simulator_class
from interp_by_construction.simulators.handle import ConfiguredSimulator, Encoder, Simulate
from interp_by_construction.stages.corpus import Corpus
from interp_by_construction.truth.planted import plant, planted_batches


class PlantedSet(NamedTuple):
    """Nodes that are labelled as one layer."""

    name: str
    grade: float
    concepts: list[frozenset[str]]
    """Of each node; none for noise."""


class Text(NamedTuple):
    """A part of the corpus that nodes are planted on."""

    passage: Passage
    member: NDArray[np.bool_]
    """Truth of every concept, [token, concept]."""
    rows: NDArray[np.float16] | None = None
    """What the simulator's encoder reads of it, [token, width]."""

    @property
    def use(self) -> NDArray[np.bool_]:
        """Tokens that are text, [token]."""
        return self.passage.is_text.reshape(-1)


def run_truth_bench(cfg: Config, simulator: str = "head") -> tuple[Path, dict[str, Any]]:
    """Runs the benchmark; returns the file with the result and the result itself.

    simulator: one that reads any text cheaply, which then also matches labels with nodes, or
    another one to be compared with such a simulator.

    Raises:
        ConfigError: the corpus has no lexicon, or `simulator` cannot simulate any label.
    """
    if cfg.data.kind != "stories":
        raise ConfigError(
            f"data={cfg.data.name}: planted nodes need the concepts of the generated stories; set "
            "data=stories"
        )
    kinds = {name: simulator_class(name) for name in SIMULATORS}
    known = [name for name, kind in kinds.items() if kind.any_label and kind.reads_all]
    if simulator not in known:
        raise ConfigError(f"simulator={simulator}: give one of {', '.join(known)}")
    cheap = next(name for name in (simulator, *SIMULATORS) if simulator_class(name).any_text)
    cfg = dataclasses.replace(cfg, simulate=dataclasses.replace(cfg.simulate, simulator=cheap))
    directory = RunDirectory(cfg.runs_dir / ".bench")
    with directory.lock(), open_engine(cfg, directory) as (engine, runtime, _):
        corpus = engine.get(Corpus.of(cfg)).path
        result = TruthBench(cfg, corpus, runtime).run(None if simulator == cheap else simulator)
    path = directory.path / "truth.json"
    write_json(path, result)
    return path, result


class TruthBench:
    """Labels, matches and simulates planted nodes with the models of a run."""

    def __init__(self, cfg: Config, corpus: Path, runtime: Runtime) -> None:
        self.cfg, self.corpus, self.runtime = cfg, corpus, runtime
        self.labeler = runtime.use(LanguageModel(cfg.labeler))
        self.simulator = create(cfg.simulate)

    def run(self, compared: str | None) -> dict[str, Any]:
        """compared: another simulator. It may be slow, so it gets only as much text as in a run."""
        self.runtime.prepare()
        if self.cfg.labeler.backend == "endpoint":
            # Before text is read for minutes.
            self.labeler.check(["generate", "classify"] if compared else ["generate"])
        cfg = self.cfg.bench
        with torch_threads(self.runtime.encoder_threads):
            label = self._read(self._text("label", cfg.n_tokens))
            score = self._read(self._text("score", cfg.n_score_tokens))
            simulate = self._simulate(self.simulator.name)
            said = simulate(CONCEPTS).on(score.passage.tokens, score.rows)
            parts: dict[str, tuple[Text, NDArray[Any]]] = {self.simulator.name: (score, said)}
            if compared is not None:
                amounts = self.cfg.simulate
                text = self._text("score", amounts.n_score_tokens, amounts.excerpt_tokens)
                parts[compared] = (text, self._simulate(compared)(CONCEPTS)(text.passage.tokens))
            # Where text is short, some concepts do not occur: they are undefined there.
            occurs = np.all([text.member[text.use].any(axis=0) for text in (label, score)], axis=0)
            concepts = [concept for concept, there in zip(CONCEPTS, occurs, strict=True) if there]
            sets = planted_sets(concepts, cfg.grades, cfg.n_distractors, self.cfg.seed)
            results = [self._one(planted, label, parts, simulate) for planted in sets]
        return {
            "labeler": self.labeler.info | {"identity": self.labeler.identity},
            "simulator": {"name": self.simulator.name} | self.simulator.identity,
            "n_concepts": len(concepts),
            "absent_concepts": [concept for concept in CONCEPTS if concept not in concepts],
            "n_label_tokens": int(label.use.sum()),
            "n_score_tokens": {name: int(text.use.sum()) for name, (text, _) in parts.items()},
            "seed": self.cfg.seed,
            "bench": dataclasses.asdict(cfg),
            "label": dataclasses.asdict(self.cfg.label),
            "sets": results,
        }

    def _simulate(self, simulator: str) -> Simulate:
        cfg = dataclasses.replace(self.cfg.simulate, simulator=simulator)
        return self.runtime.use(ConfiguredSimulator(cfg, LanguageModel(self.cfg.labeler)))

    def _one(
        self,
        planted: PlantedSet,
        label: Text,
        parts: dict[str, tuple[Text, NDArray[Any]]],
        simulate: Simulate,
    ) -> dict[str, Any]:
        values, cfg = self._planted(planted, label, 0), self.cfg
        read = planted_batches(label.passage, values, cfg.collect.batch_size)
        every = SelectionConfig(count=None, select="all")
        found = gather_evidence(read, label.passage, 0, cfg.collect, every, cfg.seed)
        asker = Asker(self.labeler, only(AskConfig, cfg.label), {}, cfg.seed)
        labelled = label_nodes(found.nodes, asker)
        given = [each.text for each in labelled.labels]
        matched, dealt_from = self._matched(labelled, label, values, simulate)
        simulated = {}
        for part, (name, (text, said)) in enumerate(parts.items(), 1):
            real, use = self._planted(planted, text, part), text.use
            simulated[name] = true_label_ranks(
                real[use].astype(np.float64), said[use], CONCEPTS, planted.concepts
            )
        return {
            "name": planted.name,
            "grade": planted.grade,
            "labelling": recovery(given, planted.concepts),
            "matching": recovery(matched, planted.concepts)
            | pool_record(dealt_from, planted.concepts),
            "simulators": simulated,
            "nodes": [
                {"planted": sorted(wanted), "label": mine, "matched": dealt}
                for wanted, mine, dealt in zip(planted.concepts, given, matched, strict=True)
            ],
        }

    def _planted(self, planted: PlantedSet, text: Text, part: int) -> NDArray[np.float32]:
        """[token, node]; the noise of a set does not depend on which other sets there are."""
        columns = ([CONCEPTS.index(each) for each in sorted(own)] for own in planted.concepts)
        member = np.stack([text.member[:, own].any(axis=1) for own in columns], axis=1)
        rng = np.random.default_rng([self.cfg.seed, part, *planted.name.encode()])
        return plant(member, text.use, planted.grade, rng)

    def _matched(
        self,
        labelled: Labelled,
        label: Text,
        values: NDArray[Any],
        simulate: Simulate,
    ) -> tuple[list[str | None], list[str]]:
        """The label that each node is dealt, and the pool."""
        general = general_labels() if self.cfg.label.general_pool else []
        texts = [each.text for each in pool(labelled.labels, labelled.history, general)]
        if not texts:
            return [None] * values.shape[1], []
        sums = Correlator(values.shape[1], len(texts))
        simulated = simulate(texts).on(label.passage.tokens, label.rows, label.use)
        sums.add(values[label.use], simulated)
        chosen = match(sums.correlations())
        return [None if column is None else texts[column] for column in chosen], texts

    def _text(self, split: str, n_tokens: int, length: int | None = None) -> Text:
        """Evenly spaced blocks, or the first `length` tokens of each."""
        passage = Passage.of_split(self.corpus, split, n_tokens=n_tokens, length=length)
        return Text(passage, membership(passage.tokens))

    def _read(self, text: Text) -> Text:
        """The same with what the simulator's encoder reads of it, where it has one."""
        if not self.simulator.encoded_parts:
            return text
        encoder = self.runtime.use(Encoder(self.cfg.simulate))
        rows = track(encoder.encode(text.passage.tokens), "encode", total=len(text.passage))
        return text._replace(rows=np.concatenate(list(rows)))


def planted_sets(
    concepts: Sequence[str], grades: Sequence[float], n_distractors: int, seed: int
) -> list[PlantedSet]:
    """One set per grade, with a node for every concept; then nodes of two concepts each, and nodes
    of noise."""
    sets = [
        PlantedSet(f"r {grade:g}", float(grade), [frozenset({concept}) for concept in concepts])
        for grade in grades
    ]
    order = np.random.default_rng(seed).permutation(len(concepts))
    pairs = [
        frozenset({concepts[a], concepts[b]}) for a, b in zip(order[::2], order[1::2], strict=False)
    ][:n_distractors]
    if pairs:
        sets.append(PlantedSet("two concepts", 1.0, pairs))
    if n_distractors:
        sets.append(PlantedSet("noise", 0.0, [frozenset() for _ in range(n_distractors)]))
    return sets


def pool_record(texts: Sequence[str], planted: Sequence[frozenset[str]]) -> dict[str, Any]:
    """Size of the pool, and for how many nodes it has a label that names a planted concept."""
    named = {nearest_concept(text) for text in texts}
    return {"n_pool": len(texts), "n_nameable": sum(bool(wanted & named) for wanted in planted)}
