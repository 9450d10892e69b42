"""Ground truth of the stories corpus: does a node do what its label says, judged by the lexicon and
by no language model?

1. A label is read as one concept of the lexicon, from its text alone (`nearest_concept`).
2. The truth of a concept on a token is whether the token belongs to one of the concept's words.
3. The node is scored against the truth of its label's concept, with Pearson's r and with ROC AUC
   (the chance that a random token of the concept activates the node more than a random other
   token).

A label that names no concept, or two equally well, has no truth. Such nodes are counted, and so are
undefined scores. The rules that read labels were written with the labels of two runs and the
general list in view, but without any activation. Labels of grammar, single words, punctuation,
positions and other groups of words have a truth of their own, see `scoring.rule_truth`.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.lexicon import LEXICON, words_at
from interp_by_construction.corpus.words import normalised
from interp_by_construction.stats.correlation import TIE, pairwise_correlation
from interp_by_construction.stats.undefined import mean_defined

GOOD_AUC = 0.8

CONCEPTS = tuple(LEXICON)

ALIASES: Mapping[str, tuple[str, ...]] = {
    "animals": ("creature", "pet"),
    "animal sounds": ("animal noise", "animal call"),
    "colors": ("colour",),
    "family": ("relative", "kinship"),
    "positive feelings": ("positive emotion", "happiness", "joy"),
    "negative feelings": ("negative emotion", "sadness", "anger", "fear"),
    "movement": ("motion", "moving", "locomotion"),
    "speech": ("speaking", "saying", "talking", "dialogue"),
    "laughing": ("laughter", "smiling"),
    "crying": ("tears", "weeping"),
    "perception": ("seeing", "senses", "vision"),
    "thinking": ("thought", "cognition"),
    "hand actions": ("action with the hands",),
    "making": ("creating", "crafting"),
    "resting": ("sleeping", "sleep", "rest"),
    "drinks": ("beverage",),
    "tastes": ("flavor", "flavour"),
    "kitchen things": ("cutlery", "tableware", "kitchenware"),
    "clothes": ("clothing", "garment"),
    "vehicles": ("transport", "transportation"),
    "places": ("location",),
    "nature": ("plant",),
    "days": ("weekday",),
    "time of day": ("part of the day",),
    "touch": ("texture",),
    "jobs": ("occupation", "profession"),
}
"""Other names of the concepts: a label may say `emotions` for `feelings`."""

_EMPTY = frozenset({"of", "with", "the", "thing"})
"""Words of a concept's name that tell it from no other concept."""

_GRAMMAR = frozenset(
    "preposition conjunction article pronoun adverb degree ordinal digit meal after before into "
    "leaving first last end start beginning".split()
)
"""A label with one of these speaks of grammar, position or an event, whatever else it names:
`prepositions of place` and `going into a place` are no places."""

_ONE_WORD = re.compile(r"\bthe word\b|^'.*'$")
"""`the word 'said'` is one word, not the concept it belongs to."""

_FRAME = frozenset("word about for of such as and or other like kind type name the a".split())
"""Words that a list of members may stand in: `words such as red and blue`."""


class Truth(NamedTuple):
    """One layer against the lexicon; all arrays are [node], NaN where undefined or without a
    concept."""

    concepts: list[str | None]
    """What each label was read as."""
    best: list[str | None]
    """The concept that each node correlates with best; None where no correlation is defined."""
    r: NDArray[np.float64]
    auc: NDArray[np.float64]
    shuffled: NDArray[np.float64]
    """Mean r with the concepts of the other nodes' labels."""


def _words(text: str) -> frozenset[str]:
    return frozenset(normalised(text).split())


_NAMES = {
    concept: [_words(name) - _EMPTY for name in (concept, *ALIASES.get(concept, ()))]
    for concept in LEXICON
}
_MEMBERS = {concept: _words(" ".join(sorted(members))) for concept, members in LEXICON.items()}


_CONCEPTS_OF = {
    word: [column for column, concept in enumerate(CONCEPTS) if word in LEXICON[concept]]
    for word in frozenset().union(*LEXICON.values())
}
"""Word -> columns of its concepts."""


def nearest_concept(label: str) -> str | None:
    """The concept that a label names, by the words they share; None where no concept or more than
    one comes first.

    A concept's whole name, or another name for it, counts two for each of its words (so `animal
    sounds` is not `animals`), a member one: `animals such as fox` are animals, `red, blue` are
    colors, `food and drinks` are neither. Members alone count only where there are two and the
    label holds nothing else: `long periods of time` are no sizes, `long` is one word.
    """
    words = _words(label)
    if _ONE_WORD.search(label.strip().lower()):
        return None
    # `first names` are names; `the name after a title` is a position.
    if words & _GRAMMAR and ("name" not in words or words & {"after", "before"}):
        return None
    points: dict[str, int] = {}
    for concept, names in _NAMES.items():
        named = max(2 * len(name) if name <= words else 0 for name in names)
        # `short words` are words of a kind, `words such as red` are examples.
        own = words - _FRAME
        listed = named or (
            len(own) > 1 and own <= _MEMBERS[concept] and not normalised(label).endswith("word")
        )
        points[concept] = named + (len(_MEMBERS[concept] & words) if listed else 0)
    most = max(points.values())
    first = [concept for concept, value in points.items() if value == most]
    return first[0] if most and len(first) == 1 else None


