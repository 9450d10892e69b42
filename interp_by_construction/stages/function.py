"""function: does the label say what the node does, and does the model need the node? For two models
(before, final) of one layer.

1. Own-label rank: does a node's own label predict it better than all other labels of its layer,
   uncorrected for contrast?
2. Lookup R2: how much of a node is a mean per token id? Near 1 the node is a word detector, and
   context is computed elsewhere. And does the label say more than that table does, on text that the
   table was not fitted on? If it does, the label is contextual.
3. Ablation: LM loss when the aligned nodes, or the free ones, are set to their mean or to 0. If the
   loss does not rise without the aligned ones, the labels are true of nodes that do nothing.
4. Substitution: LM loss when the aligned nodes are set to their calibrated simulation (Bills et al.
   2023), and the share of the ablation's loss that this recovers. The same with other nodes' labels
   shows what any label would recover.
5. Clamping with and against the label (`scoring.clamp`), and the output tokens that each node
   promotes (`subject.direct_path`).

Ablation by 0 flatters MLPs, so ablation by the mean is recorded too. All losses are over the same
tokens. Every intervention acts on the positions that have a simulation; end-of-text tokens keep
their true activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

from interp_by_construction.config import Config, FunctionConfig
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.effort import Effort, Sizes
from interp_by_construction.engine.records import Column, Record, or_undefined
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.scoring.clamp import KINDS, Budget, ClampRecord, measure_clamping
from interp_by_construction.scoring.lookup import (
    CONTEXTUAL,
    ContextSummary,
    LookupSummary,
    context_summary,
    lookup_of,
    lookup_summary,
)
from interp_by_construction.scoring.rank import RankSummary, own_label_ranks, rank_summary
from interp_by_construction.scoring.substitution import (
    ABLATIONS,
    AlignedLayer,
    Calibrated,
    LossSummary,
    ablations,
    calibrate,
    substitutions,
    summarise,
)
from interp_by_construction.simulators.handle import simulator_of
from interp_by_construction.stages import LayerMeasurement, LayerStages, load_model
from interp_by_construction.stats.correlation import columnwise_correlation
from interp_by_construction.subject.direct_path import promoted_tokens
from interp_by_construction.subject.families import d_mlp
from interp_by_construction.subject.losses import Losses, document_losses
from interp_by_construction.subject.nodes import read_promoted
from interp_by_construction.subject.reading import activations_on

LOOKUP_SPLIT = "score"


@dataclass(frozen=True)
class CalibrationCounts:
    """Nodes whose simulation has no scale."""

    n_constant: int
    n_negative: int


@dataclass(frozen=True)
class MomentFunction(LossSummary):
    """What the nodes do in one model. Losses are in nats per token."""

    own_label_rank: RankSummary
    lookup_r2: LookupSummary
    contextual: ContextSummary
    calibration: CalibrationCounts
    clamp: ClampRecord


@dataclass(frozen=True)
class FunctionRecord(Record):
    """Before alignment and in the final model."""

    layer: int
    n_aligned: int
    n_free: int
    before: MomentFunction
    final: MomentFunction

    def lines(self) -> Iterator[str]:
        before, final = self.before, self.final

        def harm(name: str) -> str:
            both = (moment.ablation[name].loss_increase for moment in (before, final))
            return " -> ".join(f"{value:+.4f}" for value in both)

        by_own, by_other = (
            or_undefined(None if each is None else each.loss_increase, "+.4f")
            for each in map(final.substitution.get, ("own_labels", "other_labels"))
        )
        yield (
            "the loss rises (before -> final) without the aligned nodes, set to their mean, by "
            f"{harm('aligned_mean')}; without the free ones by {harm('free_mean')}; with the "
            f"aligned ones replaced by their simulation by {by_own}, by that of other labels by "
            f"{by_other}"
        )
        rank = final.own_label_rank
        lookup = " -> ".join(or_undefined(moment.lookup_r2.mean) for moment in (before, final))
        yield (
            f"own label ranked first: {or_undefined(rank.top1_rate)} of nodes (chance "
            f"{or_undefined(rank.chance_top1_rate)}); R2 from the token alone {lookup}"
        )
        context = final.contextual
        yield (
            f"share of contextual labels, which say more than the token alone: "
            f"{or_undefined(context.share)} (mean r of labels {or_undefined(context.label_r_mean)}, "
            f"of each node's own table per token {or_undefined(context.table_r_mean)})"
        )
        if final.clamp.n_single:
            yield _clamp_line(final.clamp)

    @classmethod
    def columns(cls, folder: Path) -> list[Column]:
        """`table_r`: r of the final node with its own table per token; `contextual`: whether its
        label beats that. Output tokens of the final model that an aligned node makes likelier and
        less likely."""
        promoted, found = read_promoted(folder), load_file(folder / "function.safetensors")
        label_r, table_r = found["final.own_r"], found["final.table_r"]
        contextual = zip(found["nodes"].tolist(), label_r - table_r, strict=True)
        return [
            Column.of_floats("table_r", found["nodes"], table_r),
            Column(
                "contextual",
                "bool",
                {node: bool(gain >= CONTEXTUAL) for node, gain in contextual if not np.isnan(gain)},
            ),
            *(
                Column(name, "strings", {node: each[name] for node, each in promoted.items()})
                for name in ("promotes", "suppresses")
            ),
        ]


def _clamp_line(clamp: ClampRecord) -> str:
    """Loss changes where the label applies, and elsewhere."""

    def change(kind: str) -> str:
        sides = (clamp.single[side][kind] for side in ("on", "off"))
        return " / ".join(or_undefined(side, "+.4f") for side in sides)

    return (
        f"one node clamped ({clamp.n_single} nodes), loss change where its label applies / "
        f"elsewhere: set to 0 where it applies {change('zero_on')}, to its largest elsewhere "
        f"{change('high_off')}, to its simulation {change('simulated')}"
    )


class Measured(NamedTuple):
    """One model."""

    record: MomentFunction
    per_node: dict[str, NDArray[Any]]
    """[node] each."""
    losses: Losses
    clamped: list[dict[str, Any]]


@dataclass(frozen=True)
class Function(LayerMeasurement[FunctionRecord]):
    """Writes `function.safetensors`: `nodes`, `poles`, and per moment `<moment>.rank`, `.own_r`,
    `.lookup_r2`, `.table_r`, `.scale`, `.offset`, float64 [node], NaN where undefined;
    `function_losses.safetensors`: `<moment>.document`, `.tokens` and `.<intervention>` (summed
    nats), [document]; `clamp.jsonl` (per moment, the nodes clamped alone) and `promoted.jsonl` (per
    moment and node).

    Needs simulations of the test split, so a simulator of any text.
    """

    name = "function"
    version = 5
    record = FunctionRecord
    says = "tests what the labelled neurons do"

    before: Stage[Any]
    final: Stage[Any]
    amounts: FunctionConfig
    batch_size: int
    n_bootstrap: int
    seed: int

    @classmethod
    def examine(cls, cfg: Config, layer: LayerStages) -> Self | None:
        """None for a simulator that does not read any text."""
        if not simulator_of(cfg).any_text:
            return None
        return cls(
            **cls.common(cfg, layer),
            before=layer.before,
            final=layer.final,
            amounts=cfg.function,
            batch_size=cfg.evaluate.batch_size,
            n_bootstrap=cfg.evaluate.n_bootstrap,
            seed=cfg.seed,
        )

    def effort(self, sizes: Sizes) -> Effort:
        n_tokens, amounts = self.texts.n_head_score_tokens, self.amounts
        # Untouched, four ablations, two substitutions; means, lines, ranks and largest activations.
        once = sizes.of_split(LOOKUP_SPLIT) + 11 * n_tokens
        clamped = amounts.n_clamp_tokens * (1 + (1 + amounts.n_clamped) * len(KINDS))
        return Effort(read=2 * (once + clamped), seconds=2)

    def compute(self, job: Job) -> FunctionRecord:
        corpus, layer = job.path(self.corpus), self.simulated(job).substituted
        check(layer)
        _, nodes, poles = layer.nodes
        lookup = Passage.of_split(corpus, LOOKUP_SPLIT, first=True)
        per_node: dict[str, NDArray[Any]] = {"nodes": nodes, "poles": poles}
        per_document: dict[str, NDArray[Any]] = {}
        clamped: list[dict[str, Any]] = []
        promoted: list[dict[str, Any]] = []
        records = []
        for moment, stage in (("before", self.before), ("final", self.final)):
            model = load_model(job, stage)
            found, n_nodes = self._measured(model, layer, lookup, moment), d_mlp(model, self.layer)
            tokens = promoted_tokens(
                model, corpus, self.layer, nodes, poles, self.amounts.n_promoted
            )
            records.append(found.record)
            per_node |= _of_moment(moment, found.per_node)
            losses = {"document": found.losses.document, "tokens": found.losses.tokens}
            per_document |= _of_moment(moment, losses | found.losses.nats)
            clamped += found.clamped
            promoted += [{"moment": moment, **row} for row in tokens]
        save_file(per_node, job.out / "function.safetensors")
        save_file(per_document, job.out / "function_losses.safetensors")
        write_rows(job.out / "clamp.jsonl", clamped)
        write_rows(job.out / "promoted.jsonl", promoted)
        return FunctionRecord(self.layer, len(nodes), n_nodes - len(nodes), *records)

    def _measured(self, model: Any, layer: AlignedLayer, lookup: Passage, moment: str) -> Measured:
        (index, nodes, poles), rank = layer.nodes, layer.rank
        size, amounts = self.batch_size, self.amounts
        real = activations_on(model, rank.passage, index, nodes, size, f"rank {moment}")
        # Column by column, as the correlations sum.
        on_text = np.asfortranarray(real[rank.passage.is_text.reshape(-1)]) * poles
        fitted = calibrate(model, layer.nodes, layer.calibrate, size, self.seed, moment)
        losses = layer_losses(model, layer, fitted, size, self.seed, moment)
        budget = Budget(amounts.n_clamped, amounts.n_clamp_tokens, size, self.seed)
        own = fitted.own
        clamp, clamped = measure_clamping(model, layer, own, budget, moment)
        ranks = own_label_ranks(on_text, rank.on_text())
        words = lookup_of(model, lookup, layer.nodes, size, moment, rank.passage)
        ids = rank.passage.ids[rank.passage.is_text]
        table_r = columnwise_correlation(on_text, words.elsewhere.means(ids) * poles)
        record = MomentFunction(
            **vars(summarise(losses, ABLATIONS, self.n_bootstrap, self.seed)),
            own_label_rank=rank_summary(ranks),
            lookup_r2=lookup_summary(words),
            contextual=context_summary(ranks.own_r, table_r),
            calibration=CalibrationCounts(int(own.constant.sum()), int(own.negative.sum())),
            clamp=clamp,
        )
        per_node = {"rank": ranks.rank, "own_r": ranks.own_r}
        per_node |= {"lookup_r2": words.r2, "table_r": table_r}
        return Measured(
            record, per_node | {"scale": own.scale, "offset": own.offset}, losses, clamped
        )


def layer_losses(
    model: nn.Module,
    layer: AlignedLayer,
    fitted: Calibrated,
    batch_size: int,
    seed: int,
    moment: str,
) -> Losses:
    """With the aligned and with the free nodes ablated, and with the aligned ones replaced."""
    ablated = ablations(layer.nodes.layer, layer.nodes.nodes, fitted.mean)
    plan = {name: [ablated[name]] for name in ABLATIONS}
    replaced = substitutions(layer.nodes, layer.test, fitted, seed)
    plan |= {name: [each] for name, each in replaced.items()}
    return document_losses(
        model, layer.test.passage, plan, batch_size, f"ablate and substitute {moment}"
    )


def _of_moment(moment: str, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{moment}.{name}": np.ascontiguousarray(each) for name, each in values.items()}


def check(aligned: AlignedLayer) -> None:
    """Raises ValueError for wrong shapes, repeated nodes, or text both calibrated and tested on."""
    layer, nodes, poles = aligned.nodes
    if nodes.shape != poles.shape or len(np.unique(nodes)) != len(nodes):
        raise ValueError(
            f"nodes {nodes.shape} and poles {poles.shape} of layer {layer} must be [node], each node once"
        )
    for name in ("rank", "calibrate", "test"):
        passage, values = getattr(aligned, name)
        if values.shape != (*passage.shape, len(nodes)):
            raise ValueError(f"{name}: values {values.shape} do not fit a passage {passage.shape}")
    calibrated, tested = aligned.calibrate.passage, aligned.test.passage
    same = calibrated.source.name == tested.source.name
    if same and np.intersect1d(calibrated.blocks, tested.blocks).size:
        raise ValueError(
            f"blocks of {tested.source.name} are both calibrated and tested on: give other blocks or another split"
        )
