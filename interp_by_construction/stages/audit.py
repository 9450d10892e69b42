"""audit: text on which label and node disagree. Top-activating examples cannot show it; one has to
look for it.

1. Calibrate each node's simulation (the simulate split) and take the node's range, its span.
2. Mine the select split: node minus calibrated simulation on every token, in spans. The rate is the
   share of tokens, and of strongly active tokens (upper half of the span), on which they differ by
   more than `audit.threshold`.
3. Edit text (`scoring.hotflip`) for a sample of nodes, from four starts each: the token where the
   node is furthest above its simulation, furthest below, one on which both are high, and one on
   which both are low. As many random edits are the control.

Both for the model before alignment and for the aligned one. Aligned nodes are frozen when the layer
is done, so that the model right after alignment stands for the final one. Labels that are not final
yet are audited in the same way, on the label split, and the cases serve to revise them
(`labelling.audit_cases`). No text of the score split is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import AuditConfig
from interp_by_construction.corpus.passage import Passage, batches
from interp_by_construction.engine.progress import track
from interp_by_construction.scoring.hotflip import Editor, Simulate, Start
from interp_by_construction.scoring.mining import (
    KINDS,
    Case,
    Rates,
    choose_starts,
    describe,
    disagreement,
    mined,
    window_before,
)
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.head import Head
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.reading import activations_on
from interp_by_construction.subject.records import AlignedNodes
from interp_by_construction.subject.tables import write_records

SPLIT = "select"
CHUNK = 8
"""Blocks that are simulated at once."""


def run(
    models: Mapping[str, Path],
    corpus: Path,
    calibrated: Simulated,
    aligned: AlignedNodes,
    simulate: Simulate,
    cfg: AuditConfig,
    batch_size: int,
    seed: int,
    out: Path,
    device: Any,
    split: str = SPLIT,
) -> dict[str, Any]:
    """models: moment (before, final) -> model directory; calibrated: simulations of the simulate
    split.

    Writes `audit.jsonl`, one case per line: `moment`, `node`, `kind` (real_high, simulated_high),
    `source` (mined, edited), `tokens`, `peak`, `real` (times pole) and `simulated` (calibrated) per
    token, `gap` (at the peak, in spans of the node, times the kind's sign), for edited ones
    `origin`, `gap_before`, `swaps`. Returns rates and the outcome of the search per moment.
    """
    passage = Passage.of_split(corpus, split, n_tokens=cfg.n_tokens)
    layer, nodes, poles = aligned
    is_text = passage.is_text
    chunks = (
        track(batches(len(passage), CHUNK), f"audit layer {layer}: simulate") if len(nodes) else ()
    )
    said = [each for at in chunks for each in simulate(passage.tokens[at])]
    records: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {
        "layer": layer,
        "n_nodes": len(nodes),
        "n_tokens": int(is_text.sum()),
    }
    metrics |= {"threshold": cfg.threshold}
    for moment, path in models.items():
        if not said:
            metrics[moment] = None
            continue
        model = load_subject(path).to(device)
        described = describe(model, aligned, calibrated, batch_size, moment)
        read = activations_on(model, passage, layer, nodes, batch_size, f"audit {moment}")
        real = read.astype(np.float64).reshape(*passage.shape, -1) * poles
        expected = described.calibration.scale * np.stack(said) + described.calibration.offset
        gaps = (real - expected) / np.where(described.span > 0, described.span, np.nan)
        gaps[~is_text] = np.nan
        rates = disagreement(gaps, real, described, is_text, cfg.threshold)
        cases = mined(gaps, cfg.n_cases)
        records += [
            _mined_record(moment, case, real, expected, gaps, nodes, passage, cfg.window)
            for case in cases
        ]
        editor = Editor(
            model,
            passage.source.tokenizer,
            described,
            simulate,
            np.unique(passage.ids[is_text]),
            device,
        )
        starts = choose_starts(gaps, real, expected, described, passage, editor, cfg, [seed, layer])
        found, record = _searched(editor, starts, cfg, [seed, layer])
        records += [_edited_record(moment, *each) for each in found]
        metrics[moment] = _rate_record(rates) | {"search": record}
    write_records(out / "audit.jsonl", records)
    return metrics


def simulated_text(corpus: Path, split: str, n_tokens: int, simulate: Simulate) -> Simulated:
    """What the labels say on about `n_tokens` of a split."""
    passage = Passage.of_split(corpus, split, n_tokens=n_tokens)
    chunks = batches(len(passage), CHUNK)
    return Simulated(
        passage, np.stack([each for at in chunks for each in simulate(passage.tokens[at])])
    )


def head_simulate(head: Head, encoder: Encoder, vectors: NDArray[np.float32]) -> Simulate:
    """Simulation of any text by a head; vectors: [node, width + 1]. In half precision, as a run
    stores token vectors."""

    def simulate(texts: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        encoded = encoder.encode(texts, batch_size=64)
        return [
            head.simulate(head.token_vectors(features).astype(np.float16), vectors)
            for features in encoded
        ]

    return simulate


def _searched(
    editor: Editor, starts: Sequence[Start], cfg: AuditConfig, seed: Sequence[int]
) -> tuple[list[tuple[Start, float, list[str], NDArray, NDArray, int]], dict[str, Any]]:
    """Edited texts that differ more than their starts (start, gap before, tokens, real, simulated,
    node), and the record."""
    before = editor.measured(starts)
    by_gradient = editor.search(before, cfg.n_steps, cfg.n_candidates, None)
    n_gradient, editor.n_tried = editor.n_tried, 0
    by_chance = editor.search(
        before, cfg.n_steps, cfg.n_candidates, np.random.default_rng([*seed, 1])
    )
    n_random, editor.n_tried = editor.n_tried, 0
    grown = [
        (after, old.gap) for after, old in zip(by_gradient, before, strict=True) if after.swaps
    ]
    real, simulated = editor.values([after for after, _ in grown]) if grown else ([], [])
    found = [
        (
            after,
            gap,
            editor.tokens(after.ids),
            real[i],
            simulated[i],
            int(editor.nodes.nodes[after.column]),
        )
        for i, (after, gap) in enumerate(grown)
    ]

    def outcome(origin: str) -> dict[str, Any]:
        chosen = [i for i, start in enumerate(starts) if start.origin == origin]
        groups = {"before": before, "hotflip": by_gradient, "random": by_chance}
        gap = {name: [group[i].gap for i in chosen] for name, group in groups.items()}
        return {
            "n": len(chosen),
            **{
                f"gap_{name}": float(np.mean(values)) if values else None
                for name, values in gap.items()
            },
            **{
                f"rate_{name}": float(np.mean(np.array(values) > cfg.threshold)) if values else None
                for name, values in gap.items()
            },
        }

    record = {
        "n_tried_hotflip": n_gradient,
        "n_tried_random": n_random,
        "n_nodes": len({start.column for start in starts}),
    }
    return found, record | {origin: outcome(origin) for origin in ("mined", "agreeing")}


def _rate_record(rates: Rates) -> dict[str, Any]:
    def mean(values: NDArray) -> float | None:
        defined = values[~np.isnan(values)]
        return float(defined.mean()) if len(defined) else None

    return {
        "rate": mean(rates.all),
        "rate_strong": mean(rates.strong),
        "rate_real_high": mean(rates.real_high),
        "rate_simulated_high": mean(rates.simulated_high),
        "n_undefined": int(np.isnan(rates.all).sum()),
        "n_undefined_strong": int(np.isnan(rates.strong).sum()),
    }


def _mined_record(
    moment: str,
    case: Case,
    real: NDArray,
    expected: NDArray,
    gaps: NDArray,
    nodes: NDArray[np.int64],
    passage: Passage,
    window: int,
) -> dict[str, Any]:
    row = case.row
    at = window_before(passage.tokens[row], passage.documents[row], case.position, window)
    return {
        "moment": moment,
        "node": int(nodes[case.column]),
        "kind": KINDS[case.direction],
        "source": "mined",
        "block": int(passage.blocks[row]),
        "tokens": passage.tokens[row][at],
        "peak": case.position - at.start,
        "real": _rounded(real[case.row, at, case.column]),
        "simulated": _rounded(expected[case.row, at, case.column]),
        "gap": _short(gaps[case.row, case.position, case.column] * case.direction),
    }


def _edited_record(
    moment: str,
    after: Start,
    gap_before: float,
    tokens: list[str],
    real: NDArray,
    simulated: NDArray,
    node: int,
) -> dict[str, Any]:
    return {
        "moment": moment,
        "node": node,
        "kind": KINDS[after.direction],
        "source": "edited",
        "origin": after.origin,
        "block": after.block,
        "tokens": tokens,
        "peak": len(tokens) - 1,
        "real": _rounded(real),
        "simulated": _rounded(simulated),
        "gap": _short(after.gap),
        "gap_before": _short(gap_before),
        "swaps": list(after.swaps),
    }


def _rounded(values: NDArray) -> list[float]:
    return [_short(value) for value in values]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