def membership(excerpts: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """Truth of every concept of `CONCEPTS` on the tokens of all excerpts in order, [token,
    concept]."""
    lengths = [len(token) for tokens in excerpts for token in tokens]
    member = np.zeros((len(lengths), len(CONCEPTS)), dtype=np.bool_)
    first = 0
    for tokens in excerpts:
        ends = list(accumulate(map(len, tokens)))
        for start, stop, word in words_at("".join(tokens)):
            columns = _CONCEPTS_OF.get(word)
            if columns is not None:
                low, high = bisect_right(ends, start), bisect_right(ends, stop - 1)
                member[first + low : first + high + 1, columns] = True
        first += len(tokens)
    # Between the pieces of a word there may be empty ones, which hold nothing of it.
    member[np.array(lengths, dtype=np.int64) == 0] = False
    return member


def roc_auc(values: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve, from ranks (Mann and Whitney 1947), ties counted half. values,
    positive: [token].

    NaN where all tokens are positive or none is.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return math.nan
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    # A tied group takes the mean of the ranks it covers.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float(
        (ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    )


def score_against(
    real: NDArray[Any], truth: NDArray[np.bool_], names: Sequence[str], concepts: list[str | None]
) -> Truth:
    """Scores nodes against the truth of what each of their labels was read as.

    real: activations times poles [token, node]; truth: [token, name], as of `membership`; concepts:
    one of `names` for each node, or None.
    """
    every = pairwise_correlation(real, truth)
    r, auc, shuffled = (np.full(len(concepts), math.nan) for _ in range(3))
    best: list[str | None] = []
    column = {name: index for index, name in enumerate(names)}
    for node, concept in enumerate(concepts):
        row = every[node]
        best.append(None if np.isnan(row).all() else names[int(np.nanargmax(row))])
        if concept is None:
            continue
        if row[column[concept]] >= np.nanmax(row, initial=-1.0) - TIE:
            # Two names may hold on the same tokens of a short text.
            best[-1] = concept
        r[node] = row[column[concept]]
        if not np.isnan(r[node]):
            auc[node] = roc_auc(real[:, node], truth[:, column[concept]])
        others = [
            value
            for index, other in enumerate(concepts)
            if other is not None and index != node and not np.isnan(value := row[column[other]])
        ]
        shuffled[node] = float(np.mean(others)) if others else math.nan
    return Truth(concepts, best, r, auc, shuffled)


@dataclass(frozen=True)
class TruthScores:
    """One layer against the truth of its labels. Means are over the nodes where they are defined,
    null where there is none."""

    n: int
    """Nodes with a defined score."""
    n_undefined: int
    """Nodes whose label has a truth that cannot be scored: the node or the truth is constant on the
    text."""
    n_undefined_before: int
    n_undefined_held_out: int
    r_mean: float | None
    r_before: float | None
    """Before alignment."""
    r_mean_held_out: float | None
    """On held-out documents alone."""
    r_shuffled: float | None
    auc_mean: float | None
    share_auc_above_0_8: float | None
    share_label_right: float | None
    """Nodes that correlate with nothing better than with the truth of their own label."""


def n_unread(truth: Truth) -> int:
    """Nodes whose label was read as nothing."""
    return sum(concept is None for concept in truth.concepts)


def summarise(final: Truth, before: Truth, held_out: Truth) -> TruthScores:
    """held_out: the final model on held-out documents alone."""
    scored = ~np.isnan(final.r)
    right = [final.best[i] == final.concepts[i] for i in np.flatnonzero(scored)]
    return TruthScores(
        n=int(scored.sum()),
        n_undefined=len(final.concepts) - n_unread(final) - int(scored.sum()),
        n_undefined_before=int(np.isnan(before.r[scored]).sum()),
        n_undefined_held_out=int(np.isnan(held_out.r[scored]).sum()),
        r_mean=mean_defined(final.r[scored]),
        r_before=mean_defined(before.r[scored]),
        r_mean_held_out=mean_defined(held_out.r[scored]),
        r_shuffled=mean_defined(final.shuffled[scored]),
        auc_mean=mean_defined(final.auc[scored]),
        share_auc_above_0_8=mean_defined((final.auc[scored] > GOOD_AUC).astype(np.float64)),
        share_label_right=mean_defined(np.array(right, dtype=np.float64)),
    )
