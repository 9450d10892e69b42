"""Blind relabelling: the labeler labels the aligned nodes afresh. How far do its labels agree with
theirs, by text and by what a simulator makes of them? Beside it the agreement with other nodes'
labels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.scoring.agreement import simulation_agreement, text_agreement
from interp_by_construction.scoring.excerpt_score import own_and_others
from interp_by_construction.scoring.score_table import Row
from interp_by_construction.scoring.scorer import Case, Scored
from interp_by_construction.simulators.exact import contrasted, simulate_packed

TITLES = {
    "simulation": "blind relabelling, r",
    "same_text": "blind relabelling, same label",
    "shared_words": "blind relabelling, shared words",
}


class _Simulated(NamedTuple):
    judge: str
    self_judged: bool
    own: NDArray[np.float32]
    """[token, node]"""
    fresh: NDArray[np.float32]
    """Of the nodes with a fresh label, [token, node]."""


class BlindRelabelling:
    """Writes `blind.jsonl`: `node`, `own` and `blind` label, and `r` of their simulations."""

    def score(self, case: Case) -> Scored:
        """Of the final model."""
        if case.blind is None:
            return Scored()
        has_blind = np.array([text is not None for text in case.blind], dtype=np.bool_)
        said = _simulated(case, [text for text in case.blind if text is not None])
        agreements = {
            "simulation": simulation_agreement(said.own, said.fresh, has_blind),
            **text_agreement(case.labels, case.blind),
        }
        rows: list[Row] = []
        for name, values in agreements.items():
            # Both labels come from the labeler, so comparing their texts is the labeler agreeing
            # with itself.
            judge, own = (said.judge, said.self_judged) if name == "simulation" else (None, True)
            agreement, chance = own_and_others(values)
            of = (f"blind_{name}", TITLES[name], judge, own)
            rows += [Row(*of, "final", agreement), Row(*of, "shuffled", chance)]
        r = own_and_others(agreements["simulation"])[0]
        return Scored(rows, files={"blind.jsonl": _records(case, case.blind, r)})


def _simulated(case: Case, fresh: list[str]) -> _Simulated:
    """Both labels where there is text, by the simulator of any text, else by the labeler itself."""
    if case.simulator is not None:
        passage = case.simulated.passage("head_score")
        values = case.simulator.on_score(fresh, passage)
        judge = (case.simulator.name, case.simulator.self_judged)
        own, use = case.simulated.on("head_score"), passage.is_text.reshape(-1)
    else:
        labeler, passage = case.judges[0], case.simulated.passage("score")
        own, use = case.simulated.on("score"), passage.is_text.reshape(-1)
        description = "simulate blind labels"
        raw = (
            simulate_packed(labeler.labeler, fresh, passage.tokens, description)
            if fresh
            else own[:, :0]
        )
        reference = case.simulated.values["score_reference"]
        values = contrasted(raw, reference, case.simulated.contrast)
        judge = (labeler.name, labeler.self_judged)
    return _Simulated(*judge, own[use], values[use])


def _records(case: Case, blind: Any, r: NDArray[np.float64]) -> list[dict[str, Any]]:
    return [
        {
            "node": int(node),
            "own": case.labels[i],
            "blind": blind[i],
            "r": float(r[i]) if math.isfinite(r[i]) else None,
        }
        for i, node in enumerate(case.simulated.aligned.nodes)
    ]
