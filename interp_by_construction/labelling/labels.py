"""The labels of a layer, and the proposals that they were chosen from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from interp_by_construction.engine.rows import read_rows

Source = Literal["labeler", "prompt", "general"]
"""`labeler`: an answer in the labeler's own words. `prompt`: an answer that repeats a label which
its prompt showed. `general`: the list of general labels that ships with the package."""


@dataclass(frozen=True)
class Label:
    """The label of one node, or the reason why there is none."""

    node: int
    pole: int
    text: str | None
    status: Literal["aligned", "failed"]
    attempts: int
    reason: str | None
    source: Source | None = None
    """Where the text comes from; None without one."""


@dataclass(frozen=True)
class Proposal:
    """One answer of the labeler for one node, and what became of it."""

    node: int
    pole: int
    """The pole whose excerpts the labeler was shown."""
    round: int
    """0 is the first time that the labeler is asked for this node."""
    origin: Literal["proposal", "contrast", "retry", "last resort", "revision", "audit"]
    """What was asked. `contrast`: what sets the node apart from the one that holds its label.
    `retry`: another label. `last resort`: nothing; the node's top words were added to a label that
    is taken. `revision` and `audit`: a label that fits counter-examples better."""
    text: str | None
    """None if the answer is no label."""
    score: float | None = None
    """Pearson's r, on the select split, of the node's activations times `pole` with the simulation
    of `text`; None if it is undefined or not asked for."""
    chosen: bool = False
    why: str = ""
    """Why it was chosen or dropped."""
    in_prompt: bool = False
    """Whether the prompt showed this very label: as that of a solved example, of an incoming neuron
    or of another neuron, or as one to be improved or avoided."""

    @property
    def source(self) -> Source:
        return "prompt" if self.in_prompt else "labeler"


def read_labels(path: Path) -> list[Label]:
    """The labels of a label or assign artifact, in the node order of `collect`."""
    return [Label(**record) for record in read_rows(path / "labels.jsonl")]


def read_history(path: Path) -> list[Proposal]:
    """Every answer of a label artifact, in the node order of `collect`, oldest first."""
    return [Proposal(**record) for record in read_rows(path / "history.jsonl")]


def aligned_nodes(path: Path) -> list[int]:
    """The nodes that have a label, ascending, of a label or assign artifact."""
    return sorted(label.node for label in read_labels(path) if label.text is not None)


def too_low(score: float | None, least: float | None) -> str | None:
    """Why a node is left free whose best label says too little of it; None if it says enough.
    least: None if any label counts."""
    if least is None or (score is not None and score >= least):
        return None
    shown = "an undefined r" if score is None else f"r {score:.2f}"
    return f"its best label has {shown}, less than label.min_score={least:g}"
