"""The worst cases of an audit as counter-examples to labels, for revisions (`labelling.revision`).

An audit after alignment comes too late for the label that alignment was given. So
`label.audit_rounds` audits the labels while they are made, on the model that is not aligned yet:
mined from the label split and edited along the gradient. A revision is judged on the select split,
which made none of the cases (invariant 2).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp_by_construction.config import AuditConfig
from interp_by_construction.labelling.prompts import peak_word
from interp_by_construction.labelling.revision import CounterExamples
from interp_by_construction.scoring.hotflip import Simulate
from interp_by_construction.scoring.mining import KINDS
from interp_by_construction.stages import audit
from interp_by_construction.subject.records import AlignedNodes, Excerpt
from interp_by_construction.subject.tables import read_records

MOMENT = "before"
"""The moment of an audit at which labels can still change."""


class Auditor:
    """Counter-examples to labels from an audit of one layer of the model in `model_dir`."""

    def __init__(
        self,
        model_dir: Path,
        corpus: Path,
        layer: int,
        simulate: Callable[[Sequence[str]], Simulate],
        cfg: AuditConfig,
        batch_size: int,
        seed: int,
        device: Any,
    ) -> None:
        """simulate: labels -> their simulation of any text, one column per label."""
        self._model_dir, self._corpus, self._layer, self._simulate = (
            model_dir,
            corpus,
            layer,
            simulate,
        )
        self._cfg, self._batch_size, self._seed, self._device = cfg, batch_size, seed, device

    def counter_examples(
        self, labels: Sequence[tuple[int, int, str]], n: int
    ) -> dict[int, CounterExamples]:
        """labels: (node, pole, label). At most `n` words of each kind per node on which label and
        node differ by more than `audit.threshold`; no entry where there is none.
        """
        if not labels:
            return {}
        nodes, poles = (np.array([label[i] for label in labels], dtype=np.int64) for i in range(2))
        simulate = self._simulate([text for _, _, text in labels])
        calibrated = audit.simulated_text(self._corpus, "simulate", self._cfg.n_tokens, simulate)
        with tempfile.TemporaryDirectory() as directory:
            audit.run(
                {MOMENT: self._model_dir},
                self._corpus,
                calibrated,
                AlignedNodes(self._layer, nodes, poles),
                simulate,
                self._cfg,
                self._batch_size,
                self._seed,
                Path(directory),
                self._device,
                split="label",
            )
            found = worst_cases(Path(directory), MOMENT, self._cfg.threshold)
        return {
            node: CounterExamples(_words(cases.missed, n), _words(cases.wrong, n))
            for node, cases in found.items()
        }


def worst_cases(
    audit_dir: Path, moment: str = "final", min_gap: float = 0.0
) -> dict[int, CounterExamples]:
    """Node -> counter-examples to its label, worst first, mined and edited ones, as `collect` shows
    excerpts.

    Only those on which node and simulation differ by more than `min_gap` spans of the node.
    Activations are the node's own, times its pole. The text of edited ones is in no corpus; `block`
    is where it was taken from.
    """
    found: dict[int, dict[str, list[tuple[float, Excerpt]]]] = {}
    for record in read_records(audit_dir / "audit.jsonl"):
        if record["moment"] == moment and record["gap"] > min_gap:
            excerpt = Excerpt(record["tokens"], record["real"], record["peak"], record["block"])
            kinds = found.setdefault(record["node"], {kind: [] for kind in KINDS.values()})
            kinds[record["kind"]].append((record["gap"], excerpt))
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
