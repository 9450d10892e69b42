"""Matching: labels are dealt out anew, so that each node gets one that says what it does already.

1. The pool is all distinct labels: those that the labeler gave, everything else that it proposed
   for the layer, and the general list.
2. A simulator that reads any text cheaply simulates the whole pool. Labels that hardly ever apply,
   and labels that apply to the same tokens as a better one, are left out (see `usable`).
3. With nodes.learnable, a fresh neuron of the layer is trained on each label (`training.readout`).
4. A linear assignment (Jonker and Volgenant 1987, https://doi.org/10.1007/BF02278710) pairs nodes
   with labels. It maximizes the sum of the correlations between activations and simulations, mixed
   with what fresh neurons learn, times the weights of the labels.

With nodes.poles=both, a node that takes both signs may be matched by -r: its pole turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import nn

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.words import normalised
from interp_by_construction.labelling.labels import Label, Proposal, Source, too_low
from interp_by_construction.stats.undefined import or_none
from interp_by_construction.subject.dictionary import gated
from interp_by_construction.subject.nodes import AlignedNodes
from interp_by_construction.subject.reading import device_of, mlp_inputs_on, read_activations
from interp_by_construction.training.readout import readout_correlations

UNDEFINED = -2.0
"""Stands for an undefined correlation in the assignment. It is lower than any defined one."""

APPLIES = 0.5
"""A label applies to a token if its simulation, a probability, is larger."""


class Candidate(NamedTuple):
    """One label of the pool."""

    text: str
    source: Source
    weight: float = 1.0
    """How much it is wanted, beside others: what it is worth to a node is multiplied by this."""


def pool(
    labels: Sequence[Label], proposals: Iterable[Proposal], general: Iterable[str]
) -> list[Candidate]:
    """Distinct candidates (see `normalised`): given labels, then proposals, then general ones.

    A label that the labeler gave to one prompt that did not show it is the labeler's own.
    """
    every = [
        *(Candidate(each.text, each.source or "labeler") for each in labels if each.text),
        *(Candidate(each.text, each.source) for each in proposals if each.text),
        *(Candidate(text, "general") for text in general),
    ]
    first: dict[str, Candidate] = {}
    for candidate in every:
        key = normalised(candidate.text)
        known = first.setdefault(key, candidate)
        if candidate.source == "labeler":
            first[key] = known._replace(source="labeler")
    first.pop("", None)
    return list(first.values())


@dataclass(frozen=True)
class MatchLimits:
    """The settings of a match."""

    min_tokens: int
    max_overlap: float
    learnable: float
    """Weight of what the layer can learn, 0 to 1."""
    min_score: float | None = None
    """A node whose label has a lower r fails; None: any label counts."""


class Correlations(NamedTuple):
    """Correlations of a pool of labels with the nodes of a layer, on one passage."""

    r: NDArray[np.float64]
    """Of activations times pole with simulations, [node, label]; NaN where undefined."""
    between: NDArray[np.float64]
    """Of simulations with each other, [label, label]."""
    n_applies: NDArray[np.int64]
    """Number of tokens that each label applies to, [label]."""
    learned: NDArray[np.float64] | None
    """Of a fresh neuron of the layer with each label, [label]; None if not asked for."""


def correlate(
    model: nn.Module,
    passage: Passage,
    views: AlignedNodes,
    n_labels: int,
    simulate: Callable[[slice], NDArray[np.float32]],
    fresh_seed: int | None,
) -> Correlations:
    """Correlates `n_labels` labels with the nodes of `views`.

    simulate: blocks of the passage -> simulations where there is text, [token, label]. fresh_seed:
    for the training of fresh neurons; None trains none.
    """
    layer, nodes, poles = views
    sums, between = Correlator(len(nodes), n_labels), Correlator(n_labels, n_labels)
    n_applies, pieces = np.zeros(n_labels, dtype=np.int64), []
    reading = read_activations(model, passage, layer, nodes, description="activations")
    for at, values in reading if n_labels else ():
        simulated = simulate(at)
        sums.add(values[passage.is_text[at]] * poles, simulated)
        between.add(simulated, simulated)
        n_applies += (simulated > APPLIES).sum(axis=0)
        if fresh_seed is not None:
            pieces.append(simulated)
    learned = None if fresh_seed is None else np.zeros(n_labels)
    if fresh_seed is not None and pieces and len(nodes):
        learned = _learned(model, passage, layer, np.concatenate(pieces), fresh_seed)
    return Correlations(sums.correlations(), between.correlations(), n_applies, learned)


def _learned(
    model: nn.Module, passage: Passage, layer: int, simulated: NDArray[Any], seed: int
) -> NDArray[np.float64]:
    """The r of a fresh neuron with each label, [label]; every second block is held out.

    simulated: simulations where there is text, [token, label].
    """
    is_text = passage.is_text
    read = mlp_inputs_on(model, passage, layer)[is_text.reshape(-1)]
    held_out = np.broadcast_to((np.arange(len(is_text)) % 2 == 1)[:, None], is_text.shape)[is_text]
    inputs, wanted, kept = (
        torch.as_tensor(each, device=device_of(model)) for each in (read, simulated, held_out)
    )
    return readout_correlations(inputs, wanted, kept, seed, gated(model, layer))


@dataclass(frozen=True)
class Match:
    """The label that a node was dealt, and the one that it had."""

    label: Label
    r: float | None
    own: Label
    """The label that the node had."""
    own_r: float | None
    learnable_r: float | None
    """The r of a fresh neuron with the label; None if not asked for."""


class Dealt(NamedTuple):
    """The outcome of a match."""

    matches: list[Match]
    """One per node, in the order of the labels given."""
    usable: list[int]
    """Positions in the pool of the labels that could be dealt out."""


def deal(
    labels: Sequence[Label],
    candidates: Sequence[Candidate],
    found: Correlations,
    limits: MatchLimits,
    may_turn: NDArray[np.bool_],
) -> Dealt:
    """Deals out the labels of the pool, so that the sum of their worth to the nodes is as large as
    possible. Weights matter relative to each other only.

    labels: what the labeler gave, one per node. may_turn: whether the node's pole may turn, [node].
    """
    own = _own_r(labels, candidates, found.r)
    turned = (found.r < 0) & may_turn[:, None]
    r = np.where(turned, -found.r, found.r)
    learned = np.zeros(len(candidates)) if found.learned is None else found.learned
    worth = (1 - limits.learnable) * r + limits.learnable * np.nan_to_num(learned)
    worth = worth * np.array([each.weight for each in candidates])
    kept = usable(found.n_applies, found.between, worth, limits.min_tokens, limits.max_overlap)
    chosen = match(np.where(np.isin(np.arange(len(candidates)), kept), worth, np.nan))
    matches = []
    for i, (old, index) in enumerate(zip(labels, chosen, strict=True)):
        own_r = or_none(own[i])
        if index is None:
            reason = (
                "it correlates with no label of the pool"
                if np.isnan(r[i]).all()
                else "no label of the pool is left for it"
            )
            new = replace(old, text=None, status="failed", reason=reason, source=None)
            matches.append(Match(new, None, old, own_r, None))
            continue
        if (low := too_low(or_none(r[i, index]), limits.min_score)) is not None:
            new = replace(old, text=None, status="failed", reason=low, source=None)
            matches.append(Match(new, None, old, own_r, None))
            continue
        reason = f"matched, r {r[i, index]:.2f} on the label split"
        pole = -old.pole if turned[i, index] else old.pole
        dealt = candidates[index]
        new = replace(
            old, pole=pole, text=dealt.text, status="aligned", reason=reason, source=dealt.source
        )
        fresh = None if found.learned is None else or_none(learned[index])
        matches.append(Match(new, or_none(r[i, index]), old, own_r, fresh))
    return Dealt(matches, kept)


def _own_r(
    labels: Sequence[Label], candidates: Sequence[Candidate], r: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The r of each node with the label that it has, [node]; NaN without a label."""
    column = {normalised(candidate.text): index for index, candidate in enumerate(candidates)}
    return np.array(
        [
            np.nan if label.text is None else row[column[normalised(label.text)]]
            for row, label in zip(r, labels, strict=True)
        ]
    )


