"""cumulative: substitution of several layers at once. One layer alone is part of `function`.

The aligned nodes of this and of all lower aligned layers of the final model are set to their
calibrated simulations in the same forward pass, so that no error of a lower layer can be repaired
by the true activations of a higher one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from interp_by_construction.corpus import load_blocks
from interp_by_construction.engine.progress import track
from interp_by_construction.stages.function import Simulated, calibrate, standard_interventions
from interp_by_construction.subject.intervene import (
    Intervention,
    Losses,
    batches,
    count_values,
    loss_summary,
    replaced,
    rows,
    token_nats,
)
from interp_by_construction.subject.load import load_subject

KINDS = {
    "mean": "aligned_mean",
    "zero": "aligned_zero",
    "own_labels": "own_labels",
    "other_labels": "other_labels",
}
"""Name here -> name among the interventions on one layer."""


class AlignedLayer(NamedTuple):
    """One aligned layer; its simulations are on the same text as those of the others."""

    layer: int
    nodes: NDArray[np.int64]
    poles: NDArray[np.int64]
    simulated: Simulated


def run(
    model_dir: Path,
    corpus: Path,
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

    texts = [each.simulated.test for each in layers]
    if any(
        t.split != texts[0].split or not np.array_equal(t.blocks, texts[0].blocks) for t in texts
    ):
        raise ValueError("all layers must be simulated on the same text")
    model = load_subject(model_dir).to(device)
    plans = [interventions(model, corpus, each, batch_size, seed, device) for each in layers]
    kinds = {
        kind: [plan[name] for plan in plans]
        for kind, name in KINDS.items()
        if all(name in plan for plan in plans)
    }
    losses = joint_losses(model, corpus, layers, kinds, batch_size, device)
    save_file(
        {"document": losses.document, "tokens": losses.tokens, **losses.nats},
        out / "cumulative.safetensors",
    )
    return {
        "layers": [each.layer for each in layers],
        **loss_summary(losses, ("mean", "zero"), "mean", "zero", n_bootstrap, seed),
    }


def interventions(
    model: nn.Module, corpus: Path, each: AlignedLayer, batch_size: int, seed: int, device: Any
) -> dict[str, Intervention]:
    """What `function` does to this layer alone, calibrated on the untouched model."""
    text, place = each.simulated.calibrate, f"layer {each.layer}"
    mean, own, other = calibrate(
        model, corpus, text, each.layer, each.nodes, each.poles, batch_size, seed, device, place
    )
    return standard_interventions(each.nodes, each.poles, mean, own, other, seed)


def joint_losses(
    model: nn.Module,
    corpus: Path,
    layers: Sequence[AlignedLayer],
    kinds: dict[str, list[Intervention]],
    batch_size: int,
    device: Any,
) -> Losses:
    """Of the untouched model (`none`) and with one intervention of a kind in every layer at
    once."""
    text = layers[0].simulated.test
    dataset, length = load_blocks(corpus, text.split), text.mask.shape[1]
    # A token's loss belongs to the document that it stands in, as in `evaluate.losses`.
    document, tokens = count_values(
        rows(dataset, "document", text.blocks[at], length)[:, 1:]
        for at in batches(len(text.blocks), 1024)
    )
    nats = {name: np.zeros(len(document)) for name in ("none", *kinds)}
    for at in track(batches(len(text.blocks), batch_size), "substitute cumulatively"):
        ids = torch.as_tensor(rows(dataset, "input_ids", text.blocks[at], length), device=device)
        place = np.searchsorted(
            document, rows(dataset, "document", text.blocks[at], length)[:, 1:]
        ).reshape(-1)
        where = torch.as_tensor(text.mask[at], device=device)
        np.add.at(nats["none"], place, token_nats(model, ids))
        for kind, interventions in kinds.items():
            with ExitStack() as stack:
                for each, intervention in zip(layers, interventions, strict=True):
                    simulated = np.asarray(each.simulated.test.values[at], dtype=np.float64)
                    values = torch.as_tensor(
                        np.asarray(intervention.values(simulated), dtype=np.float32), device=device
                    )
                    nodes = torch.as_tensor(intervention.nodes, device=device)
                    stack.enter_context(replaced(model, each.layer, nodes, values, where))
                np.add.at(nats[kind], place, token_nats(model, ids))
    return Losses(document, tokens, nats)
