"""work: which nodes the model needs. LM loss of the final model without free nodes, without aligned
nodes, and without either.

1. The free nodes, the aligned nodes, or all nodes of some layers are set to their mean or to 0, in
   all these layers at once. The aligned ones are also set to their calibrated simulations and to
   those of other labels, where the simulator can read the test split. With all layers at once, the
   true activations of a higher layer cannot repair an error of a lower one.
2. The share of free nodes = increase of the free set / (increase of the free set + increase of the
   aligned set), by mean ablation. Effects are not additive: the two increases rarely add up to that
   of the whole MLP. So that increase is recorded too, with the free set's share of it
   (`free_of_whole`, which may exceed 1).

What `function` has measured of a single layer on the same model and text is read. Shares are taken
from means, because ablation by 0 flatters MLPs. End-of-text tokens keep their true activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from interp_by_construction.config import Config, TextAmounts, only
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import or_undefined
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.labels import aligned_nodes
from interp_by_construction.scoring.shares import Share, share_of_increase
from interp_by_construction.scoring.simulated import SimulatedLayer
from interp_by_construction.scoring.substitution import (
    SUBSTITUTIONS,
    AlignedLayer,
    Increase,
    Substituted,
    layer_interventions,
    summarise,
)
from interp_by_construction.simulators.handle import ConfiguredSimulator, simulator_of
from interp_by_construction.stages import LayerStages, load_model
from interp_by_construction.stages.function import Function
from interp_by_construction.stages.losses import TestLoss
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.losses import Losses, document_losses
from interp_by_construction.subject.nodes import AlignedNodes

ABLATIONS = ("free_mean", "free_zero", "aligned_mean", "aligned_zero", "all_mean", "all_zero")
N_MEAN_BLOCKS = 128
"""Blocks of the select split for means, where there are no simulations to calibrate on."""


@dataclass(frozen=True)
class WorkRecord(TestLoss):
    """Losses in nats per token, increases against the untouched model."""

    layers: tuple[int, ...]
    ablation: dict[str, Increase]
    substitution: Substituted | None
    """By the nodes' own labels; null without simulations of the test split."""
    other_labels: Substituted | None
    """By other nodes' labels; null also where a layer has a single labelled node."""
    share_free: Share
    free_of_whole: float | None

    @classmethod
    def of(cls, layers: Sequence[int], losses: Losses, n_bootstrap: int, seed: int) -> Self:
        """Of losses under all `ABLATIONS` and, where there are simulations, `SUBSTITUTIONS`."""
        found = summarise(losses, ABLATIONS, n_bootstrap, seed)
        extra = {name: losses.nats[name] - losses.nats["none"] for name in ABLATIONS}
        free, whole = found.ablation["free_mean"], found.ablation["all_mean"]
        return cls(
            **vars(found) | {"substitution": found.substitution["own_labels"]},
            other_labels=found.substitution["other_labels"],
            layers=tuple(layers),
            share_free=share_of_increase(
                extra["free_mean"], extra["aligned_mean"], n_bootstrap, seed
            ),
            free_of_whole=free.loss_increase / whole.loss_increase if whole.certain else None,
        )

    def lines(self) -> Iterator[str]:
        """Substitution in several layers. That in one layer is shown by `function`."""
        if len(self.layers) < 2 or self.substitution is None:
            return

        def rise(increase: Increase | None) -> str:
            return or_undefined(None if increase is None else increase.loss_increase, "+.4f")

        own = self.substitution
        shares = map(or_undefined, (own.recovered_from_mean, own.recovered_from_zero))
        recovered = " and ".join(shares)
        yield (
            f"layers {', '.join(map(str, self.layers))} at once: the loss rises by {rise(own)} "
            "with all aligned nodes replaced by their simulation (recovered from mean and zero "
            f"ablation: {recovered}), by {rise(self.other_labels)} with that of other labels, by "
            f"{rise(self.ablation['aligned_mean'])} with their means"
        )


