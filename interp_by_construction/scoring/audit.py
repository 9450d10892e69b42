"""Text on which nodes of one model and the simulations of their labels disagree.

1. Each node's simulation is calibrated on one passage, which also gives the node's range, its span.
2. Mining, on another passage: node minus calibrated simulation on every token, in spans. The rate
   is the share of tokens, and of strongly active tokens (upper half of the span), on which they
   differ by more than `threshold`.
3. Editing (`scoring.hotflip`), for a sample of nodes, from four starts each: the token where the
   node is furthest above its simulation, furthest below, one on which both are high, and one on
   which both are low. As many random edits are the control.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from interp_by_construction.config.measures import SearchConfig
from interp_by_construction.corpus.passage import Passage, batches
from interp_by_construction.engine.progress import track
from interp_by_construction.engine.rows import read_rows
from interp_by_construction.scoring.hotflip import Editor, Simulate, Start
from interp_by_construction.scoring.mining import (
    KINDS,
    Gaps,
    MinedToken,
    Rates,
    choose_starts,
    describe,
    disagreement,
    mined,
    window_before,
)
from interp_by_construction.stats.undefined import mean_defined
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.nodes import AlignedNodes
from interp_by_construction.subject.reading import activations_on, device_of

SIMULATED_AT_ONCE = 8
"""Blocks."""


class AuditedLabels(NamedTuple):
    """The labels of one layer, and what they say."""

    aligned: AlignedNodes
    simulate: Simulate
    """On any text."""
    calibrated: Simulated
    """On the passage that calibrates."""
    mined: Simulated
    """On the passage that is searched."""

    @classmethod
    def on(
        cls, corpus: Path, split: str, aligned: AlignedNodes, simulate: Simulate, n_tokens: int
    ) -> AuditedLabels:
        """Calibrated on the simulate split, searched on `split`: `n_tokens` of each."""
        calibrate, search = (
            Passage.of_split(corpus, name, n_tokens=n_tokens) for name in ("simulate", split)
        )
        return cls(aligned, simulate, simulated(calibrate, simulate), simulated(search, simulate))


def simulated(passage: Passage, simulate: Simulate, description: str = "") -> Simulated:
    """What labels, of which there is at least one, say on a passage."""
    chunks = batches(len(passage), SIMULATED_AT_ONCE)
    shown = track(chunks, description) if description else chunks
    return Simulated(passage, np.stack([x for at in shown for x in simulate(passage.tokens[at])]))


@dataclass(frozen=True)
class Case:
    """One text on which a node and its label disagree."""

    node: int
    kind: str
    """real_high or simulated_high."""
    source: str
    """mined or edited."""
    block: int
    """Of the split that is searched; for an edited text that of its start."""
    tokens: list[str]
    peak: int
    """The token that is judged."""
    real: list[float]
    """Activation times pole of every token."""
    simulated: list[float]
    """Calibrated simulation of every token."""
    gap: float
    """At the peak, in spans of the node, times the kind's sign."""
    origin: str | None = None
    """Of an edited text: mined or agreeing."""
    gap_before: float | None = None
    """Of an edited text: the gap of its start."""
    swaps: list[dict[str, Any]] | None = None
    """Of an edited text: position, old and new token of every edit."""

    def row(self, moment: str) -> dict[str, Any]:
        """A line of `audit.jsonl`; `moment` says which model it was found on."""
        row = {key: value for key, value in asdict(self).items() if value is not None}
        return {"moment": moment} | row


def read_cases(audit: Path, moment: str = "final") -> list[Case]:
    """The cases that an audit artifact has of one model."""
    rows = read_rows(audit / "audit.jsonl")
    return [Case(**row) for row in rows if row.pop("moment") == moment]


@dataclass(frozen=True)
class SearchOutcome:
    """Starts of one origin: mean gap, and share with a gap above the threshold, before any edit
    and after edits along the gradient (hotflip) and at random."""

    n: int
    gap_before: float | None
    gap_hotflip: float | None
    gap_random: float | None
    rate_before: float | None
    rate_hotflip: float | None
    rate_random: float | None


@dataclass(frozen=True)
class SearchRecord:
    """How the editing went."""

    n_tried_hotflip: int
    n_tried_random: int
    n_nodes: int
    mined: SearchOutcome
    agreeing: SearchOutcome


@dataclass(frozen=True)
class MomentRecord:
    """The disagreements of one model: means over the nodes on which they are defined."""

    rate: float | None
    rate_strong: float | None
    rate_real_high: float | None
    rate_simulated_high: float | None
    n_undefined: int
    n_undefined_strong: int
    search: SearchRecord


