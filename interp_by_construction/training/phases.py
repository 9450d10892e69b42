"""Which text every training phase reads, for how many steps, at which rate: from the configuration
alone.

A run trains in segments, one a layer. A segment's first phases end with the layer's freeze. Its
last phase, the repair, comes after the freeze. The comparisons (control, freeze-only, removed) take
exactly the segments of the run, so compute, text and order match by construction.

`sequential`: each layer has a local phase, a joint phase (LM loss and alignment), and `continue`.

`joint`: the first segment starts with one joint phase over all layers. Each segment ends with a
short settling. All phases read one stream, in which text with targets and plain text alternate.
Together they take the steps and the tokens of the sequential schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from interp_by_construction.config import Config

LOCAL, JOINT, CONTINUE = range(3)
"""Kinds of phases in `data_seed`."""


@dataclass(frozen=True)
class Reading:
    """Batches of one split, in an order that is a function of the seed."""

    split: Literal["align", "train"]
    """Only blocks of `align` have targets."""
    n_batches: int
    batch_size: int
    seed: int
    n_blocks: int | None = None
    """Only that many blocks from the start of the split; None: all."""


@dataclass(frozen=True)
class Phase:
    """One optimizer and one learning rate schedule over some steps of a stream."""

    name: str
    reads: tuple[Reading, ...]
    """One split, or two whose batches are mixed evenly (`batches.Stream`)."""
    first: int
    """Step of that stream at which the phase begins."""
    steps: int
    lr: float
    """Peak learning rate. A local phase that aligns has its own, `align.local_lr`."""
    local: bool = False
    """Whether the alignment loss alone trains the layer, if the layer has anything to align."""

    @property
    def batch_size(self) -> float:
        """Blocks per step, on average."""
        n_blocks = sum(each.n_batches * each.batch_size for each in self.reads)
        return n_blocks / max(1, sum(each.n_batches for each in self.reads))


@dataclass(frozen=True)
class Segment:
    """The training that belongs to one layer."""

    align: tuple[Phase, ...]
    """Up to the layer's freeze."""
    repair: Phase
    """After it: free nodes and higher layers train on."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All, in order."""
        return (*self.align, self.repair)


def segments(cfg: Config, layers: Sequence[int]) -> list[Segment]:
    """One for each layer of a run, lowest first. With the joint schedule a layer's segment depends
    on how many layers there are, with the sequential one on no other layer."""
    if cfg.schedule == "joint":
        return _joint_segments(cfg, len(layers))
    return [_sequential_segment(cfg, layer) for layer in layers]


def _sequential_segment(cfg: Config, layer: int) -> Segment:
    align, repair = cfg.align, cfg.continue_

    def aligning(kind: int, name: str, steps: int) -> Phase:
        seed = data_seed(cfg.seed, layer, kind)
        text = Reading("align", steps, align.batch_size, seed, n_target_blocks(cfg))
        return Phase(name, (text,), 0, steps, align.lr, local=kind == LOCAL)

    seed = data_seed(cfg.seed, layer, CONTINUE)
    plain = Reading("train", repair.steps, repair.batch_size, seed)
    phases = aligning(LOCAL, "local", align.local_steps), aligning(JOINT, "joint", align.steps)
    return Segment(phases, Phase("continue", (plain,), 0, repair.steps, repair.lr))


def _joint_segments(cfg: Config, n_layers: int) -> list[Segment]:
    align, repair = cfg.align, cfg.continue_
    n_aligning = n_layers * (align.local_steps + align.steps)
    n_plain = n_layers * repair.steps
    # Settling takes the steps of one `continue`, shared out among the layers.
    settle = repair.steps // n_layers
    joint = n_aligning + n_plain - n_layers * settle
    # The seeds name no layer, so that sets of layers of one size share their control.
    seeds = [data_seed(cfg.seed, 0, kind) for kind in (JOINT, CONTINUE)]
    stream = (
        Reading("align", n_aligning, align.batch_size, seeds[0], n_target_blocks(cfg)),
        Reading("train", n_plain, repair.batch_size, seeds[1]),
    )
    first = Phase("joint", stream, 0, joint, align.lr)
    settling = [
        Phase(f"settle_{position}", stream, joint + position * settle, settle, repair.lr)
        for position in range(n_layers)
    ]
    return [Segment(() if position else (first,), phase) for position, phase in enumerate(settling)]


def n_target_blocks(cfg: Config) -> int:
    """Blocks of the align split that have targets."""
    return max(1, cfg.simulate.max_align_tokens // cfg.data.block_size)


def data_seed(seed: int, layer: int, kind: int) -> int:
    """Seed of the data order of one phase."""
    return seed * 1000 + layer * 10 + kind
