"""One distinct label per node, chosen by how well it predicts the node.

1. Every node gets `n_candidates` proposals, with nodes.poles=both for each pole. One is greedy, the
   others are sampled with a fixed seed.
2. A proposal's score is r of its simulation with the node's activations on the select split, which
   nothing else reads. The pole with the best proposal becomes the node's pole. Each node takes its
   best proposal that is free.
3. Contrast: if another node holds a node's best proposal, the labeler is shown the words of both,
   and asked what sets the node apart.
4. The labeler is asked again for a node without a label, and told which labels to avoid. As a last
   resort, the node's own top words are added to a label that is taken.
5. Revision: the labeler is shown where label and node disagree on the label split. A new label
   replaces the old one only if it scores higher. With `label.audit_rounds` the labeler is then
   shown the worst cases of an audit (`labelling.audit_cases`).
6. A node without any readable proposal has failed: it becomes free and is counted (invariant 3).
   Not readable is also what the simulator cannot take (`simulators.base.Simulator.reads`).

Without a select split (`label.select_tokens=0`) a node takes its first free proposal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from interp_by_construction.labelling.ask import AnswerCounts, Asker
from interp_by_construction.labelling.choice import LabelChoice
from interp_by_construction.labelling.compare import Comparison
from interp_by_construction.labelling.labels import Label, Proposal
from interp_by_construction.labelling.prompts import top_words
from interp_by_construction.labelling.revision import CounterExamples
from interp_by_construction.subject.nodes import Node

N_COUNTER_EXAMPLES = 5
"""Words of each kind that a revision shows."""
N_AVOIDED = 6
"""Labels that the labeler is told to avoid when it is asked again."""
HEAT = 0.15
"""Added to the temperature each time that the labeler is asked again."""


class Critic(Protocol):
    """Finds where labels and their nodes disagree: a `Comparison`, or an `Auditor`."""

    def counter_examples(
        self, labels: Sequence[tuple[int, int, str]], n: int
    ) -> dict[int, CounterExamples]: ...


class Revisions(NamedTuple):
    """Rounds in which the labeler is shown counter-examples to its labels."""

    n: int
    critic: Critic


@dataclass(frozen=True)
class ContrastCounts:
    """Nodes for which a contrast was asked, and those that took an answer."""

    n_asked: int
    n_accepted: int


@dataclass(frozen=True)
class RevisionCounts:
    """Nodes by what became of them, summed over all rounds of revision."""

    n_rounds: int = 0
    n_asked: int = 0
    n_accepted: int = 0
    n_rejected: int = 0
    """The new label scores lower, or another node has it."""
    n_unparsed: int = 0
    n_repeated: int = 0
    """All answers had been proposed before."""
    n_without_counter_examples: int = 0


@dataclass(frozen=True)
class Selection:
    """Mean r on the select split of the first candidate, of the label before revisions, and of the
    final one.

    The means are over the `n` nodes on which all three are defined. The first candidate is that of
    the dominant pole. Labels were chosen on this text, so that r is too high for the chosen ones.
    """

    simulator: str
    n_tokens: int
    n_candidates: int
    n: int
    n_undefined: int
    r_first: float | None
    r_chosen: float | None
    r_revised: float | None


@dataclass(frozen=True)
class Labelled:
    """The labels of some nodes, and how they came about."""

    labels: list[Label]
    """One per node, in the order of the views."""
    history: list[Proposal]
    """Every answer with its score and why it was chosen or dropped."""
    n_last_resort: int
    n_other_pole: int
    contrast: ContrastCounts
    revisions: RevisionCounts
    audits: RevisionCounts | None
    selection: Selection | None
    answers: AnswerCounts


def label_nodes(
    views: Sequence[Node],
    asker: Asker,
    select: Comparison | None = None,
    revisions: Revisions | None = None,
    audits: Revisions | None = None,
    min_score: float | None = None,
) -> Labelled:
    """Labels nodes. views: each node's dominant pole, then other poles, if asked for.

    select: scores the candidates; None does not score them. revisions, audits: further rounds.
    min_score: a node whose label scores lower fails.
    """
    choice = LabelChoice(views, select, min_score)
    questions = [asker.plain(view) for node in choice.order for view in choice.views[node].values()]
    n_candidates = asker.cfg.n_candidates
    fresh = choice.add(asker.ask(questions, "proposal", n_candidates, choice.history))
    choice.choose_poles()
    choice.take(fresh)
    contrast = _contrast(choice, asker)
    _ask_again(choice, asker)
    n_last_resort = _last_resort(choice, asker)
    before = dict(choice.held)
    revised = _revise(choice, asker, revisions, "revision")
    audited = _revise(choice, asker, audits, "audit")
    labels = choice.labels(asker.refused)
    return Labelled(
        labels=labels,
        history=choice.closed_history(),
        n_last_resort=n_last_resort,
        n_other_pole=sum(label.pole != next(iter(choice.views[label.node])) for label in labels),
        contrast=contrast,
        revisions=revised,
        audits=None if audits is None else audited,
        selection=None if select is None else _selection(choice, before, select),
        answers=asker.counts(),
    )


def _contrast(choice: LabelChoice, asker: Asker) -> ContrastCounts:
    """Asks what sets each node apart from the node that holds its best proposal."""
    rivals = choice.rivals()
    questions = [
        asker.contrast(choice.view(rival.node), rival.text, choice.view(rival.holder))
        for rival in rivals
    ]
    fresh = choice.add(asker.ask(questions, "contrast", asker.cfg.n_revised, choice.history))
    return ContrastCounts(n_asked=len(rivals), n_accepted=len(choice.take(fresh)))


def _ask_again(choice: LabelChoice, asker: Asker) -> None:
    """Asks for nodes without a label: no proposal could be parsed, or all are taken."""
    for attempt in range(1, asker.cfg.retries + 1):
        questions = []
        for node in choice.waiting():
            avoid = list(dict.fromkeys(choice.texts(node)))[:N_AVOIDED]
            questions.append(asker.plain(choice.view(node), avoid))
        n, heat = asker.cfg.n_candidates, HEAT * attempt
        answers = asker.ask(questions, "retry", n, choice.history, heat, greedy=False)
        choice.take(choice.add(answers))


def _last_resort(choice: LabelChoice, asker: Asker) -> int:
    """Adds words to labels that are taken, as in `animals, such as fox, hen`. Returns how often."""
    count = 0
    for node in choice.waiting():
        text = _told_apart(choice, node, asker)
        if text is not None:
            proposal = Proposal(node, choice.pole[node], asker.round, "last resort", text)
            count += len(choice.take(choice.add([proposal])))
    asker.round += 1
    return count


def _told_apart(choice: LabelChoice, node: int, asker: Asker) -> str | None:
    """A label with words of the node that the label's holder lacks; None if all are taken."""
    n_words = asker.cfg.n_words
    words = top_words(choice.view(node), n_words)
    for text in choice.texts(node):
        holder = choice.holder(text)
        taken = set() if holder is None else set(top_words(choice.view(holder), n_words))
        own = [word for word in words if word not in taken and any(c.isalpha() for c in word)]
        for count in (2, 1, 3):
            candidate = f"{text}, such as {', '.join(own[:count])}"
            readable = asker.refusal(candidate) is None
            if len(own) >= count and readable and choice.is_free(candidate):
                return candidate
    return None


