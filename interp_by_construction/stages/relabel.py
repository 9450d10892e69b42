"""Blind relabelling: what would the labeler call the aligned nodes of the final model, did it not
know their labels?"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from interp_by_construction.config import CollectConfig, LabelConfig, NodesConfig
from interp_by_construction.labelling import incoming
from interp_by_construction.stages import collect, label
from interp_by_construction.subject.records import Label
from interp_by_construction.subject.tables import read_labels, read_nodes

if TYPE_CHECKING:
    from interp_by_construction.llm.client import Labeler


def run(
    model_dir: Path,
    corpus: Path,
    layer: int,
    labels: Sequence[Label],
    below: Sequence[Label],
    labeler: Labeler,
    collect_cfg: CollectConfig,
    nodes_cfg: NodesConfig,
    label_cfg: LabelConfig,
    seed: int,
    device: str,
) -> list[str | None]:
    """A fresh label for every labelled node of `labels`, in their order; None where the labeler
    failed.

    Excerpts come from the label split, as for the first labels; below: labels of the aligned layer
    underneath. One candidate per node, the labeler's most likely answer: there is nothing to choose
    by.
    """
    poles = {label.node: label.pole for label in labels if label.text is not None}
    if not poles:
        return []
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        collect.run(
            model_dir, corpus, layer, collect_cfg, nodes_cfg, seed, out, device, chosen=poles
        )
        nodes = read_nodes(out)
        shown = (
            incoming.strongest(model_dir, layer, below, nodes, label_cfg.n_incoming)
            if below
            else {}
        )
        label.run(nodes, shown, labeler, dataclasses.replace(label_cfg, n_candidates=1), seed, out)
        fresh = {label.node: label.text for label in read_labels(out)}
    return [fresh[node] for node in poles]