@dataclass(frozen=True)
class Work(Stage[WorkRecord]):
    """Writes `work.safetensors`: `document`, `tokens` and summed nats per intervention,
    [document]."""

    name = "work"
    version = 2
    record = WorkRecord
    says = "measures the loss without labelled neurons"

    corpus: Stage[Any]
    model: Stage[Any]
    simulate: tuple[Stage[Any], ...]
    """Of each layer; none where the simulator does not read any text."""
    labels: tuple[Stage[Any], ...]
    """Of each layer, where nothing is simulated."""
    function: Stage[Any] | None
    """Of the only layer."""
    layers: tuple[int, ...]
    simulator: ConfiguredSimulator
    texts: TextAmounts
    max_test_blocks: int | None
    """Without simulations; else the text is what they are on."""
    batch_size: int
    n_bootstrap: int
    seed: int

    @classmethod
    def examine(cls, cfg: Config, layer: LayerStages) -> Self | None:
        return cls.examine_all(cfg, (layer,))

    @classmethod
    def examine_all(cls, cfg: Config, layers: Sequence[LayerStages]) -> Self | None:
        """Layers of the final model at once, lowest first; None where that is switched off."""
        if not cfg.work.enabled:
            return None
        simulator, last = simulator_of(cfg), layers[-1]
        simulated = simulator.any_text
        return cls(
            last.setting.corpus,
            last.final,
            tuple(each.stages["simulate"] for each in layers) if simulated else (),
            () if simulated else tuple(each.labels for each in layers),
            Function.examine(cfg, last) if len(layers) == 1 else None,
            tuple(each.index for each in layers),
            simulator,
            only(TextAmounts, cfg.simulate),
            None if simulated else cfg.evaluate.max_test_blocks,
            cfg.evaluate.batch_size,
            cfg.evaluate.n_bootstrap,
            cfg.seed,
        )

    @property
    def shown_layer(self) -> int | None:
        return self.layers[0] if len(self.layers) == 1 else None

    def effort(self, sizes: Sizes) -> Effort:
        n_tokens = self.texts.n_head_score_tokens
        if not self.simulate:
            n_tokens = sizes.of_split("test", self.max_test_blocks)
        n_plans = 1 + len(ABLATIONS) + len(SUBSTITUTIONS)
        return Effort(read=n_tokens * (n_plans + len(self.layers)), seconds=1)

    def compute(self, job: Job) -> WorkRecord:
        losses = work_losses(
            load_model(job, self.model),
            self._aligned(job),
            bool(self.simulate),
            None if self.function is None else _known(job.path(self.function)),
            self.batch_size,
            self.seed,
        )
        saved = {"document": losses.document, "tokens": losses.tokens, **losses.nats}
        save_file(saved, job.out / "work.safetensors")
        return WorkRecord.of(self.layers, losses, self.n_bootstrap, self.seed)

    def _aligned(self, job: Job) -> list[AlignedLayer]:
        corpus, contrast = job.path(self.corpus), self.simulator.contrast
        if self.simulate:
            return [
                SimulatedLayer(job.path(each), corpus, layer, self.texts, contrast).substituted
                for layer, each in zip(self.layers, self.simulate, strict=True)
            ]
        return [
            without_simulations(corpus, layer, aligned_nodes(job.path(each)), self.max_test_blocks)
            for layer, each in zip(self.layers, self.labels, strict=True)
        ]


def work_losses(
    model: Any,
    layers: Sequence[AlignedLayer],
    simulated: bool,
    known: Losses | None,
    batch_size: int,
    seed: int,
) -> Losses:
    """All interventions, each in all layers at once. known: losses of the same model on the same
    text under some of them. Raises ValueError where texts differ."""
    passage = layers[0].test.passage
    for each in layers:
        other = each.test.passage
        same = other.source.name == passage.source.name
        if not (same and np.array_equal(other.blocks, passage.blocks)):
            raise ValueError("all layers must be simulated on the same text")
    plans = [
        layer_interventions(model, each, batch_size, seed, f"layer {each.nodes.layer}")
        for each in layers
    ]
    wanted = (*ABLATIONS, *(SUBSTITUTIONS if simulated else ()))
    # A single node has no other label.
    wanted = tuple(kind for kind in wanted if all(kind in plan for plan in plans))
    nats = {} if known is None else known.nats
    read = {kind: nats[kind] for kind in wanted if kind in nats}
    missing = {kind: [plan[kind] for plan in plans] for kind in wanted if kind not in read}
    losses = document_losses(model, passage, missing, batch_size, "substitute in all layers")
    if known is not None and not (
        np.array_equal(known.document, losses.document)
        and np.array_equal(known.tokens, losses.tokens)
    ):
        raise ValueError("the known losses are of other text")
    return losses._replace(nats=read | losses.nats)


def without_simulations(
    corpus: Path, layer: int, nodes: Sequence[int], max_test_blocks: int | None
) -> AlignedLayer:
    """A layer without simulations on the test blocks; means come from the select split."""

    def text(split: str, n_blocks: int | None) -> Simulated:
        passage = Passage.of_split(corpus, split, n_blocks=n_blocks)
        return Simulated(passage, np.broadcast_to(np.float32(0), (*passage.shape, len(nodes))))

    means, test = text("select", N_MEAN_BLOCKS), text("test", max_test_blocks)
    ids = np.asarray(nodes, dtype=np.int64)
    return AlignedLayer(AlignedNodes(layer, ids, np.ones_like(ids)), means, means, test)


def _known(function: Path) -> Losses:
    """What `function` measured of the final model."""
    saved, moment = load_file(function / "function_losses.safetensors"), "final."
    named = {
        name.removeprefix(moment): each for name, each in saved.items() if name.startswith(moment)
    }
    return Losses(named.pop("document"), named.pop("tokens"), named)
