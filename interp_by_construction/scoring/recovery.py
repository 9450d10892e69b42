"""Does labelling find the concept that was planted, and does a simulator tell its name from the
names of other concepts?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.grammar import Unit, units
from interp_by_construction.corpus.lexicon import LEXICON
from interp_by_construction.scoring.rule_truth import read_target
from interp_by_construction.scoring.truth import nearest_concept
from interp_by_construction.stats.correlation import TIE, pairwise_correlation


def recovery(labels: Sequence[str | None], planted: Sequence[frozenset[str]]) -> dict[str, Any]:
    """labels: one per node, None where labelling failed; planted: the concepts of each node, none
    for pure noise.

    `recovered` is the share of all nodes (failures included) whose label names a planted concept,
    `chance` the same when a node takes the label of any other node. Both are null where nothing was
    planted. `n_named`: labels that name some concept. `related` and `chance_related`: the same by
    `related_concept`.
    """
    n = len(labels)
    named = [None if label is None else nearest_concept(label) for label in labels]
    near = [None if label is None else related_concept(label) for label in labels]

    def rates(concepts: Sequence[str | None]) -> tuple[float | None, float | None]:
        if not any(planted) or not n:
            return None, None
        hits = np.array(
            [[concept in wanted for concept in concepts] for wanted in planted], dtype=np.float64
        )
        own = np.trace(hits)
        return float(own / n), float((hits.sum() - own) / (n * (n - 1))) if n > 1 else None

    (recovered, chance), (related, chance_related) = rates(named), rates(near)
    return {
        "n": n,
        "n_failed": sum(label is None for label in labels),
        "n_named": sum(concept is not None for concept in named),
        "recovered": recovered,
        "chance": chance,
        "related": related,
        "chance_related": chance_related,
    }


@cache
def _lexicon() -> dict[str, list[Unit]]:
    """Its words as rules read them; a thousand labels ask for them."""
    return {name: [units(word)[0] for word in words] for name, words in LEXICON.items()}


@lru_cache(maxsize=4096)
def related_concept(label: str) -> str | None:
    """The concept that a label names. If it names none: the concept that holds more than half of
    the lexicon's words of which the label is true (`walking and running`: movement).

    It is read from the label's text alone, by the rules of `scoring.rule_truth`. None where no rule
    matches or no concept has the majority.
    """
    if (concept := nearest_concept(label)) is not None:
        return concept
    target = read_target(label)
    if target is None:
        return None
    held = {name: sum(map(target.holds, words)) for name, words in _lexicon().items()}
    best = max(held, key=lambda name: held[name])
    return best if 2 * held[best] > sum(held.values()) else None


def true_label_ranks(
    real: NDArray[Any],
    simulated: NDArray[Any],
    names: Sequence[str],
    planted: Sequence[frozenset[str]],
) -> dict[str, Any]:
    """Are nodes predicted better by the name of their own concept than by those of all others?

    real: [token, node]; simulated: [token, name]. A node of two concepts takes the better of them.
    rank: 1 is best, ties count against the truth; auc: chance that the true name has a higher r
    than a false one, ties counted half. Means over the nodes that have a truth with a defined r;
    the others are counted, and so are names whose simulation is constant, which compete with
    nobody.
    """
    r = pairwise_correlation(real, simulated)
    ranks, aucs, best_false, own = [], [], [], []
    for row, wanted in zip(r, planted, strict=True):
        is_true = np.array([name in wanted for name in names])
        false = row[~is_true & ~np.isnan(row)]
        best_false.append(float(false.max()) if len(false) else np.nan)
        true = row[is_true & ~np.isnan(row)]
        if not len(true) or not len(false):
            continue
        best = float(true.max())
        own.append(best)
        ranks.append(1 + int((false >= best - TIE).sum()))
        equal = np.abs(false - best) < TIE
        aucs.append(float(((false < best) & ~equal).mean() + equal.mean() / 2))
    n_names = int((~np.isnan(r).all(axis=0)).sum())
    return {
        "n": len(ranks),
        "n_undefined": sum(bool(wanted) for wanted in planted) - len(ranks),
        "n_names": n_names,
        "top1": float(np.mean(np.array(ranks) == 1)) if ranks else None,
        "chance_top1": 1 / n_names if ranks else None,
        "median_rank": float(np.median(ranks)) if ranks else None,
        "auc": float(np.mean(aucs)) if aucs else None,
        "r_true": float(np.mean(own)) if own else None,
        "r_best_false": float(np.nanmean(best_false)) if not np.isnan(best_false).all() else None,
    }
