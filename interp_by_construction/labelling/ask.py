"""Questions to the labeler about the nodes of a layer: one prompt, several answers each, read
strictly and counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from interp_by_construction.config.labels import AskConfig
from interp_by_construction.labelling.incoming import Incoming
from interp_by_construction.labelling.labels import Proposal
from interp_by_construction.labelling.prompts import (
    ANSWER_FORMAT,
    ANSWER_TOKENS,
    STOP,
    chat_prompt,
    read_answer,
    words_prompt,
)
from interp_by_construction.labelling.revision import (
    CounterExamples,
    contrasted_chat_prompt,
    contrasted_words_prompt,
    revised_chat_prompt,
    revised_words_prompt,
)
from interp_by_construction.llm.backend import Sampling
from interp_by_construction.llm.client import Labeler
from interp_by_construction.subject.nodes import Node


class Question(NamedTuple):
    """What is asked about one node."""

    node: Node
    prompt: Any
    """A string (completion) or messages (chat)."""


@dataclass(frozen=True)
class AnswerCounts:
    """Answers by what became of them."""

    n_answers: int
    n_repeated_answers: int
    n_unparsed_answers: int
    unparsed_answers: dict[str, int]
    """By the reason why there is no label in them."""
    n_structured_answers: int | None
    """JSON objects as asked for; null where none was asked for."""


class Asker:
    """Asks round by round; every answer depends on node, round and seed alone, not on the order or
    timing of requests."""

    def __init__(self, labeler: Labeler, cfg: AskConfig, incoming: Incoming, seed: int) -> None:
        self.labeler, self.cfg, self.incoming, self.seed = labeler, cfg, incoming, seed
        self.round = 0
        self.unparsed: Counter[str] = Counter()
        self.n_answers = self.n_structured = self.n_repeated = 0
        # A model in this process cannot be held to a form.
        self.response_format = (
            ANSWER_FORMAT if cfg.style == "chat" and labeler.cfg.backend != "transformers" else None
        )

    def plain(self, node: Node, avoid: Sequence[str] = ()) -> Question:
        """For a label; avoid: labels that will not do."""
        shown = (node, self.cfg.n_words, self.cfg.n_contexts, self._inputs(node), avoid)
        return Question(node, words_prompt(*shown) if self._words else chat_prompt(*shown))

    def contrast(self, node: Node, label: str, other: Node) -> Question:
        """For what sets `node` apart from `other`, which holds `label`."""
        if self._words:
            return Question(node, contrasted_words_prompt(node, self.cfg.n_words, label, other))
        shown = (node, self.cfg.n_words, self.cfg.n_contexts, label, other, self._inputs(node))
        return Question(node, contrasted_chat_prompt(*shown))

    def revision(self, node: Node, label: str, examples: CounterExamples) -> Question:
        """For a better label than `label`."""
        if self._words:
            return Question(node, revised_words_prompt(node, self.cfg.n_words, label, examples))
        shown = (node, self.cfg.n_words, self.cfg.n_contexts, label, examples, self._inputs(node))
        return Question(node, revised_chat_prompt(*shown))

    def ask(
        self,
        questions: Sequence[Question],
        origin: Any,
        n: int,
        known: dict[int, list[Proposal]],
        heat: float = 0.0,
        greedy: bool = True,
    ) -> list[Proposal]:
        """`n` answers per question, the first one greedy or not, as proposals without scores.

        known: node -> earlier proposals; what repeats them, or an answer before it, is counted and
        left out. heat: added to the temperature. An answer that is no label stays as a proposal
        without text.
        """
        where = [(i, candidate) for i in range(len(questions)) for candidate in range(n)]
        texts: dict[tuple[int, int], str] = {}
        for is_greedy in (True, False):
            chosen = [
                (i, candidate) for i, candidate in where if (greedy and candidate == 0) == is_greedy
            ]
            if chosen:
                temperature = 0.0 if is_greedy else self.cfg.temperature + heat
                replies = self._call(
                    [questions[i] for i, _ in chosen],
                    [candidate for _, candidate in chosen],
                    temperature,
                )
                texts |= dict(zip(chosen, replies, strict=True))
        proposals: list[Proposal] = []
        # A copy: questions about the two poles of one node keep apart.
        seen = {(p.node, p.pole, p.text) for earlier in known.values() for p in earlier}
        for i, candidate in where:
            node, reading = questions[i].node, read_answer(texts[i, candidate])
            self.n_answers += 1
            self.n_structured += reading.structured
            if reading.reason is not None:
                self.unparsed[reading.reason] += 1
            elif (node.node, node.pole, reading.label) in seen:
                self.n_repeated += 1
                continue
            seen.add((node.node, node.pole, reading.label))
            why = "" if reading.reason is None else f"no label: {reading.reason}"
            proposals.append(
                Proposal(node.node, node.pole, self.round, origin, reading.label, None, False, why)
            )
        self.round += 1
        return proposals

    def counts(self) -> AnswerCounts:
        """Of all rounds so far."""
        return AnswerCounts(
            self.n_answers,
            self.n_repeated,
            self.unparsed.total(),
            dict(sorted(self.unparsed.items())),
            None if self._words else self.n_structured,
        )

    @property
    def _words(self) -> bool:
        return self.cfg.style == "completion"

    def _inputs(self, node: Node) -> list[tuple[str, float]]:
        return self.incoming.get((node.node, node.pole), [])[: self.cfg.n_incoming]

    def _call(
        self, questions: Sequence[Question], candidates: Sequence[int], temperature: float
    ) -> list[str]:
        seeds = [
            hash_seed(self.seed, q.node.layer, q.node.node, q.node.pole, self.round, candidate)
            for q, candidate in zip(questions, candidates, strict=True)
        ]
        prompts, description = (
            [question.prompt for question in questions],
            f"label, round {self.round}",
        )
        if self._words or self.response_format is None:
            plain = self.labeler.complete if self._words else self.labeler.chat
            sampling = Sampling(self.cfg.max_tokens, temperature, seeds, STOP)
            return plain(prompts, sampling, description=description)
        # A line break may stand inside the object.
        return self.labeler.chat(
            prompts,
            Sampling(self.cfg.max_tokens + ANSWER_TOKENS, temperature, seeds),
            response_format=self.response_format,
            description=description,
        )


def hash_seed(*parts: int) -> int:
    """A stable 31-bit seed from integers."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1
