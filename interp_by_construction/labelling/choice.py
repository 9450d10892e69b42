"""Which node holds which label, what was proposed for it, and why it was chosen or dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from interp_by_construction.corpus.words import normalised
from interp_by_construction.labelling.compare import Comparison
from interp_by_construction.labelling.labels import Label, Proposal, too_low
from interp_by_construction.subject.nodes import Node

LAST_RESORT = "duplicate, told apart by its top words"
NO_LABEL = "no proposal could be parsed"
ALL_TAKEN = "every proposal is another node's label"


class Rivalry(NamedTuple):
    """A node whose label of choice another node holds."""

    node: int
    text: str
    holder: int


class LabelChoice:
    """Gives each node a label that no other node holds (see `normalised`).

    Of nodes that ask for a label together, the one with the highest score gets it. It keeps the
    label until it takes a better one.
    """

    def __init__(
        self,
        views: Sequence[Node],
        select: Comparison | None,
        min_score: float | None = None,
    ) -> None:
        """views: the dominant pole of each node, then other poles. select: scores proposals.
        min_score: a node whose label scores lower has none in the end."""
        self._min_score = min_score
        self.views: dict[int, dict[int, Node]] = {}
        for view in views:
            self.views.setdefault(view.node, {})[view.pole] = view
        self.nodes = list(self.views)
        self.pole = {node: next(iter(poles)) for node, poles in self.views.items()}
        # Of equal claims, that of the node with the largest variance comes first.
        self.order = sorted(self.nodes, key=lambda node: -self.view(node).variance)
        self.history: dict[int, list[Proposal]] = {node: [] for node in self.nodes}
        self.held: dict[int, Proposal] = {}
        self._holder: dict[str, int] = {}
        self._select = select

    def view(self, node: int) -> Node:
        """The pole that the node's label describes."""
        return self.views[node][self.pole[node]]

    def texts(self, node: int) -> list[str]:
        """The labels proposed for the node's pole, best first; of equal ones the oldest first."""
        return [str(p.text) for p in sorted(self._claims(node), key=_rank, reverse=True)]

    def waiting(self) -> list[int]:
        """Nodes without a label, most variance first."""
        return [node for node in self.order if node not in self.held]

    def is_free(self, text: str) -> bool:
        """Whether no node holds this label."""
        return normalised(text) not in self._holder

    def holder(self, text: str) -> int | None:
        """The node that holds this label, or None."""
        return self._holder.get(normalised(text))

    def add(self, proposals: Sequence[Proposal]) -> list[Proposal]:
        """Scores proposals and writes them into the history; returns those that are labels."""
        named = [p.text for p in proposals if p.text is not None]
        if self._select is not None:
            self._select.add(named)
        scored = [self._scored(proposal) for proposal in proposals]
        for proposal in scored:
            self.history[proposal.node].append(proposal)
        return [proposal for proposal in scored if proposal.text is not None]

    def choose_poles(self) -> None:
        """Gives each node the pole of its best proposal; the dominant pole if none is better."""
        for node, poles in self.views.items():
            for pole in poles:
                if _higher(self._best(node, pole), self._best(node, self.pole[node])):
                    self.pole[node] = pole

    def take(self, proposals: Sequence[Proposal]) -> set[int]:
        """Gives free labels to the nodes that they were proposed for, the highest score first.

        A node takes a label if it has none or one with a lower score. Without scores it takes the
        first one. Returns the nodes whose label is new.
        """
        rank = {node: i for i, node in enumerate(self.order)}
        claims = sorted(proposals, key=lambda p: (-_rank(p), rank[p.node]))
        changed: set[int] = set()
        for claim in claims:
            held = self.held.get(claim.node)
            better = held is None or _higher(claim.score, held.score)
            if (
                claim.text is None
                or claim.pole != self.pole[claim.node]
                or not better
                or not self.is_free(claim.text)
            ):
                continue
            if held is not None and held.text is not None:
                del self._holder[normalised(held.text)]
            self.held[claim.node] = claim
            self._holder[normalised(claim.text)] = claim.node
            changed.add(claim.node)
        return changed

    def rivals(self) -> list[Rivalry]:
        """Nodes, in `order`, whose best proposal is better than their label but held by another."""
        found = []
        for node in self.order:
            # The first of the best, as in `take`.
            best, held = max(self._claims(node), key=_rank, default=None), self.held.get(node)
            if best is None or (held is not None and not _higher(best.score, held.score)):
                continue
            holder = self.holder(str(best.text))
            if holder is not None and holder != node:
                found.append(Rivalry(node, str(best.text), holder))
        return found

    def labels(self, refused: Mapping[int, str] = MappingProxyType({})) -> list[Label]:
        """One per node, in the order of the views. refused: node -> why a label that was proposed
        for it is none."""
        return [self._label(node, refused.get(node, NO_LABEL)) for node in self.nodes]

    def closed_history(self) -> list[Proposal]:
        """Every proposal with the reason why it was chosen or dropped."""
        return [self._closed(proposal) for node in self.nodes for proposal in self.history[node]]

    def _claims(self, node: int) -> list[Proposal]:
        """The proposals for the node's pole that are labels, oldest first."""
        return [p for p in self.history[node] if p.text is not None and p.pole == self.pole[node]]

    def _best(self, node: int, pole: int) -> float | None:
        """The highest score of a pole's proposals; None if no score is defined."""
        scores = (p.score for p in self.history[node] if p.pole == pole)
        return max((score for score in scores if score is not None), default=None)

    def _scored(self, proposal: Proposal) -> Proposal:
        if self._select is None or proposal.text is None:
            return proposal
        return replace(proposal, score=self._select.r(proposal.node, proposal.pole, proposal.text))

    def _label(self, node: int, unread: str) -> Label:
        """unread: why a node without any proposal has none."""
        chosen = self.held.get(node)
        rounds = {p.round for p in self.history[node]}
        attempts = sum(chosen is None or each <= chosen.round for each in rounds)
        if chosen is None:
            failure = ALL_TAKEN if self.texts(node) else unread
            return Label(node, self.pole[node], None, "failed", attempts, failure)
        if (low := too_low(chosen.score, self._min_score)) is not None:
            return Label(node, self.pole[node], None, "failed", attempts, low)
        remark = LAST_RESORT if chosen.origin == "last resort" else None
        return Label(node, self.pole[node], chosen.text, "aligned", attempts, remark, chosen.source)

    def _closed(self, proposal: Proposal) -> Proposal:
        if proposal.text is None:
            return proposal
        chosen = proposal is self.held.get(proposal.node)
        if chosen and (low := too_low(proposal.score, self._min_score)) is not None:
            return replace(proposal, why=low)
        why = _why_chosen(proposal) if chosen else self._why_dropped(proposal, proposal.text)
        return replace(proposal, chosen=chosen, why=why)

    def _why_dropped(self, proposal: Proposal, text: str) -> str:
        chosen, holder = self.held.get(proposal.node), self.holder(text)
        if proposal.pole != self.pole[proposal.node]:
            return "the other pole scores higher"
        if holder is not None and holder != proposal.node:
            return f"it is the label of node {holder}"
        if chosen is not None and _higher(proposal.score, chosen.score):
            # It became free when its holder took another label.
            return "it was another node's label at the time"
        return "another stands before it" if proposal.score is None else "its score is not higher"


def _why_chosen(proposal: Proposal) -> str:
    if proposal.origin == "last resort":
        return LAST_RESORT
    if proposal.score is None:
        return "the first label that was free"
    return "the highest score of those that were free"


def _rank(proposal: Proposal) -> float:
    """For sorting by score; undefined scores come last."""
    return -2.0 if proposal.score is None else proposal.score


def _higher(score: float | None, than: float | None) -> bool:
    """Whether a score is higher than another; a defined score is higher than an undefined one."""
    return score is not None and (than is None or score > than)
