"""Nodes made up from labelled tokens: what the labeler would be shown of a node that does what a
label says.

Activations are those of an imperfect node: members differ by word and by chance, some are missed,
and a few other tokens are active as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from supervision import Supervision

from interp_by_construction.subject.nodes import Excerpt, Node

WINDOW = 16
"""Tokens of an excerpt, as `collect.window`."""
N_TOP, N_MIDDLE, N_NEAR, N_RANDOM = 12, 6, 5, 5
BY_WORD, BY_CHANCE = 0.35, 0.2
"""Spread of the logarithm of activations between words, and within one."""
FALSE_SHARE = 0.06
"""Of the strongest excerpts, those of tokens that are no members."""
FORGETS = 0.3
"""Share of the nodes without near misses that are no members."""


@dataclass(frozen=True)
class Places:
    """Where each token stands."""

    text: NDArray[np.int64]
    """[token]"""
    start: NDArray[np.int64]
    """First token of each text, and the end: [text + 1]"""

    @classmethod
    def of(cls, data: Supervision) -> Places:
        lengths = [len(pieces) for pieces in data.texts]
        return cls(data.text_of, np.concatenate([[0], np.cumsum(lengths)]))

    def window(self, token: int, rng: np.random.Generator, size: int = WINDOW) -> tuple[int, int]:
        """First and one-past-last token of an excerpt around a token, most of it before."""
        low, high = self.start[self.text[token]], self.start[self.text[token] + 1]
        first = max(low, token - int(rng.integers(size // 2, size)))
        return int(first), int(min(high, first + size))


def make_node(
    data: Supervision,
    places: Places,
    members: NDArray[np.int64],
    near: NDArray[np.int64],
    tokens: NDArray[np.int64],
    rng: np.random.Generator,
) -> Node:
    """members, near: tokens to which the label applies, and tokens of the same words to which it
    does not. tokens: all that excerpts may be of."""
    of_word = np.exp(BY_WORD * rng.standard_normal(len(data.membership)))
    strength = of_word[data.types[members]] * np.exp(BY_CHANCE * rng.standard_normal(len(members)))
    order = members[np.argsort(-strength)]
    level = dict(zip(members.tolist(), strength.tolist(), strict=True))
    if len(near) and rng.random() > FORGETS:
        missed = rng.choice(near, min(N_NEAR, len(near)), replace=False)
    else:
        missed = order[::-1][: int(rng.integers(0, 3))]
    false = rng.choice(tokens, N_TOP)

    def excerpt(token: int, value: float) -> Excerpt:
        text = int(places.text[token])
        first, last = places.window(token, rng)
        begin = int(places.start[text])
        values = [level.get(i, 0.0) for i in range(first, last)]
        values[token - first] = value
        return Excerpt(data.texts[text][first - begin : last - begin], values, token - first, text)

    best = float(strength.max())
    top = [
        excerpt(int(false[i]), best * rng.uniform(0.6, 1.0))
        if rng.random() < FALSE_SHARE
        else excerpt(int(token), level[int(token)])
        for i, token in enumerate(order[:N_TOP])
    ]
    middle = order[len(order) // 2 :][:N_MIDDLE]
    return Node(
        layer=0,
        node=0,
        pole=1,
        mean=0.0,
        variance=0.0,
        top=top,
        quantiles=[excerpt(int(token), level[int(token)]) for token in middle[::-1]],
        near_misses=[
            excerpt(int(token), level.get(int(token), best * rng.uniform(0, 0.15)))
            for token in missed
        ],
        histogram=[],
        bin_edges=[],
        random=[excerpt(int(token), 0.0) for token in rng.choice(tokens, N_RANDOM)],
    )