def usable(
    n_applies: NDArray[np.int64],
    between: NDArray[np.float64],
    r: NDArray[np.float64],
    min_tokens: int,
    max_overlap: float,
) -> list[int]:
    """Positions of the labels that may be dealt out.

    n_applies and between: as in `Correlations`; r: [node, label]. A label is left out if it applies
    to fewer than `min_tokens`, or if its simulation correlates above `max_overlap` with that of a
    label which fits some node better.
    """
    best = np.nan_to_num(r, nan=UNDEFINED).max(axis=0, initial=UNDEFINED)
    kept: list[int] = []
    for label in np.argsort(-best, kind="stable").tolist():
        # NaN compares as False: a constant simulation overlaps with nothing.
        if n_applies[label] >= min_tokens and not (between[label, kept] > max_overlap).any():
            kept.append(label)
    return sorted(kept)


def match(r: NDArray[np.float64]) -> list[int | None]:
    """The label of each node, no label twice, so that the sum of r is as large as possible.

    r: [node, label], NaN where undefined. None for a node for which no label with a defined r is
    left.
    """
    chosen: list[int | None] = [None] * len(r)
    # A node that correlates with nothing must not take a label from another.
    rows = np.flatnonzero(~np.isnan(r).all(axis=1)) if r.shape[1] else np.zeros(0, dtype=np.int64)
    assigned, columns = linear_sum_assignment(np.nan_to_num(r[rows], nan=UNDEFINED), maximize=True)
    for row, label in zip(rows[assigned], columns, strict=True):
        if not np.isnan(r[row, label]):
            chosen[int(row)] = int(label)
    return chosen