def _revise(
    choice: LabelChoice,
    asker: Asker,
    revisions: Revisions | None,
    origin: Literal["revision", "audit"],
) -> RevisionCounts:
    """All rounds for all labelled nodes."""
    if revisions is None:
        return RevisionCounts()
    total = RevisionCounts(revisions.n)
    for _ in range(revisions.n):
        done = vars(_revise_once(choice, asker, revisions.critic, origin))
        total = RevisionCounts(**{key: value + done[key] for key, value in vars(total).items()})
    return total


def _revise_once(
    choice: LabelChoice, asker: Asker, critic: Critic, origin: Literal["revision", "audit"]
) -> RevisionCounts:
    held = [
        (node, choice.pole[node], str(choice.held[node].text))
        for node in choice.order
        if node in choice.held
    ]
    examples = critic.counter_examples(held, N_COUNTER_EXAMPLES)
    asked = [(node, text) for node, _, text in held if node in examples]
    questions = [asker.revision(choice.view(node), text, examples[node]) for node, text in asked]
    proposals = asker.ask(questions, origin, asker.cfg.n_revised, choice.history)
    fresh = choice.add(proposals)
    accepted = choice.take(fresh)
    parsed, answered = {p.node for p in fresh}, {p.node for p in proposals}
    return RevisionCounts(
        n_asked=len(asked),
        n_accepted=len(accepted),
        n_rejected=len(parsed - accepted),
        n_unparsed=len(answered - parsed),
        n_repeated=len({node for node, _ in asked} - answered),
        n_without_counter_examples=len(held) - len(asked),
    )


def _selection(choice: LabelChoice, before: dict[int, Proposal], select: Comparison) -> Selection:
    rows = []
    for node, final in choice.held.items():
        dominant, history = next(iter(choice.views[node])), choice.history[node]
        shown = (p.score for p in history if p.text is not None and p.pole == dominant)
        scores = (next(shown, None), before[node].score, final.score)
        rows.append([np.nan if r is None else r for r in scores])
    r = np.array(rows, dtype=np.float64).reshape(-1, 3)
    defined = r[~np.isnan(r).any(axis=1)]
    means = defined.mean(axis=0).tolist() if len(defined) else [None] * 3
    every = (p for proposals in choice.history.values() for p in proposals)
    return Selection(
        select.simulator,
        select.n_tokens,
        sum(p.text is not None for p in every),
        len(defined),
        len(r) - len(defined),
        *means,
    )