def audit(
    model: PreTrainedModel,
    labels: AuditedLabels,
    cfg: SearchConfig,
    batch_size: int,
    seed: int,
    moment: str,
) -> tuple[list[Case], MomentRecord]:
    """Mined cases, then edited ones, and their rates. `moment` names the model in progress
    bars."""
    aligned, passage = labels.aligned, labels.mined.passage
    described = describe(model, aligned, labels.calibrated, batch_size, moment)
    layer, nodes, title = aligned.layer, aligned.nodes, f"audit {moment}"
    read = activations_on(model, passage, layer, nodes, batch_size, title)
    real = read.astype(np.float64).reshape(*passage.shape, -1) * aligned.poles
    calibration = described.calibration
    expected = calibration.scale * labels.mined.values + calibration.offset
    gaps = Gaps.of(real, expected, described, passage)
    rates = disagreement(gaps.gap, real, described, passage.is_text, cfg.threshold)
    cases = [_mined_case(token, gaps, cfg.window) for token in mined(gaps.gap, cfg.n_cases)]
    allowed = np.unique(passage.ids[passage.is_text])
    tokenizer = passage.source.tokenizer
    editor = Editor(model, tokenizer, described, labels.simulate, allowed, device_of(model))
    starts = choose_starts(gaps, editor, cfg, [seed, layer])
    edited, search = _searched(editor, starts, cfg, [seed, layer])
    return [*cases, *edited], _record(rates, search)


def _searched(
    editor: Editor, starts: Sequence[Start], cfg: SearchConfig, seed: Sequence[int]
) -> tuple[list[Case], SearchRecord]:
    """Edited texts that differ more than their starts, and the record."""
    before = editor.measured(starts)
    search = partial(editor.search, before, cfg.n_steps, cfg.n_candidates)
    by_gradient = search(None)
    n_gradient, editor.n_tried = editor.n_tried, 0
    by_chance = search(np.random.default_rng([*seed, 1]))
    n_random, editor.n_tried = editor.n_tried, 0
    groups = {"before": before, "hotflip": by_gradient, "random": by_chance}
    outcomes = {
        origin: _outcome(
            {
                name: [each.gap for each in group if each.origin == origin]
                for name, group in groups.items()
            },
            cfg.threshold,
        )
        for origin in ("mined", "agreeing")
    }
    n_nodes = len({start.column for start in starts})
    record = SearchRecord(n_gradient, n_random, n_nodes, **outcomes)
    return list(_edited_cases(editor, before, by_gradient)), record


def _outcome(gaps: Mapping[str, Sequence[float]], threshold: float) -> SearchOutcome:
    """gaps: before, hotflip, random -> gap of each start."""
    mean = {f"gap_{k}": float(np.mean(gap)) if gap else None for k, gap in gaps.items()}
    rate = {
        f"rate_{k}": float(np.mean(np.array(gap) > threshold)) if gap else None
        for k, gap in gaps.items()
    }
    return SearchOutcome(n=len(gaps["before"]), **mean, **rate)


def _edited_cases(
    editor: Editor, before: Sequence[Start], after: Sequence[Start]
) -> Iterator[Case]:
    """Of the starts that were edited."""
    grown = [(start, old.gap) for start, old in zip(after, before, strict=True) if start.swaps]
    if not grown:
        return
    every = zip(grown, *editor.values([start for start, _ in grown]), strict=True)
    for (start, gap_before), real, said in every:
        tokens = editor.tokens(start.ids)
        yield Case(
            node=int(editor.nodes.nodes[start.column]),
            kind=KINDS[start.direction],
            source="edited",
            block=start.block,
            tokens=tokens,
            peak=len(tokens) - 1,
            real=_rounded(real),
            simulated=_rounded(said),
            gap=_short(start.gap),
            origin=start.origin,
            gap_before=_short(gap_before),
            swaps=list(start.swaps),
        )


def _mined_case(token: MinedToken, gaps: Gaps, window: int) -> Case:
    column, direction, row, position = token
    passage = gaps.passage
    at = window_before(passage.tokens[row], passage.documents[row], position, window)
    return Case(
        node=int(gaps.nodes.nodes[column]),
        kind=KINDS[direction],
        source="mined",
        block=int(passage.blocks[row]),
        tokens=passage.tokens[row][at],
        peak=position - at.start,
        real=_rounded(gaps.real[row, at, column]),
        simulated=_rounded(gaps.expected[row, at, column]),
        gap=_short(gaps.gap[row, position, column] * direction),
    )


def _record(rates: Rates, search: SearchRecord) -> MomentRecord:
    return MomentRecord(
        rate=mean_defined(rates.all),
        rate_strong=mean_defined(rates.strong),
        rate_real_high=mean_defined(rates.real_high),
        rate_simulated_high=mean_defined(rates.simulated_high),
        n_undefined=int(np.isnan(rates.all).sum()),
        n_undefined_strong=int(np.isnan(rates.strong).sum()),
        search=search,
    )


def _rounded(values: NDArray[Any]) -> list[float]:
    return [_short(value) for value in values]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
