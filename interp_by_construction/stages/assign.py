"""assign: deal the labels out anew, so that each node gets a label that says what it does already.

1. Pool: the labels that the labeler gave, everything else it proposed for the layer, and the
   general list; distinct.
2. The head simulates the whole pool on the label split. A label that hardly ever applies there
   could not be checked, and of two that apply to the same tokens one is no label of its own: both
   kinds are left out (see `usable`).
3. With nodes.learnable the pool's labels are also asked how well a fresh neuron of the layer learns
   them (`training.readout`).
4. One linear assignment (Jonker and Volgenant 1987, https://doi.org/10.1007/BF02278710) pairs nodes
   with labels so that the sum of the correlations between activations and simulations, mixed with
   what can be learned, is as large as it can be.
5. A node that correlates with no label at all (it is constant), or that the pool has no label left
   for, has failed: it becomes free and is counted (invariant 3).

Only the label split is read (invariant 2). What follows sees the labels alone: the simulate stage
computes its targets from label and text (invariant 5). With nodes.poles=both a node that takes both
signs may be matched by -r: its pole turns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from interp_by_construction.config import LabelConfig, SimulateConfig
from interp_by_construction.corpus.parts import part_passage
from interp_by_construction.corpus.words import normalised
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.reading import FLAT, mlp_inputs_on, read_activations
from interp_by_construction.subject.records import Label
from interp_by_construction.subject.tables import write_records

if TYPE_CHECKING:
    from interp_by_construction.simulators.encoder import Encoder
    from interp_by_construction.simulators.head import Head

UNDEFINED = -2.0
"""Stands for an undefined correlation in the assignment: worse than any defined one, so it is taken
only when nothing is left."""

APPLIES = 0.5
"""A head simulates the chance that a label applies to a token; above this it does."""


class Candidate(NamedTuple):
    """One label of the pool."""

    text: str
    source: Literal["labeler", "general"]


def pool(
    labels: Sequence[Label], proposals: Iterable[str], general: Iterable[str]
) -> list[Candidate]:
    """Distinct candidates (see `normalised`); of equal ones the first stays: given labels, then
    proposals, then general ones."""
    given = [label.text for label in labels if label.text is not None]
    every = [
        *(Candidate(text, "labeler") for text in (*given, *proposals)),
        *(Candidate(text, "general") for text in general),
    ]
    first: dict[str, Candidate] = {}
    for candidate in every:
        first.setdefault(normalised(candidate.text), candidate)
    first.pop("", None)
    return list(first.values())


def run(
    model_dir: Path,
    corpus: Path,
    encoded: Path,
    labels: Sequence[Label],
    candidates: Sequence[Candidate],
    layer: int,
    cfg: SimulateConfig,
    label_cfg: LabelConfig,
    head: Head,
    encoder: Encoder,
    out: Path,
    device: Any,
    both: Collection[int] = (),
    learnable: float = 0.0,
    seed: int = 0,
    gated: bool = False,
) -> dict[str, Any]:
    """labels: what the labeler gave, one per selected node; candidates: see `pool`; encoded: token
    vectors of the part `label`; both: nodes whose pole may turn; learnable: weight of what the
    layer can learn, with `seed` for training neurons that are `gated` or not.

    Writes `labels.jsonl` (as the label stage does) and `matched.jsonl`: per node the r of its label
    on the label split, that of the label it had before, where the label comes from, and with
    `learnable` the r that a fresh neuron reaches on it.
    """
    passage = part_passage(corpus, "label", cfg)
    nodes, poles = (
        np.array([getattr(label, key) for label in labels], dtype=np.int64)
        for key in ("node", "pole")
    )
    model = load_subject(model_dir).to(device)
    vectors = np.load(encoded / "label.npy", mmap_mode="r")
    label_vectors = (
        head.label_vectors(encoder, [candidate.text for candidate in candidates])
        if candidates
        else None
    )
    use = passage.is_text.reshape(-1)
    sums, between = (
        Correlator(len(nodes), len(candidates)),
        Correlator(len(candidates), len(candidates)),
    )
    n_applies = np.zeros(len(candidates), dtype=np.int64)
    pieces = []
    for at, read in read_activations(
        model, passage, layer, nodes, description=f"assign layer {layer}"
    ):
        kept = slice(at.start * passage.length, at.stop * passage.length)
        values = rearrange(read, FLAT)
        if label_vectors is not None:
            simulated = head.simulate(vectors[kept][use[kept]], label_vectors)
            sums.add(values[use[kept]] * poles, simulated)
            between.add(simulated, simulated)
            n_applies += (simulated > APPLIES).sum(axis=0)
            if learnable and len(nodes):
                pieces.append(simulated)
    r = sums.correlations()
    column = {normalised(candidate.text): index for index, candidate in enumerate(candidates)}
    own = np.array(
        [
            np.nan if label.text is None else r[i, column[normalised(label.text)]]
            for i, label in enumerate(labels)
        ]
    )
    # Which sign a label gets is part of the match: that of the larger r.
    turned = (r < 0) & np.isin(nodes, list(both))[:, None]
    r = np.where(turned, -r, r)
    learned = np.zeros(len(candidates))
    if pieces:
        learned = _learned(
            mlp_inputs_on(model, passage, layer)[use],
            np.concatenate(pieces),
            passage.is_text,
            seed,
            gated,
            device,
        )
    # What no neuron learns any part of is worth as much as a label that fits no node.
    worth = (1 - learnable) * r + learnable * np.nan_to_num(learned)
    kept_labels = usable(
        n_applies, between.correlations(), worth, label_cfg.min_tokens, label_cfg.max_overlap
    )
    matched = match(np.where(np.isin(np.arange(len(candidates)), kept_labels), worth, np.nan))
    chosen = [
        _relabelled(label, matched[i], candidates, r[i], turned[i])
        for i, label in enumerate(labels)
    ]
    after = np.array([np.nan if index is None else r[i, index] for i, index in enumerate(matched)])
    sources = [None if index is None else candidates[index].source for index in matched]
    write_records(out / "labels.jsonl", [asdict(label) for label in chosen])
    write_records(
        out / "matched.jsonl",
        [
            {
                "node": label.node,
                "label": label.text,
                "source": sources[i],
                "r": _or_null(after[i]),
                "own_label": labels[i].text,
                "own_r": _or_null(own[i]),
            }
            | (
                {
                    "learnable_r": None
                    if matched[i] is None
                    else _or_null(float(learned[matched[i]]))
                }
                if learnable
                else {}
            )
            for i, label in enumerate(chosen)
        ],
    )
    n_labels = sum(label.text is not None for label in chosen)
    return {
        "n_labels": n_labels,
        "n_failed": len(chosen) - n_labels,
        # Such a node got a label of the pool all the same; the labeler's failure must not vanish
        # with it.
        "n_failed_labeler": sum(label.text is None for label in labels),
        "n_distinct": len({normalised(label.text) for label in chosen if label.text}),
        "n_pool": len(candidates),
        "n_pool_absent": int((n_applies < label_cfg.min_tokens).sum()),
        "n_pool_usable": len(kept_labels),
        "n_pool_general": sum(candidate.source == "general" for candidate in candidates),
        "n_tokens": int(use.sum()),
        "r_mean_before": _mean(own),
        "n_undefined_before": sum(label.text is not None for label in labels)
        - int((~np.isnan(own)).sum()),
        "r_mean_after": _mean(after),
        **(
            {"learnable_r_mean": _mean(learned[[i for i in matched if i is not None]])}
            if learnable
            else {}
        ),
        "n_turned": sum(new.pole != old.pole for new, old in zip(chosen, labels, strict=True)),
        "n_kept": sum(
            new.text == old.text
            for new, old in zip(chosen, labels, strict=True)
            if new.text is not None
        ),
        "share_from_labeler": sources.count("labeler") / n_labels if n_labels else None,
        "share_from_general": sources.count("general") / n_labels if n_labels else None,
    }


def _learned(
    read: NDArray,
    simulated: NDArray,
    is_text: NDArray[np.bool_],
    seed: int,
    gated: bool,
    device: Any,
) -> NDArray[np.float64]:
    """What a fresh neuron reaches on each label; every second excerpt is held out. read, simulated:
    [token, ...], text alone."""
    import torch

    from interp_by_construction.training.readout import readout_correlations

    held_out = np.broadcast_to((np.arange(len(is_text)) % 2 == 1)[:, None], is_text.shape)[is_text]
    inputs, wanted, kept = (
        torch.as_tensor(each, device=device) for each in (read, simulated, held_out)
    )
    return readout_correlations(inputs, wanted, kept, seed, gated)


def usable(
    n_applies: NDArray[np.int64],
    between: NDArray[np.float64],
    r: NDArray[np.float64],
    min_tokens: int,
    max_overlap: float,
) -> list[int]:
    """Columns of the labels that may be dealt out.

    n_applies: tokens that each label applies to, [label]; between: correlations of the labels'
    simulations, [label, label]; r: [node, label]. Left out are labels that apply to fewer than
    `min_tokens`, and labels whose simulation correlates above `max_overlap` with that of one which
    fits some node better.
    """
    best = np.nan_to_num(r, nan=UNDEFINED).max(axis=0, initial=UNDEFINED)
    kept: list[int] = []
    for label in np.argsort(-best, kind="stable").tolist():
        # NaN compares as False: a constant simulation overlaps with nothing.
        if n_applies[label] >= min_tokens and not (between[label, kept] > max_overlap).any():
            kept.append(label)
    return sorted(kept)


def match(r: NDArray[np.float64]) -> list[int | None]:
    """The label of each node, no label twice, so that the sum of r is as large as it can be.

    r: [node, label], NaN where undefined. None for a node without a defined r, or for which no
    label with one is left.
    """
    from scipy.optimize import linear_sum_assignment

    chosen: list[int | None] = [None] * len(r)
    # A node that correlates with nothing must not take a label from another.
    rows = np.flatnonzero(~np.isnan(r).all(axis=1)) if r.shape[1] else np.zeros(0, dtype=np.int64)
    assigned, columns = linear_sum_assignment(np.nan_to_num(r[rows], nan=UNDEFINED), maximize=True)
    for row, label in zip(rows[assigned], columns, strict=True):
        if not np.isnan(r[row, label]):
            chosen[int(row)] = int(label)
    return chosen


class Correlator:
    """Pearson's r between all nodes and all labels from one pass over the tokens, in memory that
    does not grow with them."""

    def __init__(self, n_nodes: int, n_labels: int) -> None:
        self.n = 0
        self._shift: tuple[NDArray, NDArray] | None = None
        self._sums = (np.zeros(n_nodes), np.zeros(n_labels))
        self._squares = (np.zeros(n_nodes), np.zeros(n_labels))
        self._products = np.zeros((n_nodes, n_labels))
        self._constant = (np.ones(n_nodes, dtype=np.bool_), np.ones(n_labels, dtype=np.bool_))

    def add(self, real: NDArray, simulated: NDArray) -> None:
        """real: activations times poles [token, node]; simulated: [token, label]."""
        if not len(real):
            return
        if self._shift is None:
            # Sums of differences from a typical value keep the digits that sums of squares lose;
            # the first token tells constants.
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


def _relabelled(
    old: Label,
    index: int | None,
    candidates: Sequence[Candidate],
    r: NDArray,
    turned: NDArray[np.bool_],
) -> Label:
    if index is None:
        constant = np.isnan(r).all()
        reason = (
            "it correlates with no label of the pool"
            if constant
            else "no label of the pool is left for it"
        )
        return replace(old, text=None, status="failed", reason=reason)
    pole, reason = (
        -old.pole if turned[index] else old.pole,
        f"matched, r {r[index]:.2f} on the label split",
    )
    return replace(old, pole=pole, text=candidates[index].text, status="aligned", reason=reason)


def _mean(values: NDArray) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def _or_null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