class Correlator:
    """Pearson's r of all nodes with all labels, from one pass over the tokens."""

    def __init__(self, n_nodes: int, n_labels: int) -> None:
        self.n = 0
        self._shift: tuple[NDArray[Any], NDArray[Any]] | None = None
        self._sums = (np.zeros(n_nodes), np.zeros(n_labels))
        self._squares = (np.zeros(n_nodes), np.zeros(n_labels))
        self._products = np.zeros((n_nodes, n_labels))
        self._constant = (np.ones(n_nodes, dtype=np.bool_), np.ones(n_labels, dtype=np.bool_))

    def add(self, real: NDArray[Any], simulated: NDArray[Any]) -> None:
        """real: activations times poles [token, node]; simulated: [token, label]."""
        if not len(real):
            return
        if self._shift is None:
            # Differences from a typical value keep digits that sums of squares would lose. They are
            # all 0 for a constant, since the value is that of the first token.
            self._shift = (real[0].astype(np.float64), simulated[0].astype(np.float64))
        x, y = real - self._shift[0], simulated - self._shift[1]
        self.n += len(x)
        for values, total, squares, constant in zip(
            (x, y), self._sums, self._squares, self._constant, strict=True
        ):
            total += values.sum(axis=0)
            squares += np.einsum("ti,ti->i", values, values)
            constant &= (values == 0).all(axis=0)
        self._products += np.einsum("tn,tl->nl", x, y, optimize=True)

    def correlations(self) -> NDArray[np.float64]:
        """[node, label]; NaN where either is constant."""
        if not self.n:
            return np.full(self._products.shape, np.nan)
        (sum_x, sum_y), (square_x, square_y) = self._sums, self._squares
        covariance = self._products - np.einsum("n,l->nl", sum_x, sum_y) / self.n
        spread = np.einsum("n,l->nl", square_x - sum_x**2 / self.n, square_y - sum_y**2 / self.n)
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.where(spread > 0, covariance / np.sqrt(np.maximum(spread, 0.0)), np.nan)
        r[self._constant[0]] = np.nan
        r[:, self._constant[1]] = np.nan
        clipped: NDArray[np.float64] = np.clip(r, -1.0, 1.0)
        return clipped
