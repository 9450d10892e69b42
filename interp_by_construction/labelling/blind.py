"""Blind relabelling: the labeler names aligned nodes without knowing their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from interp_by_construction.config import CollectConfig
from interp_by_construction.config.labels import AskConfig
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.labelling.ask import Asker, Refusal, no_refusal
from interp_by_construction.labelling.evidence import gather_evidence, of_model
from interp_by_construction.labelling.incoming import strongest
from interp_by_construction.labelling.labels import Label
from interp_by_construction.labelling.rounds import label_nodes
from interp_by_construction.llm.client import Labeler


@dataclass(frozen=True)
class BlindLabeler:
    """Labels nodes as the label stage does, with one greedy candidate per node."""

    labeler: Labeler
    evidence: CollectConfig
    ask: AskConfig
    seed: int
    refusal: Refusal = no_refusal
    """Of labels that the simulator which compares them cannot take."""

    def relabel(
        self,
        model: nn.Module,
        passage: Passage,
        layer: int,
        labels: Sequence[Label],
        below: Sequence[Label],
    ) -> list[str | None]:
        """A fresh label for every labelled node of `labels`; None where the labeler failed.

        passage: the text that the labeler is shown. below: labels of the aligned layer below.
        """
        poles = {label.node: label.pole for label in labels if label.text is not None}
        if not poles:
            return []
        read = of_model(model, layer, self.evidence.batch_size)
        nodes = gather_evidence(read, passage, layer, self.evidence, poles, self.seed).nodes
        shown = strongest(model, layer, below, nodes, self.ask.n_incoming)
        ask = replace(self.ask, n_candidates=1)
        asker = Asker(self.labeler, ask, shown, self.seed, self.refusal)
        fresh = {label.node: label.text for label in label_nodes(nodes, asker).labels}
        return [fresh[node] for node in poles]
