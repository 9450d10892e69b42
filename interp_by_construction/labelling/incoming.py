"""Strongest incoming labelled nodes: the direct path from one aligned layer's nodes to the next
layer's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interp_by_construction.subject.records import Label, Node

Incoming = dict[tuple[int, int], list[tuple[str, float]]]
"""(node, pole) -> (label, weight) of its strongest labelled inputs."""


def strongest(
    model_dir: Path, layer: int, labels: Sequence[Label], nodes: Sequence[Node], n: int
) -> Incoming:
    """For each of `nodes`, the `n` labelled nodes of the layer below with the largest |virtual
    weight|, and that weight.

    The virtual weight is the product of the lower node's output direction and the node's input
    direction through the residual stream, as in Elhage et al. 2021
    (https://transformer-circuits.pub/2021/framework); norms are left out. Both are multiplied by
    the poles, so that a positive weight means: when the lower label applies, this one does more.
    """
    from interp_by_construction.subject.families import incoming_weights
    from interp_by_construction.subject.load import load_subject

    named = [label for label in labels if label.text is not None]
    if not named:
        return {}
    model = load_subject(model_dir)
    weights = incoming_weights(
        model, layer, [node.node for node in nodes], [label.node for label in named]
    ).numpy()
    result: Incoming = {}
    for row, node in zip(weights, nodes, strict=True):
        signed = row * node.pole * [label.pole for label in named]
        order = sorted(range(len(named)), key=lambda i: (-abs(signed[i]), i))[:n]
        result[node.node, node.pole] = [(str(named[i].text), float(signed[i])) for i in order]
    return result
