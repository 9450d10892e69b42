"""Where a node's label comes from, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interp_by_construction.labelling.labels import Proposal, Source
from interp_by_construction.report.layer_view import LayerView

ORIGINS = {
    "proposal": "the labeler's answer",
    "contrast": "the labeler's answer when it was asked what sets this neuron apart from another",
    "retry": "the labeler's answer when it was asked again",
    "last resort": "the labeler's answer was taken, so the neuron's own top words were added",
    "revision": "revised by the labeler after it saw where label and neuron disagree",
    "audit": "revised by the labeler after a search for text on which label and neuron disagree",
}


def label_source(view: LayerView, node: int) -> str:
    """One line: who came up with the label, and why this node has it. For a node without a label,
    why that is so."""
    label, matched = view.labels.get(node), view.matched.get(node)
    if label is None:
        return "it was not chosen to get a label"
    if label.text is None:
        return f"it was to get a label, but {label.reason}"
    own = view.history.get(node, [])
    repeats = ", which repeats a label that its prompt showed" if label.source == "prompt" else ""
    if matched is None:
        chosen = next((each for each in own if each.chosen), None)
        return "unknown" if chosen is None else f"{ORIGINS[chosen.origin]}{repeats}; {chosen.why}"
    fits = "" if matched["r"] is None else f" (r {matched['r']:.2f} on the label split)"
    return f"{_dealt(matched, label.source, own, view.history)}{repeats}{fits}"


def _dealt(
    matched: Mapping[str, Any],
    source: Source | None,
    own: Sequence[Proposal],
    history: Mapping[int, Sequence[Proposal]],
) -> str:
    """Of a label that was dealt out. own: what was proposed for the node itself; history: for all
    nodes of the layer."""
    text = matched["label"]
    if text == matched["own_label"]:
        return "the labeler's label for this neuron, which it kept when labels were dealt out"
    instead = f" in place of its own, “{matched['own_label']}”" if matched["own_label"] else ""
    if source == "general":
        return f"dealt out{instead}, from the general list that ships with ibc"
    if any(each.text == text for each in own):
        return f"dealt out{instead}: another answer of the labeler for this neuron"
    others = [node for node, each in history.items() if any(p.text == text for p in each)]
    whom = f"neuron {others[0]}" if others else "another neuron"
    return f"dealt out{instead}: the labeler proposed it for {whom}"
