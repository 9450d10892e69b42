"""The prompt of exact simulation as labeler token ids, and how many excerpts share one.

    HEAD, four rated texts (digits behind their words)     read once per prompt, behind the token
                                                           that the labeler expects first, if any
    Label: ... / Text: ...                                 once per excerpt, as many as fit

Text is cut into the labeler's own tokens, so that it reads natural text whatever the subject's
tokens are; only a word that the subject reads in parts is cut where its parts end
(`simulators.reading`). A subject token takes the digit logits at the last labeler token that has
been read by its own end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.beginning import beginning
from interp_by_construction.llm.digits import Digits
from interp_by_construction.simulators.reading import cutter, settled

HEAD = "Rate how strongly each word of a text matches a label, from 0 to 9.\n"

Shots = tuple[tuple[str, str, str], ...]

SHOTS: Shots = (
    ("fruits", "I ate an apple and a ripe banana at the table", "00090008000"),
    ("water", "The river flows to the sea under the bridge", "095009002"),
    ("numbers", "She bought two pens and seven books in one day", "0090090090"),
    ("talking", "He said hello and she shouted a reply to him", "0940090800"),
)
"""Label, text, and one digit per word."""

OTHER_SHOTS: Shots = (
    ("clothes", "The boy put on a coat and his old shoes", "0000080008"),
    ("light", "A lamp shines all night beside the dark window", "080900042"),
    ("family", "My mother wrote a letter to her brother last week", "0900000900"),
    ("moving", "They ran home while the dog jumped over a wall", "0910009200"),
)
"""They share no label and no text with `SHOTS`. Reliability is how far simulations with the two
agree."""

MAX_LABEL_CHARS = 400
"""Longest label. The labeler's own answers are far shorter (`labelling.answers.MAX_CHARS`)."""

HEADING_ROOM = 48
"""Labeler tokens reserved for a label when excerpts are packed; a longer label reserves its own
length. So no label's packing depends on another label."""


class Excerpt(NamedTuple):
    """A text in labeler tokens."""

    ids: NDArray[np.int32]
    """[labeler pos], the line break at its end included."""
    reads: NDArray[np.int32]
    """Index into `ids` for each subject token; -1: before the first."""


class PromptBuilder:
    """Labeler token ids of the simulation prompt; `allow_empty` lets an empty label pass, a
    baseline."""

    def __init__(
        self, tokenizer: Any, digits: Digits, shots: Shots = SHOTS, allow_empty: bool = False
    ) -> None:
        if not tokenizer.is_fast:
            raise LabelerError(
                "the labeler's tokenizer gives no character offsets, which exact simulation needs: give a labeler.model with a "
                "tokenizer.json"
            )
        self._tokenizer, self._allow_empty = tokenizer, allow_empty
        self.shots = [*beginning(tokenizer), *self.encode(HEAD if shots else "")]
        self._end = self.encode("\n")
        for label, text, rating in shots:
            self.shots += self.heading(label)
            for word, digit in zip(text.split(), rating, strict=True):
                self.shots += [*self.encode(f" {word}"), digits.ids[int(digit)]]
            self.shots += self._end

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of the prompt. Nothing in it counts as a special token: labels and texts
        are not trusted."""
        with _valid(text):
            return list(
                self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
            )

    def heading(self, label: str) -> list[int]:
        """What stands before every excerpt. Raises LabelerError for a label that cannot be
        simulated."""
        words = " ".join(label.split())
        if not words and not self._allow_empty:
            raise LabelerError("an empty label cannot be simulated: give at least one word")
        if len(words) > MAX_LABEL_CHARS:
            raise LabelerError(
                f"a label of {len(words)} characters ({words[:40]!r}...) cannot be simulated: give at most {MAX_LABEL_CHARS}"
            )
        unknown = self._tokenizer.unk_token_id
        if words and unknown is not None and set(self.encode(words)) == {unknown}:
            raise LabelerError(
                f"the labeler's tokenizer cannot read the label {words[:40]!r}: use another labeler.model"
            )
        return self.encode(f"\nLabel: {words}\nText:")

    def excerpt(self, tokens: Sequence[str]) -> Excerpt:
        """tokens: consecutive pieces of a text; empty ones take the rating of the piece before."""
        # Line breaks would end the text; each is one character, so that ends stay where they are.
        pieces = [token.replace("\n", " ") for token in tokens]
        text = "".join(pieces)
        first = next((i for i, piece in enumerate(pieces) if piece), 0)
        if not text[:1].isspace():
            pieces[first : first + 1] = [f" {text and pieces[first]}"]
        with _valid(text):
            ids, n_read = settled(cutter(self._tokenizer), pieces)
        reads = n_read[: len(tokens)] - 1
        return Excerpt(np.asarray([*ids, *self._end], np.int32), reads.astype(np.int32))


@contextmanager
def _valid(text: str) -> Iterator[None]:
    """Inside the block a tokenizer reads `text`. Raises LabelerError where it cannot."""
    try:
        yield
    except (TypeError, UnicodeEncodeError) as error:
        raise LabelerError(
            f"{text[:40]!r} is no valid Unicode text (a surrogate without its other half)"
        ) from error


class Prompt(NamedTuple):
    """Some excerpts behind one label."""

    ids: list[int]
    reads: NDArray[np.int64]
    """Position of each subject token's rating, [token]."""
    label: int
    """Index of the label."""
    start: int
    """Index of the first subject token among those of all excerpts."""


