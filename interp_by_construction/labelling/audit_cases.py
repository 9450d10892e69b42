"""The worst cases of an audit as counter-examples to labels, for revisions (`labelling.revision`).

With `label.audit_rounds`, labels are audited while they are made, on the model that is not aligned
yet. The cases are mined from the label split and edited along the gradient. A revision is judged on
the select split, from which no case comes (invariant 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from interp_by_construction.config.measures import SearchConfig
from interp_by_construction.labelling.revision import CounterExamples, one_per_word
from interp_by_construction.scoring.audit import AuditedLabels, Case, audit
from interp_by_construction.scoring.hotflip import Simulate
from interp_by_construction.scoring.mining import KINDS
from interp_by_construction.subject.nodes import AlignedNodes, Excerpt


@dataclass(frozen=True)
class Auditor:
    """Counter-examples to labels from an audit of one layer of a model."""

    model: PreTrainedModel
    corpus: Path
    layer: int
    simulate: Callable[[Sequence[str]], Simulate]
    """Labels -> their simulation of any text, one column per label."""
    cfg: SearchConfig
    batch_size: int
    seed: int

    def counter_examples(
        self, labels: Sequence[tuple[int, int, str]], n: int
    ) -> dict[int, CounterExamples]:
        """Node -> words on which node and label differ by more than `audit.threshold`.

        labels: (node, pole, label). n: most words of each kind. A node without cases has no entry.
        """
        if not labels:
            return {}
        nodes, poles = (np.array([label[i] for label in labels], dtype=np.int64) for i in range(2))
        simulate = self.simulate([text for _, _, text in labels])
        aligned = AlignedNodes(self.layer, nodes, poles)
        said = AuditedLabels.on(self.corpus, "label", aligned, simulate, self.cfg.n_tokens)
        cases, _ = audit(self.model, said, self.cfg, self.batch_size, self.seed, "before")
        found = worst_cases(case for case in cases if case.gap > self.cfg.threshold)
        return {
            node: CounterExamples(one_per_word(cases.missed, n), one_per_word(cases.wrong, n))
            for node, cases in found.items()
        }


def worst_cases(cases: Iterable[Case]) -> dict[int, CounterExamples]:
    """Node -> mined and edited counter-examples to its label, worst first.

    Activations are the node's own, times its pole. The text of an edited case is in no corpus; its
    `block` is that of the text that was edited.
    """
    found: dict[int, CounterExamples] = {}
    for case in sorted(cases, key=lambda case: -case.gap):
        missed, wrong = found.setdefault(case.node, CounterExamples([], []))
        kind = missed if case.kind == KINDS[1] else wrong
        kind.append(Excerpt(case.tokens, case.real, case.peak, case.block))
    return found
