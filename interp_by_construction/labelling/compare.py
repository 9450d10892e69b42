"""How well a label predicts each node on one text (r), and where it does not (counter-examples).

Candidates are chosen by r on the select split. Counter-examples come from the label split, so that
a revision is not judged on the text that it was made from (invariant 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.windows import window_around
from interp_by_construction.labelling.revision import CounterExamples, one_per_word
from interp_by_construction.stats.correlation import pairwise_correlation
from interp_by_construction.stats.undefined import or_none
from interp_by_construction.subject.nodes import Excerpt, excerpt_of

Simulate = Callable[[Sequence[str]], NDArray[Any]]
"""Labels -> simulated activations on all tokens of one text, [token, label]."""
LABELS_AT_ONCE = 256
WINDOW = 16
"""Tokens of a counter-example, three quarters of them before the token in question."""


class Comparison:
    """One text, what the nodes do on it, and a simulator."""

    def __init__(
        self,
        text: Passage,
        real: NDArray[Any],
        nodes: Sequence[int],
        simulate: Simulate,
        simulator: str,
    ) -> None:
        """real: activations without poles on all tokens of `text`, [token, node].

        simulator: the name of what `simulate` does.
        """
        self.text, self.simulator = text, simulator
        self._real, self._simulate = real, simulate
        self._column = {node: i for i, node in enumerate(nodes)}
        self._use = text.is_text.reshape(-1)
        self._r: dict[str, NDArray[np.float64]] = {}

    @property
    def n_tokens(self) -> int:
        """Tokens that are compared: those that are text."""
        return int(self._use.sum())

    def add(self, labels: Sequence[str]) -> None:
        """Simulates the labels that are new, so that `r` knows them."""
        new = [label for label in dict.fromkeys(labels) if label not in self._r]
        for start in range(0, len(new), LABELS_AT_ONCE):
            chunk = new[start : start + LABELS_AT_ONCE]
            r = pairwise_correlation(self._real[self._use], self._simulate(chunk)[self._use])
            self._r |= {label: r[:, i] for i, label in enumerate(chunk)}

    def r(self, node: int, pole: int, label: str) -> float | None:
        """Pearson's r of activations times `pole` with the simulation of a label that was added."""
        return or_none(self._r[label][self._column[node]] * pole)

    def counter_examples(
        self, labels: Sequence[tuple[int, int, str]], n: int
    ) -> dict[int, CounterExamples]:
        """Node -> counter-examples to its label, at most `n` words of each kind; no empty ones.

        labels: (node, pole, label).
        """
        texts = list(dict.fromkeys(label for _, _, label in labels))
        found: dict[int, CounterExamples] = {}
        for start in range(0, len(texts), LABELS_AT_ONCE):
            chunk = texts[start : start + LABELS_AT_ONCE]
            simulated = self._simulate(chunk)
            for node, pole, label in labels:
                if label in chunk:
                    real = self._real[:, self._column[node]] * pole
                    examples = self._examples(real, simulated[:, chunk.index(label)], n)
                    if examples.missed or examples.wrong:
                        found[node] = examples
        return found

    def _examples(self, real: NDArray[Any], simulated: NDArray[Any], n: int) -> CounterExamples:
        tokens = np.flatnonzero(self._use)
        missed, wrong = (
            one_per_word((self._cut(int(token), real) for token in tokens[ranked]), n)
            for ranked in disagreements(real[tokens], simulated[tokens])
        )
        return CounterExamples(missed, wrong)

    def _cut(self, token: int, real: NDArray[Any]) -> Excerpt:
        """The excerpt around a token, up to the next end-of-text token on each side."""
        row, position = divmod(token, self.text.length)
        borders = np.flatnonzero(~self.text.is_text[row])
        low = max((int(b) + 1 for b in borders if b < position), default=0)
        high = min((int(b) for b in borders if b > position), default=self.text.length)
        # An excerpt that ends early does not begin earlier instead.
        window = window_around(position, WINDOW, low, position + WINDOW)
        window = slice(window.start, min(window.stop, high))
        tokens, values = self.text.tokens[row], real.reshape(self.text.shape)[row]
        return excerpt_of(tokens, values, position, window, int(self.text.blocks[row]))


def disagreements(
    real: NDArray[Any], simulated: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens where a label says too little, and tokens where it says too much, worst first.

    real: activations times pole [token]; simulated: [token]. Too little: `real` is more than one
    standard deviation above its mean, and `simulated` is below its own mean. Too much: the reverse.
    The worst token has the largest difference in standard deviations. None if either is constant.
    """
    none = np.zeros(0, dtype=np.int64)
    if not len(real) or (real == real[0]).all() or (simulated == simulated[0]).all():
        return none, none
    x, y = (
        (values - values.mean()) / values.std()
        for values in (np.asarray(real, float), np.asarray(simulated, float))
    )
    order = np.argsort(y - x, kind="stable")
    missed, wrong = order[((x > 1) & (y < 0))[order]], order[::-1][((y > 1) & (x < 0))[order[::-1]]]
    return missed, wrong
