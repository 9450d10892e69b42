"""How networks are trained: alignment, continued training, dictionaries, the optimizer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from interp_by_construction.config.group import Group, at_least, ruled, share, thread_count


@dataclass(frozen=True)
class AlignKnobs(Group):
    """What aligned nodes are trained towards, and what that weighs. No control reads it."""

    weight: float = at_least(0, 0.3)
    """Weight of the alignment loss beside the language model's loss, in the joint phase."""
    local_lr: float = at_least(0, 3e-3)
    """Peak learning rate of the local phase."""
    objective: Literal["correlation", "mse"] = "correlation"
    """`correlation`: 1 - r. `mse`: mean squared error against the target on the activation's own
    scale, in units of its variance (`training.losses.alignment_loss`)."""
    ablate_free: float = share(0.0, "give a share of the steps, from 0 to 1")
    """Share of the steps, in the joint phase and in `continue`, on which the free nodes of one
    aligned layer stand at their mean over the batch. What the layer does must then flow through its
    aligned nodes. They do more of the work (`work`), and the loss is higher."""
    start: Literal["silent", "node", "readout"] = "silent"
    """Which aligned nodes start with the input weights of a neuron that was trained, on what the
    layer reads, to match their targets (`training.warm_start`). `silent`: those that are silent
    where their label applies and would never learn; not in gated MLPs. `node`: none. `readout`:
    all; scores are higher, and the work moves to other nodes (see `work` then)."""
    target: Literal["label", "shuffled", "random"] = "label"
    """`shuffled` and `random` are controls: nodes are trained towards the labels of other nodes of
    their layer, or towards random targets of the same sparsity and autocorrelation
    (`training.targets`). Scores stay those against the node's own label."""


@dataclass(frozen=True)
class AlignConfig(AlignKnobs):
    """How a layer is trained so that its nodes do what their labels say. The controls train as many
    steps on as many tokens."""

    distill: float = at_least(0, 0.0)
    """Weight of KL(original || trained) beside the LM loss, in the joint phase and in `continue`.
    The original is the run's subject as it was before any layer was aligned. The controls are
    distilled, too, so the tax is that of labels and freezing."""
    local_steps: int = at_least(0, 200)
    """Steps in which the forward pass stops at the layer and the alignment loss alone trains it."""
    steps: int = at_least(0, 300)
    """Joint steps (LM loss plus weighted alignment loss)."""
    lr: float = at_least(0, 1e-3)
    """Peak learning rate of the joint phase."""
    batch_size: int = at_least(1, 16)
    """Blocks per step."""


@dataclass(frozen=True)
class ContinueConfig(Group):
    """How the rest of the network trains on after a layer is frozen."""

    steps: int = at_least(0, 300)
    """Steps on the LM loss after the layer is frozen."""
    lr: float = at_least(0, 1e-3)
    """Peak learning rate."""
    batch_size: int = at_least(1, 16)
    """Blocks per step."""


@dataclass(frozen=True)
class FreeConfig(Group):
    """Free neurons in addition to those of the layer."""

    count: int = at_least(0, 0)
    """Free neurons that each aligned layer gets in addition, behind its own, when its alignment
    starts. Outputs stay the same until they train. The controls get them too."""


@dataclass(frozen=True)
class DictionaryConfig(Group):
    """How a transcoder is trained (nodes=transcoder)."""

    activation: Literal["topk", "relu"] = "topk"
    """`topk` keeps the k strongest features of each token, `relu` all that are positive."""
    k: int = at_least(1, 16)
    """Features kept per token (topk)."""
    expansion: int = at_least(1, 8)
    """Features per dimension of the residual stream."""
    skip: bool = False
    """Adds a linear map beside the features. It explains more, and nothing that flows through it is
    labelled."""
    sparsity: float = at_least(0, 0.1)
    """Weight of the sparsity penalty beside the fraction of variance unexplained (relu)."""
    steps: int = at_least(0, 1000)
    """Training steps."""
    lr: float = at_least(0, 5e-3)
    """Peak learning rate."""
    batch_size: int = at_least(1, 16)
    """Blocks per step."""
    dead_tokens: int = at_least(1, 100_000)
    """A feature that was not active for this many training tokens gets a loss of its own (topk)."""
    n_eval_tokens: int = at_least(1, 65536)
    """Tokens of the test split on which fidelity and dead features are measured."""


@dataclass(frozen=True)
class OptimizerConfig(Group):
    """How every training phase optimizes."""

    weight_decay: float = at_least(0, 0.0)
    """AdamW weight decay. It never touches frozen rows."""
    warmup: float = ruled(0.05, lambda value: 0 <= value < 1, "give a share between 0 and 1")
    """Share of a phase's steps over which the learning rate rises. Then it falls linearly to 0."""
    clip: float = at_least(0, 1.0)
    """Gradient norm limit."""


@dataclass(frozen=True)
class RuntimeConfig(Group):
    """How a run uses the machine. Part of no fingerprint."""

    device: str = ruled(
        "auto",
        lambda value: re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is not None,
        "give auto, cpu, cuda, or a GPU by its number such as cuda:1",
    )
    """auto, cpu, cuda, or one GPU of several by its number, such as cuda:1."""
    threads: int = thread_count(2)
    """Torch threads. Different numbers may change the last bits of a result."""
    checkpoint_seconds: float = at_least(0, 30.0)
    """Save a resumable checkpoint at least this often."""
    helper: Literal["auto", "always", "never"] = "auto"
    """A second process that computes what asks no language model, while the labeler writes. Changes
    no result. `auto`: on a CPU with twice the cores that a process uses, where it saves half a
    minute."""


@dataclass(frozen=True)
class TrainerConfig(OptimizerConfig, RuntimeConfig):
    """Optimizer and machine."""
