"""Blind relabelling: the labeler labels the aligned nodes afresh, without knowing their labels.

How far do the new labels agree with the nodes' own, by text and by what a simulator makes of them?
Chance is the agreement with other nodes' labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.words import normalised
from interp_by_construction.scoring.excerpt_score import own_and_others
from interp_by_construction.scoring.score_table import Row
from interp_by_construction.scoring.scorer import Case, Scored
from interp_by_construction.simulators.exact import contrasted, simulate_packed
from interp_by_construction.stats.correlation import pairwise_correlation
from interp_by_construction.stats.undefined import or_none

TITLES = {
    "simulation": "blind relabelling, r",
    "same_text": "blind relabelling, same label",
    "shared_words": "blind relabelling, shared words",
}

FUNCTION_WORDS = frozenset(
    "a an and any are as at be by for from in into is it its no not of on or other some such than that the their then these this "
    "those to with word words token tokens name names related thing things kind kinds".split()
)
"""Two labels that share only these agree in nothing: `words of colors` and `words of animals`."""


def score(case: Case) -> Scored:
    """Of the final model. Writes `blind.jsonl`: `node`, `own` and `blind` label, and `r` of their
    simulations."""
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
        # Both labels come from the labeler, so comparing their texts is the labeler agreeing with
        # itself.
        judge, own = (said.judge, said.self_judged) if name == "simulation" else (None, True)
        agreement, chance = own_and_others(values)
        of = (f"blind_{name}", TITLES[name], judge, own)
        rows += [Row(*of, "final", agreement), Row(*of, "shuffled", chance)]
    nodes = case.simulated.aligned.nodes.tolist()
    r = own_and_others(agreements["simulation"])[0]
    records = [
        {"node": node, "own": own_label, "blind": blind, "r": or_none(value)}
        for node, own_label, blind, value in zip(nodes, case.labels, case.blind, r, strict=True)
    ]
    return Scored(rows, files={"blind.jsonl": records})


class _Simulated(NamedTuple):
    judge: str
    self_judged: bool
    own: NDArray[np.float32]
    """[token, node]"""
    fresh: NDArray[np.float32]
    """Of the nodes with a fresh label, [token, node]."""


def _simulated(case: Case, fresh: list[str]) -> _Simulated:
    """Both labels where there is text, by the simulator of any text, else by the labeler itself."""
    if case.simulator is not None:
        passage = case.simulated.passage("head_score")
        values = case.simulator.on_score(fresh, passage)
        judge = (case.simulator.name, case.simulator.self_judged)
        own = case.simulated.on("head_score")
    else:
        labeler, passage = case.judges[0], case.simulated.passage("score")
        own = case.simulated.on("score")
        raw = own[:, :0]
        if fresh:
            description = "simulate blind labels"
            raw = simulate_packed(labeler.labeler, fresh, passage.tokens, description)
        reference = case.simulated.values["score_reference"]
        values = contrasted(raw, reference, case.simulated.contrast)
        judge = (labeler.name, labeler.self_judged)
    use = passage.is_text.reshape(-1)
    return _Simulated(*judge, own[use], values[use])


def same_text(own: str, blind: str) -> float:
    """1 where the labels are the same but for case, spacing and a plural s (see `normalised`), else
    0."""
    return float(normalised(own) == normalised(blind))


def shared_words(own: str, blind: str) -> float:
    """Content words that both labels have, as a share of all they have (Jaccard), 0 to 1; NaN where
    neither has one."""
    first, second = content_words(own), content_words(blind)
    return len(first & second) / len(first | second) if first | second else math.nan


def content_words(label: str) -> set[str]:
    """Words without function words and without a plural s."""
    return {
        normalised(word)
        for word in re.findall(r"[^\W_]+", label.lower())
        if word not in FUNCTION_WORDS
    }


def text_agreement(
    own: Sequence[str], blind: Sequence[str | None]
) -> dict[str, NDArray[np.float64]]:
    """own, blind: labels of the same nodes, in order; None where the blind labelling failed.

    `same_text` and `shared_words`, [blind node, own label]; a failed node's row is NaN.
    """
    return {
        name: np.array(
            [[math.nan if b is None else measure(o, b) for o in own] for b in blind]
        ).reshape(len(blind), len(own))
        for name, measure in (("same_text", same_text), ("shared_words", shared_words))
    }


def simulation_agreement(
    own: NDArray[Any], blind: NDArray[Any], has_blind: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Pearson's r of the simulations of all pairs, [blind node, own label]; NaN where undefined or
    where there is no blind label.

    own: [token, node]; blind: [token, node with a blind label]; has_blind: which nodes those are,
    [node].
    """
    r = np.full((len(has_blind), own.shape[1]), math.nan)
    if has_blind.any():
        r[has_blind] = pairwise_correlation(blind, own)
    return r
