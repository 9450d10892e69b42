"""Where a node and the simulation of its label disagree in a corpus: rates, the worst tokens, and
texts to start editing from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config.measures import SearchConfig
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.scoring.calibration import LineFit
from interp_by_construction.scoring.hotflip import Editor, Nodes, Start
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.nodes import AlignedNodes
from interp_by_construction.subject.reading import read_activations

KINDS = {1: "real_high", -1: "simulated_high"}
"""Direction -> which of the two is higher."""
ALIKE = 0.1
"""Node and simulation are alike where they differ by less than this share of the span."""


class Rates(NamedTuple):
    """Share of tokens on which node and label disagree, [node], NaN where undefined (a constant
    node; no strong token)."""

    all: NDArray[np.float64]
    strong: NDArray[np.float64]
    real_high: NDArray[np.float64]
    simulated_high: NDArray[np.float64]


def describe(
    model: Any,
    aligned: AlignedNodes,
    simulated: Simulated,
    batch_size: int,
    description: str = "",
) -> Nodes:
    """Calibration and range of each node on the text that is calibrated on."""
    line = LineFit(len(aligned.nodes))
    low, high = np.full(len(aligned.nodes), np.inf), np.full(len(aligned.nodes), -np.inf)
    layer, nodes, title = aligned.layer, aligned.nodes, f"calibrate {description}"
    for at, values in read_activations(model, simulated.passage, layer, nodes, batch_size, title):
        part = simulated.part(at)
        real = values[part.passage.is_text].astype(np.float64) * aligned.poles
        line.update(part.on_text(), real)
        low = np.minimum(low, real.min(axis=0, initial=np.inf))
        high = np.maximum(high, real.max(axis=0, initial=-np.inf))
    return Nodes(*aligned, line.result(), low, high - low)


def disagreement(
    gaps: NDArray[Any],
    real: NDArray[Any],
    nodes: Nodes,
    is_text: NDArray[np.bool_],
    threshold: float,
) -> Rates:
    """gaps: node minus calibrated simulation in spans, real: node times pole, [block, pos, node]
    both; NaN gaps are no text."""
    constant = nodes.span <= 0
    n_tokens = int(is_text.sum())
    strong = is_text[..., None] & (real > nodes.low + nodes.span / 2)

    def share(held: NDArray[np.bool_], of: NDArray[Any] | int) -> NDArray[np.float64]:
        counts = held.sum(axis=(0, 1)).astype(np.float64)
        result = np.divide(counts, of, out=np.full(len(constant), np.nan), where=np.asarray(of) > 0)
        result[constant] = np.nan
        return result

    # A NaN compares as False, and a constant node is undefined as a whole.
    above, below = gaps > threshold, gaps < -threshold
    return Rates(
        share(above | below, n_tokens),
        share((above | below) & strong, strong.sum(axis=(0, 1))),
        share(above, n_tokens),
        share(below, n_tokens),
    )


class MinedToken(NamedTuple):
    """One mined token."""

    column: int
    direction: int
    row: int
    position: int


def mined(gaps: NDArray[Any], n: int) -> list[MinedToken]:
    """Per node and kind the `n` tokens that differ most, at most one per block. The sign of their
    gap is that of the kind."""
    found = []
    for column in range(gaps.shape[2]):
        for direction in KINDS:
            signed = np.nan_to_num(gaps[..., column] * direction, nan=-np.inf)
            positions = signed.argmax(axis=1)
            best = signed[np.arange(len(signed)), positions]
            order = np.argsort(-best, kind="stable")[:n]
            found += [
                MinedToken(column, direction, int(row), int(positions[row]))
                for row in order
                if best[row] > 0
            ]
    return found


class Gaps(NamedTuple):
    """Nodes against calibrated simulations on a passage, [block, pos, node] each."""

    real: NDArray[np.float64]
    """Activation times pole."""
    expected: NDArray[np.float64]
    """Calibrated simulation."""
    gap: NDArray[np.float64]
    """The first minus the second in spans of the node; NaN where there is no text and for constant
    nodes."""
    nodes: Nodes
    passage: Passage

    @classmethod
    def of(
        cls,
        real: NDArray[np.float64],
        expected: NDArray[np.float64],
        nodes: Nodes,
        passage: Passage,
    ) -> Gaps:
        """Arguments as the fields."""
        gap = (real - expected) / np.where(nodes.span > 0, nodes.span, np.nan)
        gap[~passage.is_text] = np.nan
        return cls(real, expected, gap, nodes, passage)


def choose_starts(
    gaps: Gaps, editor: Editor, cfg: SearchConfig, seed: Sequence[int]
) -> list[Start]:
    """Up to four starts for each node of a seeded sample, see `scoring.audit`.

    Texts that the tokenizer reads as other tokens are left out: the effect of an edit could not be
    told from that of the reading.
    """
    rng = np.random.default_rng([*seed, 0])
    real, expected, every, nodes, passage = gaps
    defined = np.flatnonzero(nodes.span > 0)
    starts = []
    for column in np.sort(rng.permutation(defined)[: cfg.n_nodes]).tolist():
        gap = every[..., column]
        weaker = np.minimum(real[..., column], expected[..., column])
        middle = nodes.low[column] + nodes.span[column] / 2
        high = np.where(np.abs(gap) <= cfg.threshold, weaker, -np.inf)
        low = (
            (np.abs(gap) < ALIKE) & (real[..., column] < middle) & (expected[..., column] < middle)
        )
        tie = rng.random(low.shape)
        for direction, origin, merit in (
            (1, "mined", np.nan_to_num(gap, nan=-np.inf)),
            (-1, "mined", np.nan_to_num(-gap, nan=-np.inf)),
            (-1, "agreeing", np.where(weaker > middle, high, -np.inf)),
            (1, "agreeing", np.where(low, tie, -np.inf)),
        ):
            row, position = np.unravel_index(int(merit.argmax()), merit.shape)
            if not np.isfinite(merit[row, position]):
                continue
            text = passage.tokens[row], passage.documents[row]
            window = window_before(*text, int(position), cfg.window)
            ids = tuple(passage.ids[row, window].tolist())
            if editor.reads_back(ids):
                block = int(passage.blocks[row])
                starts.append(Start(column, direction, ids, origin, block))
    return starts


def window_before(
    tokens: Sequence[str], documents: NDArray[np.int64], position: int, window: int
) -> slice:
    """At most `window` tokens of one document that end with the token. They start at the beginning
    of a word if there is one."""
    first = max(0, position - window + 1)
    while documents[first] != documents[position]:
        first += 1
    begins = (i for i in range(first, position + 1) if tokens[i][:1].isspace())
    return slice(next(begins, first), position + 1)
