"""The strongest labelled inputs of a node: nodes of the aligned layer below."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from interp_by_construction.labelling.labels import Label
from interp_by_construction.subject.families import incoming_weights
from interp_by_construction.subject.nodes import Node

Incoming = dict[tuple[int, int], list[tuple[str, float]]]
"""(node, pole) -> (label, weight) of its strongest labelled inputs."""


def strongest(
    model: nn.Module, layer: int, labels: Sequence[Label], nodes: Sequence[Node], n: int
) -> Incoming:
    """The `n` labelled nodes of the layer below with the largest |virtual weight| to each node.

    The virtual weight is the product of the lower node's output direction and the node's input
    direction (Elhage et al. 2021, https://transformer-circuits.pub/2021/framework), without norms.
    It is multiplied by both poles: with a positive weight, the node does more when the lower label
    applies.
    """
    named = [label for label in labels if label.text is not None]
    if not named:
        return {}
    ids = [node.node for node in nodes], [label.node for label in named]
    weights = incoming_weights(model, layer, *ids).cpu().numpy()
    result: Incoming = {}
    for row, node in zip(weights, nodes, strict=True):
        signed = row * node.pole * [label.pole for label in named]
        order = sorted(range(len(named)), key=lambda i: (-abs(signed[i]), i))[:n]
        result[node.node, node.pole] = [(str(named[i].text), float(signed[i])) for i in order]
    return result
