"""cumulative: substitution of several layers at once. One layer alone is part of `function`.

The aligned nodes of this and of all lower aligned layers of the final model are set to their
calibrated simulations in the same forward pass, so that no error of a lower layer can be repaired
by the true activations of a higher one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp_by_construction.scoring.substitution import (
    AlignedLayer,
    layer_interventions,
    loss_summary,
)
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.losses import document_losses

KINDS = {
    "mean": "aligned_mean",
    "zero": "aligned_zero",
    "own_labels": "own_labels",
    "other_labels": "other_labels",
}
"""Name here -> name among the interventions on one layer."""


def run(
    model_dir: Path,
    layers: Sequence[AlignedLayer],
    batch_size: int,
    n_bootstrap: int,
    seed: int,
    out: Path,
    device: Any,
) -> dict[str, Any]:
    """layers: lowest first. Writes `cumulative.safetensors`: `document`, `tokens` and summed nats
    per intervention, [document].

    The metrics: `layers`, `loss` of the untouched model in nats per token, and under `ablation`
    (mean, zero) and `substitution` (own_labels, other_labels) the `loss_increase` against it with
    its interval, paired over documents; for substitutions also the share of each ablation's
    increase that they recover, null where ablation does no certain harm. An intervention that is
    undefined in a layer (a single node has no other label) is null.

    Raises:
        ValueError: the layers' simulations are not on the same text.
    """
    from safetensors.numpy import save_file

    passages = [each.test.passage for each in layers]
    first = passages[0]
    if any(
        p.source.name != first.source.name or not np.array_equal(p.blocks, first.blocks)
        for p in passages
    ):
        raise ValueError("all layers must be simulated on the same text")
    model = load_subject(model_dir).to(device)
    plans = [
        layer_interventions(model, each, batch_size, seed, f"layer {each.nodes.layer}")
        for each in layers
    ]
    kinds = {
        kind: [plan[name] for plan in plans]
        for kind, name in KINDS.items()
        if all(name in plan for plan in plans)
    }
    losses = document_losses(model, first, kinds, batch_size, "substitute cumulatively")
    save_file(
        {"document": losses.document, "tokens": losses.tokens, **losses.nats},
        out / "cumulative.safetensors",
    )
    return {
        "layers": [each.nodes.layer for each in layers],
        **loss_summary(losses, ("mean", "zero"), "mean", "zero", n_bootstrap, seed),
    }
