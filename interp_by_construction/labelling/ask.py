"""Asks the labeler about the nodes of a layer, and reads and counts its answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from interp_by_construction.config.labels import AskConfig
from interp_by_construction.corpus.words import normalised
from interp_by_construction.labelling.answers import ANSWER_FORMAT, ANSWER_TOKENS, read_answer
from interp_by_construction.labelling.incoming import Incoming
from interp_by_construction.labelling.labels import Proposal
from interp_by_construction.labelling.prompts import EXAMPLES, STOP, chat_prompt, words_prompt
from interp_by_construction.labelling.rated import unfit, views
from interp_by_construction.labelling.revision import (
    CONTRASTED_EXAMPLES,
    REVISED_EXAMPLES,
    CounterExamples,
    contrasted_chat_prompt,
    contrasted_words_prompt,
    revised_chat_prompt,
    revised_words_prompt,
)
from interp_by_construction.llm.backend import Sampling
from interp_by_construction.llm.client import Labeler
from interp_by_construction.subject.nodes import Node

Refusal = Callable[[str], str | None]
"""Label -> why the simulator cannot take it; None for one that it can."""


def no_refusal(label: str) -> None:
    """Of a simulator that takes every label."""


class Question(NamedTuple):
    """What is asked about one node."""

    node: Node
    prompts: tuple[Any, ...]
    """Strings (completion) or messages (chat). Candidates are asked for by each in turn."""
    labels: frozenset[str]
    """The labels that the prompts show (see `normalised`)."""


@dataclass(frozen=True)
class AnswerCounts:
    """What the labeler's answers were."""

    n_answers: int
    n_repeated_answers: int
    n_unparsed_answers: int
    unparsed_answers: dict[str, int]
    """Reason why there is no label -> number of answers."""
    n_structured_answers: int | None
    """JSON objects; None if text was asked for."""


