"""Aligned nodes of one layer against what is known about the stories without any language model:
the lexicon (`scoring.truth`), and for labels that name no concept the rules (`scoring.rule_truth`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.scoring.rule_truth import candidates, read_target, target_mask
from interp_by_construction.scoring.truth import (
    TruthScores,
    membership,
    n_unread,
    nearest_concept,
    score_against,
    score_layer,
    summarise,
)


@dataclass(frozen=True)
class RuleScores(TruthScores):
    """The nodes whose label names no concept."""

    n_no_rule: int
    """Labels that no rule reads."""

    def line(self) -> str:
        """For the terminal."""
        return (
            f"ground truth of other labels ({self.n} nodes; {self.n_no_rule} without a rule"
            + (f", {self.n_undefined} undefined" if self.n_undefined else "")
            + f"): {_shown(self)}"
        )


@dataclass(frozen=True)
class StoryScores(TruthScores):
    """The nodes against the lexicon, and the others against rules."""

    n_no_concept: int
    """Labels that name no concept."""
    wider: RuleScores
    n_covered: int
    """Nodes that the one or the other scores."""
    n_tokens: int
    n_held_out_tokens: int

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        none = (
            f"{self.n_no_concept} labels name no concept"
            + (f", {self.n_undefined} undefined" if self.n_undefined else "")
            + (f", {self.n_undefined_before} undefined before" if self.n_undefined_before else "")
        )
        yield f"ground truth ({self.n} nodes; {none}): {_shown(self)}"
        yield self.wider.line()


def _shown(scores: TruthScores) -> str:
    """The scores that both kinds of truth have."""

    def number(value: float | None) -> str:
        return "undefined" if value is None else f"{value:.2f}"

    return (
        f"r {number(scores.r_before)} before, {number(scores.r_mean)} final, "
        f"{number(scores.r_shuffled)} shuffled, {number(scores.r_mean_held_out)} in held-out "
        f"documents; AUC {number(scores.auc_mean)}, "
        f"label right {number(scores.share_label_right)}"
    )


def score_stories(
    real: Mapping[str, NDArray[Any]], passage: Passage, labels: Sequence[str]
) -> tuple[StoryScores, list[dict[str, Any]]]:
    """real: moment (before, final) -> activations times poles where there is text, [token, node];
    labels: one per node.

    Also returns for each node `concept`, `best`, `r`, `auc`, `r_shuffled`, `r_before`,
    `r_held_out`, `rule`, `rule_r` and `rule_auc`, null where undefined.
    """
    use, held_out = passage.is_text.reshape(-1), passage.held_out[passage.is_text]
    member = membership(passage.tokens)[use]
    final, before = (score_layer(real[moment], member, labels) for moment in ("final", "before"))
    rare = score_layer(real["final"][held_out], member[held_out], labels)
    columns = {
        "r": final.r,
        "auc": final.auc,
        "r_shuffled": final.shuffled,
        "r_before": before.r,
        "r_held_out": rare.r,
    }
    wider, of_rules = _score_rules(real, passage, labels)
    nodes = [
        {"concept": final.concepts[i], "best": final.best[i]}
        | {name: _or_null(values[i]) for name, values in columns.items()}
        | of_rules.get(i, {"rule": None, "rule_r": None, "rule_auc": None})
        for i in range(len(labels))
    ]
    lexical = summarise(final, before, rare)
    scores = StoryScores(
        **vars(lexical),
        n_no_concept=n_unread(final),
        wider=wider,
        n_covered=lexical.n + wider.n,
        n_tokens=int(use.sum()),
        n_held_out_tokens=int(held_out.sum()),
    )
    return scores, nodes


def _score_rules(
    real: Mapping[str, NDArray[Any]], passage: Passage, labels: Sequence[str]
) -> tuple[RuleScores, dict[int, dict[str, Any]]]:
    """The nodes whose label names no concept, and what each of them does, by its place in
    `labels`."""
    use, held_out = passage.is_text.reshape(-1), passage.held_out[passage.is_text]
    rest = [i for i, label in enumerate(labels) if nearest_concept(label) is None]
    read = [read_target(labels[i]) for i in rest]
    targets = candidates([target for target in read if target is not None])
    names = [target.name for target in targets]
    own = [None if target is None else target.name for target in read]
    member = target_mask(passage.tokens, targets)[use]
    final, before = (
        score_against(real[moment][:, rest], member, names, own) for moment in ("final", "before")
    )
    rare = score_against(real["final"][held_out][:, rest], member[held_out], names, own)
    nodes = {
        i: {
            "rule": own[place],
            "rule_r": _or_null(final.r[place]),
            "rule_auc": _or_null(final.auc[place]),
        }
        for place, i in enumerate(rest)
    }
    return RuleScores(**vars(summarise(final, before, rare)), n_no_rule=n_unread(final)), nodes


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
