"""The three tasks of the labeler's adapter as token ids: simulate, detect and label.

The prompts are those of the package: `simulators.prompt` without rated texts,
`scoring.llm_judge` without solved questions, and `labelling.rated`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from evidence import Places, make_node
from numpy.typing import NDArray
from supervision import Supervision, known_tokens

from interp_by_construction.labelling.rated import HIGHEST, rated_prompt
from interp_by_construction.llm.digits import Digits
from interp_by_construction.scoring.llm_judge import SHORT, excerpt_text
from interp_by_construction.simulators.prompt import PromptBuilder

LOWER, UPPER = 16, 56
"""Tokens of a text that is simulated."""
MARKED = 0.2
"""Share of the texts that are asked about with marks, by default."""
SHARES = {"context": 0.5, "general": 0.12, "word": 0.08, "list": 0.08, "synset": 0.22}
"""Of the concepts that are drawn."""
GENERAL = ("affix", "class", "closed", "file", "mark")
N_LISTS = 400
LEAST = 12
"""Tokens that a concept needs to be evidence."""
REJECTED = 0.3
"""Share of the prompts for labels that name labels which are wrong."""
FITS = SHORT["detection"].rpartition("\n")[2]
"""What asks for the answer of detection, behind a text that is simulated."""


class Rated(NamedTuple):
    """A prompt whose digits are known."""

    ids: list[int]
    at: list[int]
    """Positions of which the next digit is known."""
    digits: list[int]
    kinds: list[int]
    """0 for simulation, 1 for detection, 2 for fuzzing, of each position."""


class Written(NamedTuple):
    """A prompt whose continuation is known."""

    ids: list[int]
    n_prompt: int


class Examples:
    """Draws examples of some concepts on some texts."""

    def __init__(
        self,
        data: Supervision,
        tokens: NDArray[np.int64],
        tokenizer: Any,
        digits: Digits,
        columns: NDArray[np.int64],
        seed: int,
        marked: float = MARKED,
    ) -> None:
        """tokens: those of the texts that may be used; columns: concepts that may; marked: share of
        the texts behind labels that are asked about with marks."""
        self.marked = marked
        self.data, self.tokens, self.digits = data, tokens, digits
        self.rng = np.random.default_rng(seed)
        self.places = Places.of(data)
        self.usable = np.zeros(len(data.types), dtype=bool)
        self.usable[tokens] = True
        self.texts = np.unique(self.places.text[tokens])
        self.builder = PromptBuilder(tokenizer, digits, shots=())
        self.members, self.near = known_tokens(data, tokens, columns, self.rng, 256)
        columns = np.array([c for c in columns if len(self.members[c]) >= LEAST])
        kinds = np.array([data.concepts[c].kind for c in columns])
        context = columns >= data.n_words
        general, word = np.isin(kinds, GENERAL), kinds == "word"
        self.groups = {
            "context": columns[context],
            "general": columns[general],
            "word": columns[word],
            "list": columns[kinds == "list"],
            "synset": columns[~context & ~general & ~word & (kinds != "list")],
        }

    def concept(self) -> int:
        """One of the concepts, every kind of context equally often."""
        names = [name for name in self.groups if len(self.groups[name])]
        p = np.array([SHARES[name] for name in names])
        name = str(self.rng.choice(names, p=p / p.sum()))
        group = self.groups[name]
        if name == "context":
            kinds = np.array([self.data.concepts[c].kind for c in group])
            # `both` has most of the concepts: it is drawn as often as a third of the others.
            kind = self.rng.choice(
                sorted(set(kinds)), p=_weights([(kinds == k).sum() for k in sorted(set(kinds))])
            )
            group = group[kinds == kind]
        return int(self.rng.choice(group))

    def phrasing(self, concept: int, first: bool = False) -> str:
        phrasings = self.data.concepts[concept].phrasings
        return phrasings[0] if first else str(self.rng.choice(phrasings))

    def rated(self, concept: int | None = None, first: bool = False) -> Rated:
        """A text behind a label: half of them have members, a quarter near misses."""
        concept = self.concept() if concept is None else concept
        draw = self.rng.random()
        members, near = self.members[concept], self.near[concept]
        pool = members if draw < 0.5 else near if draw < 0.75 and len(near) else self.tokens
        size = int(self.rng.integers(LOWER, UPPER))
        start, stop = self.places.window(int(self.rng.choice(pool)), self.rng, size)
        label = self.phrasing(concept, first)
        truth = self.data.member(np.arange(start, stop), np.array([concept]))[:, 0]
        if self.rng.random() < self.marked:
            found = self._marked(label, truth, start, stop)
            if found is not None:
                return found
        return self.simulated(label, truth, start, stop)

    def simulated(self, label: str, truth: NDArray[np.uint8], start: int, stop: int) -> Rated:
        """Digits of every token, and whether the label fits the text."""
        ids = [*self.builder.shots, *self.builder.heading(label)]
        excerpt = self.builder.excerpt(self.pieces(start, stop))
        known = (truth <= 1) & (excerpt.reads >= 0)
        at = (excerpt.reads[known] + len(ids)).tolist()
        digits = (HIGHEST * truth[known]).tolist()
        ids += excerpt.ids.tolist() + self.builder.encode(FITS)
        return Rated(
            ids,
            [*at, len(ids) - 1],
            [*digits, int((truth == 1).any())],
            [0] * len(at) + [1],
        )

    def _marked(self, label: str, truth: NDArray[np.uint8], start: int, stop: int) -> Rated | None:
        """Whether the label fits marked tokens of a text with members: they, or as many others."""
        member, other = truth == 1, np.flatnonzero(truth == 0)
        if not member.any() or len(other) < member.sum():
            return None
        fits = bool(self.rng.random() < 0.5)
        marked = member
        if not fits:
            marked = np.zeros(len(truth), dtype=bool)
            marked[self.rng.choice(other, int(member.sum()), replace=False)] = True
        text = excerpt_text(self.pieces(start, stop), marked.tolist())
        question = SHORT["fuzzing"].replace("{label}", label).replace("{text}", text)
        ids = [*self.builder.shots, *self.builder.encode(question)]
        return Rated(ids, [len(ids) - 1], [int(fits)], [2])

    def written(self, concept: int | None = None, first: bool = False) -> Written:
        """Evidence about a node that does what a label says, and the label behind it."""
        concept = self.concept() if concept is None else concept
        rng = self.rng
        node = make_node(
            self.data, self.places, self.members[concept], self.near[concept], self.tokens, rng
        )
        avoid = []
        if rng.random() < REJECTED:
            avoid = [self.phrasing(self.concept()) for _ in range(int(rng.integers(1, 3)))]
        prompt = rated_prompt(node, int(rng.integers(0, 4)), avoid=avoid)
        ids = [*self.builder.shots, *self.builder.encode(prompt)]
        answer = self.builder.encode(f" {self.phrasing(concept, first)}\n")
        return Written(ids + answer, len(ids))

    def pieces(self, start: int, stop: int) -> list[str]:
        """Text of some tokens of one passage."""
        text = int(self.places.text[start])
        begin = int(self.places.start[text])
        return self.data.texts[text][start - begin : stop - begin]


def _weights(counts: list[int]) -> NDArray[np.float64]:
    """Shares that grow with the square root of a kind's size."""
    root = np.sqrt(np.array(counts, dtype=float))
    return root / root.sum()
