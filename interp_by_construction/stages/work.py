"""work: where the work hides. LM loss of the final model without free nodes, without aligned nodes,
and without either.

1. The free nodes, the aligned nodes, and all nodes of some layers are set to their mean or to 0, in
   all these layers at once; the aligned ones also to their calibrated simulations, where the
   simulator can read the test split.
2. The share of the loss that flows through free nodes = increase of the free set / (increase of the
   free set + increase of the aligned set), by mean ablation. The two increases rarely add up to
   that of the whole MLP (effects are not additive), which is why that stands beside them, and the
   free set's share of it (`free_of_whole`, which may exceed 1).

What `function` and `cumulative` have measured on the same model and text is read, not measured
again. Zero ablation flatters MLP sites: the share is taken from means. End-of-text tokens keep
their true activations, as in `function`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.scoring.shares import share_of_increase
from interp_by_construction.scoring.substitution import (
    AlignedLayer,
    layer_interventions,
    loss_summary,
)
from interp_by_construction.stages import cumulative
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.losses import Losses, document_losses
from interp_by_construction.subject.nodes import AlignedNodes

ABLATIONS = ("free_mean", "free_zero", "aligned_mean", "aligned_zero", "all_mean", "all_zero")
N_MEAN_BLOCKS = 128
"""Blocks of the select split that means are taken from where there are no simulations to
calibrate."""


def run(
    model_dir: Path,
    layers: Sequence[AlignedLayer],
    with_simulations: bool,
    known: Losses | None,
    batch_size: int,
    n_bootstrap: int,
    seed: int,
    out: Path,
    device: Any,
) -> dict[str, Any]:
    """layers: lowest first; known: losses of the same model on the same text under some of the
    interventions.

    Writes `work.safetensors`: `document`, `tokens` and summed nats per intervention, [document].
    The metrics: `layers`, `loss` of the untouched model in nats per token, `ablation` and
    `substitution` with the increase against it (null without simulations), `share_free` and
    `free_of_whole` as above, null where undefined.

    Raises:
        ValueError: `known` is of other text.
    """
    from safetensors.numpy import save_file

    model = load_subject(model_dir).to(device)
    plans = [
        layer_interventions(model, each, batch_size, seed, f"layer {each.nodes.layer}")
        for each in layers
    ]
    wanted = (*ABLATIONS, "own_labels") if with_simulations else ABLATIONS
    missing = {
        kind: [plan[kind] for plan in plans]
        for kind in wanted
        if known is None or kind not in known.nats
    }
    losses = document_losses(
        model, layers[0].test.passage, missing, batch_size, "substitute cumulatively"
    )
    if known is not None:
        if not (
            np.array_equal(known.document, losses.document)
            and np.array_equal(known.tokens, losses.tokens)
        ):
            raise ValueError("the known losses are of other text")
        read = {kind: known.nats[kind] for kind in wanted if kind in known.nats}
        losses = losses._replace(nats=read | losses.nats)
    save_file(
        {"document": losses.document, "tokens": losses.tokens, **losses.nats},
        out / "work.safetensors",
    )
    return {"layers": [each.nodes.layer for each in layers], **summary(losses, n_bootstrap, seed)}


def summary(losses: Losses, n_bootstrap: int, seed: int) -> dict[str, Any]:
    """The metrics of losses under all `ABLATIONS` and, where there are simulations,
    `own_labels`."""
    increases = loss_summary(losses, ABLATIONS, "aligned_mean", "aligned_zero", n_bootstrap, seed)
    extra = {name: losses.nats[name] - losses.nats["none"] for name in ABLATIONS}
    free, whole = (increases["ablation"][name] for name in ("free_mean", "all_mean"))
    certain = whole["ci95"] is not None and whole["ci95"][0] > 0
    return increases | {
        "substitution": increases["substitution"]["own_labels"],
        "share_free": share_of_increase(
            extra["free_mean"], extra["aligned_mean"], n_bootstrap, seed
        ),
        "free_of_whole": free["loss_increase"] / whole["loss_increase"] if certain else None,
    }


def without_simulations(
    corpus: Path, layer: int, nodes: Sequence[int], max_test_blocks: int | None
) -> AlignedLayer:
    """A layer on the blocks that its test loss is measured on; means come from the select split.
    Nothing is simulated."""

    def text(split: str, n_blocks: int | None) -> Simulated:
        passage = Passage.of_split(corpus, split, n_blocks=n_blocks)
        return Simulated(passage, np.broadcast_to(np.float32(0), (*passage.shape, len(nodes))))

    means, test = text("select", N_MEAN_BLOCKS), text("test", max_test_blocks)
    ids = np.asarray(nodes, dtype=np.int64)
    return AlignedLayer(AlignedNodes(layer, ids, np.ones_like(ids)), means, means, test)


def known_of_layer(function_dir: Path) -> Losses:
    """What `function` measured of the final model."""
    from safetensors.numpy import load_file

    values, moment = load_file(function_dir / "function_losses.safetensors"), "final."
    named = {
        name.removeprefix(moment): value
        for name, value in values.items()
        if name.startswith(moment)
    }
    return Losses(named.pop("document"), named.pop("tokens"), named)


def known_of_layers(cumulative_dir: Path) -> Losses:
    """What `cumulative` measured of several layers at once."""
    from safetensors.numpy import load_file

    values = load_file(cumulative_dir / "cumulative.safetensors")
    document, tokens = values.pop("document"), values.pop("tokens")
    return Losses(
        document, tokens, {cumulative.KINDS.get(name, name): nats for name, nats in values.items()}
    )
