"""simulate: what a node with this label should output on every token, from label and text alone
(invariant 5).

1. The labeler simulates each distinct label exactly, on the same excerpts of the score split for
   every simulator. Other scores are compared with this exact simulation. It is left out, and its
   arrays are empty, with simulate.n_score_tokens=0.
2. The simulator (`simulators`) makes the targets on the align split, and what else it simulates.
3. The fidelity is the r of the targets with the exact simulation on held-out text. It is not
   expected to exceed the reliability, which is the r of the exact simulation with itself, where the
   simulator measures that.

The stage reads no activation of the subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors.numpy import save_file

from interp_by_construction.config import Config, TextAmounts
from interp_by_construction.corpus.parts import amounts_of, extent
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Record, read_record
from interp_by_construction.engine.runtime import torch_threads
from interp_by_construction.engine.stage import Job, Stage, unhashed
from interp_by_construction.engine.store import METRICS
from interp_by_construction.engine.tensors import create_safetensors
from interp_by_construction.labelling.labels import Label, read_labels
from interp_by_construction.llm.handle import LanguageModel
from interp_by_construction.simulators import cost, simulator_class
from interp_by_construction.simulators.base import Simulation, Texts
from interp_by_construction.simulators.exact import REFERENCE_LABELS, Raw, plan, simulate_raw
from interp_by_construction.simulators.handle import TargetSimulator
from interp_by_construction.stages.encode import EncodeRecord
from interp_by_construction.stats.correlation import columnwise_correlation
from interp_by_construction.stats.undefined import mean_defined


@dataclass(frozen=True)
class SimulateRecord(Record):
    """How good the targets are, and what they cost."""

    n_labels: int
    fidelity: float | None = None
    """Mean r over the labels where it is defined. This and the next two are null where the targets
    are the exact simulation itself."""
    n_fidelity_undefined: int | None = None
    """Labels without an r."""
    fidelity_over_reliability: float | None = None
    """Null where the reliability is not known."""
    cost: cost.Cost | None = None
    """Null without labels, without exact simulation, and for a simulator without an encoder."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the simulator knows of its fit (`simulators.base.Fitted`)."""


