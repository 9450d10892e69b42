"""audit: text on which label and node disagree (`scoring.audit`), which examples that activate the
node most cannot show.

Both the model before alignment and the aligned one are audited. Aligned nodes are frozen when the
layer is done, so that the model right after alignment stands for the final one. While a layer is
labelled, its labels are audited in the same way on the label split, and the cases serve to revise
them (`labelling.audit_cases`). No text of the score split is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from interp_by_construction.config import Config, SearchConfig, only
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Record, or_undefined
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.engine.runtime import torch_threads
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.labels import read_labels
from interp_by_construction.scoring.audit import AuditedLabels, MomentRecord, audit, simulated
from interp_by_construction.scoring.hotflip import per_text
from interp_by_construction.simulators.handle import simulator_of
from interp_by_construction.stages import LayerMeasurement, LayerStages, load_model

SPLIT = "select"


@dataclass(frozen=True)
class AuditRecord(Record):
    """Rates and the outcome of the search per moment."""

    layer: int
    n_nodes: int
    n_tokens: int
    threshold: float
    before: MomentRecord | None
    """Null for a layer without labels."""
    final: MomentRecord | None

    def lines(self) -> Iterator[str]:
        if self.before is None or self.final is None:
            return
        both = (self.before, self.final)

        def pair(values: list[float | None]) -> str:
            return " -> ".join(or_undefined(value, ".3f") for value in values)

        agreeing = [moment.search.agreeing for moment in both]
        yield (
            f"audit, before -> final: label and node differ by more than {self.threshold:g} of the "
            f"node's range on {pair([moment.rate for moment in both])} of tokens, "
            f"{pair([moment.rate_strong for moment in both])} of strongly active ones; on texts "
            f"where they agreed, after edits by gradient on "
            f"{pair([each.rate_hotflip for each in agreeing])}, by chance on "
            f"{pair([each.rate_random for each in agreeing])}"
        )


@dataclass(frozen=True)
class Audit(LayerMeasurement[AuditRecord]):
    """Writes `audit.jsonl`, one case per line (`scoring.audit.Case`).

    Every edited text is simulated anew, which needs a simulator of any text.
    """

    name = "audit"
    version = 3
    record = AuditRecord
    says = "looks for text on which a label is wrong"

    before: Stage[Any]
    final: Stage[Any]
    labels: Stage[Any]
    search: SearchConfig
    batch_size: int
    seed: int

    @classmethod
    def examine(cls, cfg: Config, layer: LayerStages) -> Self | None:
        """None where that is switched off, and for a simulator that does not read any text."""
        if not (simulator_of(cfg).any_text and cfg.audit.enabled):
            return None
        return cls(
            **cls.common(cfg, layer),
            before=layer.before,
            final=layer.settled,
            labels=layer.labels,
            search=only(SearchConfig, cfg.audit),
            batch_size=cfg.evaluate.batch_size,
            seed=cfg.seed,
        )

    def effort(self, sizes: Sizes) -> Effort:
        search = self.search
        n_tried = 2 * search.n_steps * search.n_candidates
        # Of both kinds of disagreement, along the gradient and at random, before and after.
        n_edited = 4 * search.n_nodes * search.n_cases * n_tried * search.window
        return Effort(encoded=search.n_tokens + n_edited, read=2 * search.n_tokens + n_edited)

    def compute(self, job: Job) -> AuditRecord:
        layer = self.simulated(job)
        passage = Passage.of_split(job.path(self.corpus), SPLIT, n_tokens=self.search.n_tokens)
        moments: dict[str, MomentRecord | None] = {"before": None, "final": None}
        rows: list[dict[str, Any]] = []
        texts = [each.text for each in read_labels(job.path(self.labels)) if each.text is not None]
        if texts:
            with torch_threads(job.runtime.encoder_threads):
                simulate = per_text(job.use(self.simulator)(texts))
                said = simulated(passage, simulate, "simulate")
                labels = AuditedLabels(layer.aligned, simulate, layer.part("calibrate"), said)
                for moment, stage in (("before", self.before), ("final", self.final)):
                    model, size, seed = load_model(job, stage), self.batch_size, self.seed
                    cases, moments[moment] = audit(model, labels, self.search, size, seed, moment)
                    rows += [case.row(moment) for case in cases]
        write_rows(job.out / "audit.jsonl", rows)
        n_tokens = int(passage.is_text.sum())
        return AuditRecord(self.layer, len(texts), n_tokens, self.search.threshold, **moments)