class Packing:
    """All prompts of some labels on some excerpts. It holds each text and each label once, so that
    memory does not grow with their product.

    Raises LabelerError for a label that cannot be simulated, and for an excerpt that does not fit
    into `max_model_len` behind it.
    """

    def __init__(
        self,
        builder: PromptBuilder,
        labels: Sequence[str],
        excerpts: Sequence[Sequence[str]],
        max_model_len: int,
        alone: bool = False,
    ) -> None:
        """alone: each excerpt has a prompt of its own."""
        self._shots = builder.shots
        self._headings = [builder.heading(label) for label in labels]
        self._excerpts = [builder.excerpt(excerpt) for excerpt in excerpts]
        self._starts = np.cumsum([0, *(len(excerpt.reads) for excerpt in self._excerpts)])
        lengths = [len(excerpt.ids) for excerpt in self._excerpts]
        room = max_model_len - len(self._shots) - 1
        rooms = {max(len(heading), HEADING_ROOM) for heading in self._headings}
        self._packs = {heading: pack(lengths, heading, room, alone) for heading in rooms}

    @property
    def n_tokens(self) -> int:
        """Subject tokens of all excerpts."""
        return int(self._starts[-1])

    @property
    def n_labeler_tokens(self) -> int:
        """Labeler tokens of all prompts."""
        text = sum(len(excerpt.ids) for excerpt in self._excerpts)
        headings = sum(len(heading) for heading in self._headings) * len(self._excerpts)
        shots = sum(len(self._packs_of(heading)) for heading in self._headings) * len(self._shots)
        return text * len(self._headings) + headings + shots

    def prompts(self) -> Iterator[Prompt]:
        """Label by label, so that what a prompt shares with the one before it is as long as can
        be."""
        for label, heading in enumerate(self._headings):
            for indices in self._packs_of(heading):
                ids, reads = list(self._shots), []
                for index in indices:
                    ids += heading
                    reads.append(self._excerpts[index].reads.astype(np.int64) + len(ids))
                    ids += self._excerpts[index].ids.tolist()
                yield Prompt(ids, np.concatenate(reads), label, int(self._starts[indices[0]]))

    def _packs_of(self, heading: list[int]) -> list[range]:
        return self._packs[max(len(heading), HEADING_ROOM)]


def pack(lengths: Sequence[int], heading: int, room: int, alone: bool = False) -> list[range]:
    """Consecutive excerpts that fit, each behind a heading of `heading` tokens, into `room` labeler
    tokens together; only one with `alone`.

    Raises LabelerError for one that does not fit alone.
    """
    packs: list[range] = []
    used = room + 1
    for index, length in enumerate(lengths):
        if heading + length > room:
            raise LabelerError(
                f"an excerpt of {length} labeler tokens does not fit into labeler.max_model_len behind a label of {heading} "
                f"({room} tokens are left): raise labeler.max_model_len or lower simulate.excerpt_tokens"
            )
        if alone or used + heading + length > room:
            packs.append(range(index, index))
            used = 0
        packs[-1] = range(packs[-1].start, index + 1)
        used += heading + length
    return packs