class Asker:
    """Asks round by round. An answer depends on node, round and seed, but not on other requests."""

    def __init__(
        self,
        labeler: Labeler,
        cfg: AskConfig,
        incoming: Incoming,
        seed: int,
        refusal: Refusal = no_refusal,
    ) -> None:
        """refusal: a label that it refuses counts as an answer that cannot be parsed."""
        self.labeler, self.cfg, self.incoming, self.seed = labeler, cfg, incoming, seed
        self.refusal = refusal
        self.refused: dict[int, str] = {}
        """Node -> why its last refused label was refused."""
        self.round = 0
        self.unparsed: Counter[str] = Counter()
        self.n_answers = self.n_structured = self.n_repeated = 0
        # A model in this process cannot be held to a form.
        self.response_format = (
            ANSWER_FORMAT if cfg.style == "chat" and labeler.cfg.backend != "transformers" else None
        )

    def plain(self, node: Node, avoid: Sequence[str] = ()) -> Question:
        """Asks for a label other than those of `avoid`."""
        inputs = self._inputs(node)
        if self._rated:
            return self._question(views(node, inputs, avoid), node, avoid)
        prompt = words_prompt if self._words else chat_prompt
        asked = prompt(node, self.cfg.n_words, self.cfg.n_contexts, inputs, avoid)
        return self._question((asked,), node, avoid, EXAMPLES)

    def contrast(self, node: Node, label: str, other: Node) -> Question:
        """Asks what sets `node` apart from `other`, which holds `label`."""
        if self._rated:
            return self._question(views(node, self._inputs(node), [label]), node, [label])
        if self._words:
            asked = contrasted_words_prompt(node, self.cfg.n_words, label, other)
            return self._question((asked,), node, [label], CONTRASTED_EXAMPLES)
        shown = (node, self.cfg.n_words, self.cfg.n_contexts, label, other, self._inputs(node))
        return self._question((contrasted_chat_prompt(*shown),), node, [label])

    def revision(self, node: Node, label: str, examples: CounterExamples) -> Question:
        """Asks for a better label than `label`."""
        if self._rated:
            counter = [*examples.missed, *examples.wrong]
            prompts = views(node, self._inputs(node), [label], counter)
            return self._question(prompts, node, [label])
        if self._words:
            asked = revised_words_prompt(node, self.cfg.n_words, label, examples)
            return self._question((asked,), node, [label], REVISED_EXAMPLES)
        shown = (node, self.cfg.n_words, self.cfg.n_contexts, label, examples, self._inputs(node))
        return self._question((revised_chat_prompt(*shown),), node, [label])

    def ask(
        self,
        questions: Sequence[Question],
        origin: Any,
        n: int,
        known: dict[int, list[Proposal]],
        heat: float = 0.0,
        greedy: bool = True,
    ) -> list[Proposal]:
        """`n` answers per question, as proposals without scores.

        known: node -> earlier proposals. An answer that repeats them or another answer is counted
        and left out. An answer without a label becomes a proposal without text. heat: added to the
        temperature. greedy: whether the first answer has temperature 0.
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
                    [(questions[i], candidate) for i, candidate in chosen], temperature
                )
                texts |= dict(zip(chosen, replies, strict=True))
        proposals: list[Proposal] = []
        seen = {(p.node, p.pole, p.text) for earlier in known.values() for p in earlier}
        for i, candidate in where:
            node, reading = questions[i].node, read_answer(texts[i, candidate])
            label, reason = reading.label, str(reading.reason)
            if label is not None and self._rated:
                found = unfit(label, self._prompt(questions[i], candidate))
                label, reason = (label, reason) if found is None else (None, found)
            if label is not None and (refused := self.refusal(label)) is not None:
                label, reason = None, refused
                self.refused[node.node] = refused
            self.n_answers += 1
            self.n_structured += reading.structured
            if label is None:
                self.unparsed[reason] += 1
            elif (node.node, node.pole, label) in seen:
                self.n_repeated += 1
                continue
            seen.add((node.node, node.pole, label))
            why = "" if label is not None else f"no label: {reason}"
            shown = label is not None and normalised(label) in questions[i].labels
            proposals.append(
                Proposal(node.node, node.pole, self.round, origin, label, None, False, why, shown)
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

    @property
    def _rated(self) -> bool:
        return self._words and self.labeler.tuned

    def _question(
        self,
        prompts: tuple[Any, ...],
        node: Node,
        avoid: Sequence[str],
        examples: Sequence[str] = (),
    ) -> Question:
        """avoid, examples: labels that the prompts show beside those of incoming nodes. Only
        completion prompts have solved examples."""
        shown = [*avoid, *(label for label, _ in self._inputs(node))]
        every = [*shown, *examples] if self._words else shown
        return Question(node, prompts, frozenset(map(normalised, every)))

    @staticmethod
    def _prompt(question: Question, candidate: int) -> Any:
        return question.prompts[candidate % len(question.prompts)]

    def _inputs(self, node: Node) -> list[tuple[str, float]]:
        return self.incoming.get((node.node, node.pole), [])[: self.cfg.n_incoming]

    def _call(self, asked: Sequence[tuple[Question, int]], temperature: float) -> list[str]:
        """asked: questions, and the number of the candidate that is asked for."""
        seeds = [
            hash_seed(self.seed, node.layer, node.node, node.pole, self.round, candidate)
            for node, candidate in ((question.node, candidate) for question, candidate in asked)
        ]
        prompts = [self._prompt(question, candidate) for question, candidate in asked]
        description = f"label, round {self.round}"
        if self._words or self.response_format is None:
            plain = self.labeler.complete if self._words else self.labeler.chat
            sampling = Sampling(self.cfg.max_tokens, temperature, seeds, STOP)
            return plain(prompts, sampling, description=description)
        # Without `STOP`, since the object may contain line breaks.
        return self.labeler.chat(
            prompts,
            Sampling(self.cfg.max_tokens + ANSWER_TOKENS, temperature, seeds),
            response_format=self.response_format,
            description=description,
        )


def hash_seed(*parts: int) -> int:
    """A stable 31-bit seed from integers."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1