@dataclass(frozen=True)
class Simulate(Stage[SimulateRecord]):
    """Simulates the labelled nodes of a layer.

    Writes `simulated.safetensors`: `score` raw exact simulation of the score split, [token, label],
    and `score_reference` its mean over the reference labels, [token]; `score_dense`, what the
    simulator of the targets says on the same tokens; `second`, what the second simulator says where
    nodes are scored; what it was fitted on and what it simulates beside.

    And `targets.safetensors`: `values` float16 [block, pos, node], `mask` bool [block,
    pos], `nodes` and `poles` int64 [node].
    """

    name = "simulate"
    version = 7
    record = SimulateRecord
    says = "predicts activations from the labels alone"

    corpus: Stage[Any]
    labels: Stage[Any]
    encoded: Stage[Any] | None
    """What the simulator's encoder read; null for one without an encoder."""
    labeler: LanguageModel
    simulator: TargetSimulator
    texts: TextAmounts
    contrast: bool
    layer: int = unhashed()

    @classmethod
    def of(
        cls,
        cfg: Config,
        corpus: Stage[Any],
        encoded: Stage[Any] | None,
        labels: Stage[Any],
        layer: int,
    ) -> Self:
        """encoded: of the simulator's own parts."""
        labeler = LanguageModel(cfg.labeler)
        return cls(
            corpus=corpus,
            labels=labels,
            encoded=encoded,
            labeler=labeler,
            simulator=TargetSimulator(cfg.simulate, labeler),
            texts=amounts_of(cfg.simulate, simulator_class(cfg.simulate.simulator).parts()),
            contrast=cfg.simulate.contrast,
            layer=layer,
        )

    def effort(self, sizes: Sizes) -> Effort:
        own = self.simulator.simulator
        n_exact = sum(extent(part, self.texts).n_tokens for part in own.exact_parts)
        n_rated = n_exact * (sizes.nodes + len(REFERENCE_LABELS))
        return Effort(rated=n_rated, labels=sizes.nodes if own.any_text else 0, seconds=2)

    def compute(self, job: Job) -> SimulateRecord:
        named = [label for label in read_labels(job.path(self.labels)) if label.text is not None]
        encoded = None if self.encoded is None else job.path(self.encoded)
        texts = Texts(job.path(self.corpus), self.texts, encoded)
        with torch_threads(job.runtime.encoder_threads):
            return self._simulated(job, named, texts)

    def _simulated(self, job: Job, named: Sequence[Label], texts: Texts) -> SimulateRecord:
        words, own = [str(label.text) for label in named], self.simulator.simulator
        score = texts.passage("score")
        none = np.empty((0, len(words)), dtype=np.float32)
        raw = Raw(none, none[:, :0].sum(axis=1))
        if len(score):
            raw = simulate_raw(job.use(self.labeler), words, score.tokens, "simulate score")
        exact = raw.contrasted(self.contrast)
        fitted = job.use(self.simulator)(words, texts)
        write_targets(texts, named, fitted.simulation, job.out / "targets.safetensors")
        simulated = {"score": raw.values, "score_reference": raw.reference, **fitted.saved}
        for part in own.simulated_parts:
            simulated[part] = np.concatenate(list(texts.simulated(part, fitted.simulation)))
        if (second := own.open_second(self.simulator.models(job.runtime))) is not None:
            simulated["second"] = np.concatenate(
                list(texts.simulated(own.scored_part, second(words)))
            )
        record = SimulateRecord(len(words), extra=fitted.metrics)
        if own.is_exact:
            simulated["score_dense"] = exact
        else:
            dense = np.concatenate([none, *texts.simulated("score", fitted.simulation)])
            simulated["score_dense"] = dense
            use = score.is_text.reshape(-1)
            r = columnwise_correlation(exact[use], dense[use])
            mean, reliability = mean_defined(r), fitted.metrics.get("reliability") or 0.0
            share = mean / reliability if mean is not None and reliability > 0 else None
            record = replace(
                record,
                fidelity=mean,
                n_fidelity_undefined=int(np.isnan(r).sum()),
                fidelity_over_reliability=share,
                cost=self._cost(job, words, score),
            )
        save_file(
            {key: np.ascontiguousarray(each, dtype=np.float32) for key, each in simulated.items()},
            job.out / "simulated.safetensors",
        )
        return record

    def _cost(self, job: Job, words: Sequence[str], score: Passage) -> cost.Cost | None:
        """Of exact and of dense simulation, for this number of nodes."""
        if not words or self.encoded is None or not len(score):
            return None
        labeler = job.use(self.labeler)
        size = read_record(EncodeRecord, job.path(self.encoded) / METRICS)
        references = REFERENCE_LABELS if self.contrast else ()
        packing = plan(labeler, [*words, *references], score.tokens)
        per_node_token = size.tokens_per_subject_token / len(words)
        return cost.per_million(
            packing.n_labeler_tokens / (packing.n_tokens * len(words)),
            cost.labeler_multiply_adds(labeler.cfg.model),
            per_node_token,
            # Beside the encoder's share: one product per number that is kept of a token.
            per_node_token * size.multiply_adds_per_token + size.width,
        )


def write_targets(texts: Texts, named: Sequence[Label], simulation: Simulation, file: Path) -> None:
    """Writes what some labels, which `simulation` simulates, say on the align split."""
    passage = texts.passage("align")
    shape = (len(passage), passage.length)
    tensors = create_safetensors(
        file,
        {
            "values": (np.float16, (*shape, len(named))),
            "mask": (np.bool_, shape),
            "nodes": (np.int64, (len(named),)),
            "poles": (np.int64, (len(named),)),
        },
    )
    tensors["nodes"][:] = [label.node for label in named]
    tensors["poles"][:] = [label.pole for label in named]
    start = 0
    for part in passage.slices():
        tensors["mask"][start : start + len(part)] = part.is_text
        start += len(part)
    values, start = tensors["values"].reshape(tensors["mask"].size, len(named)), 0
    for piece in texts.simulated("align", simulation):
        values[start : start + len(piece)] = piece
        start += len(piece)
