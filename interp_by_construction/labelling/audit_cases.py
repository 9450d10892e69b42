"""The worst cases of an audit as counter-examples to labels, for revisions (`labelling.revision`).

An audit after alignment comes too late for the label that alignment was given. So
`label.audit_rounds` audits the labels while they are made, on the model that is not aligned yet:
mined from the label split and edited along the gradient. A revision is judged on the select split,
which made none of the cases (invariant 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from interp_by_construction.config.measures import SearchConfig
from interp_by_construction.labelling.prompts import peak_word
from interp_by_construction.labelling.revision import CounterExamples
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
        """labels: (node, pole, label). At most `n` words of each kind per node on which label and
        node differ by more than `audit.threshold`; no entry where there is none.
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
            node: CounterExamples(_words(cases.missed, n), _words(cases.wrong, n))
            for node, cases in found.items()
        }


def worst_cases(cases: Iterable[Case]) -> dict[int, CounterExamples]:
    """Node -> counter-examples to its label, worst first, mined and edited ones, as `collect` shows
    excerpts.

    Activations are the node's own, times its pole. The text of edited ones is in no corpus; `block`
    is where it was taken from.
    """
    found: dict[int, dict[str, list[tuple[float, Excerpt]]]] = {}
    for case in cases:
        excerpt = Excerpt(case.tokens, case.real, case.peak, case.block)
        kinds = found.setdefault(case.node, {kind: [] for kind in KINDS.values()})
        kinds[case.kind].append((case.gap, excerpt))
    return {
        node: CounterExamples(
            *(
                [case for _, case in sorted(kinds[KINDS[way]], key=lambda c: -c[0])]
                for way in (1, -1)
            )
        )
        for node, kinds in found.items()
    }


def _words(cases: Iterable[Excerpt], n: int) -> list[Excerpt]:
    """The first case of each of the first `n` different words."""
    found: dict[str, Excerpt] = {}
    for case in cases:
        if word := peak_word(case).lower():
            found.setdefault(word, case)
    return list(found.values())[:n]
