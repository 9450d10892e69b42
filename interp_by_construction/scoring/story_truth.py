"""Aligned nodes of one layer against what is known about the stories without any language model:
the lexicon (`scoring.truth`), and for labels that name no concept the rules (`scoring.rule_truth`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.records import or_undefined
from interp_by_construction.scoring.rule_truth import candidates, read_target, target_mask
from interp_by_construction.scoring.truth import (
    CONCEPTS,
    Truth,
    TruthScores,
    membership,
    n_unread,
    nearest_concept,
    score_against,
    summarise,
)
from interp_by_construction.stats.undefined import or_none


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
    return (
        f"r {or_undefined(scores.r_before)} before, {or_undefined(scores.r_mean)} final, "
        f"{or_undefined(scores.r_shuffled)} shuffled, {or_undefined(scores.r_mean_held_out)} in "
        f"held-out documents; AUC {or_undefined(scores.auc_mean)}, "
        f"label right {or_undefined(scores.share_label_right)}"
    )


def score_stories(
    real: Mapping[str, NDArray[Any]], passage: Passage, labels: Sequence[str]
) -> tuple[StoryScores, list[dict[str, Any]]]:
    """real: moment (before, final) -> activations times poles where there is text, [token, node];
    labels: one per node.

    Also returns for each node `concept`, `best`, `r`, `auc`, `r_shuffled`, `r_before`,
    `r_held_out`, `rule`, `rule_r` and `rule_auc`, null where undefined.
    """
    concepts = [nearest_concept(label) for label in labels]
    final, before, held_out = measured = _measured(
        real, passage, membership(passage.tokens), CONCEPTS, concepts, slice(None)
    )
    columns = {
        "r": final.r,
        "auc": final.auc,
        "r_shuffled": final.shuffled,
        "r_before": before.r,
        "r_held_out": held_out.r,
    }
    wider, of_rules = _score_rules(real, passage, labels)
    nodes = [
        {"concept": concepts[i], "best": final.best[i]}
        | {name: or_none(values[i]) for name, values in columns.items()}
        | of_rules.get(i, {"rule": None, "rule_r": None, "rule_auc": None})
        for i in range(len(labels))
    ]
    lexical = summarise(*measured)
    scores = StoryScores(
        **vars(lexical),
        n_no_concept=n_unread(final),
        wider=wider,
        n_covered=lexical.n + wider.n,
        n_tokens=int(passage.is_text.sum()),
        n_held_out_tokens=int(passage.held_out[passage.is_text].sum()),
    )
    return scores, nodes


def _measured(
    real: Mapping[str, NDArray[Any]],
    passage: Passage,
    truth: NDArray[np.bool_],
    names: Sequence[str],
    read: list[str | None],
    nodes: list[int] | slice,
) -> tuple[Truth, Truth, Truth]:
    """Some nodes of the final model and of the model before alignment, and of the final model on
    held-out documents alone. truth: of `names` on the whole passage, [token, name]; read: what each
    node's label was read as."""
    held_out, truth = passage.held_out[passage.is_text], truth[passage.is_text.reshape(-1)]
    return (
        score_against(real["final"][:, nodes], truth, names, read),
        score_against(real["before"][:, nodes], truth, names, read),
        score_against(real["final"][held_out][:, nodes], truth[held_out], names, read),
    )


def _score_rules(
    real: Mapping[str, NDArray[Any]], passage: Passage, labels: Sequence[str]
) -> tuple[RuleScores, dict[int, dict[str, Any]]]:
    """The nodes whose label names no concept, and the columns `rule` of each, by its place in
    `labels`."""
    rest = [i for i, label in enumerate(labels) if nearest_concept(label) is None]
    read = [read_target(labels[i]) for i in rest]
    targets = candidates([target for target in read if target is not None])
    own = [None if target is None else target.name for target in read]
    truth, names = target_mask(passage.tokens, targets), [target.name for target in targets]
    final, *others = _measured(real, passage, truth, names, own, rest)
    nodes = {
        i: {"rule": rule, "rule_r": or_none(r), "rule_auc": or_none(auc)}
        for i, rule, r, auc in zip(rest, own, final.r, final.auc, strict=True)
    }
    return RuleScores(**vars(summarise(final, *others)), n_no_rule=n_unread(final)), nodes
