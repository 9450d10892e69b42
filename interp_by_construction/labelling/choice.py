"""Which node holds which label of a layer, what was proposed for it, and why it was chosen or
dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from interp_by_construction.corpus.words import normalised
from interp_by_construction.labelling.compare import Comparison
from interp_by_construction.labelling.labels import Label, Proposal
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
    """Labels are distinct (see `normalised`): a label belongs to the node that it scores highest on
    among those that ask for it together, and stays there until that node takes a better one.
    """

    def __init__(self, views: Sequence[Node], select: Comparison | None) -> None:
        """views: each node's dominant pole, and the other one where both are asked for; select:
        scores the proposals."""
        self.views: dict[int, dict[int, Node]] = {}
        for view in views:
            self.views.setdefault(view.node, {})[view.pole] = view
        self.nodes = list(self.views)
        # The order in which equal claims are settled: first the nodes that do most.
        self.order = sorted(
            self.nodes, key=lambda node: -next(iter(self.views[node].values())).variance
        )
        self.pole = {node: next(iter(poles)) for node, poles in self.views.items()}
        self.history: dict[int, list[Proposal]] = {node: [] for node in self.nodes}
        self.held: dict[int, Proposal] = {}
        self._holder: dict[str, int] = {}
        self._select = select

    def view(self, node: int) -> Node:
        """The pole that the node's label describes."""
        return self.views[node][self.pole[node]]

    def texts(self, node: int) -> list[str]:
        """What was proposed for the node's pole, the best first, then the oldest."""
        claims = [p for p in self.history[node] if p.text is not None and p.pole == self.pole[node]]
        return [str(p.text) for p in sorted(claims, key=_rank, reverse=True)]

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
        """The pole of the best proposal, for nodes that were shown from both sides; the dominant
        one in doubt."""
        for node in self.nodes:
            for proposal in self.history[node]:
                best = max(
                    (p for p in self.history[node] if p.pole == self.pole[node]),
                    key=_rank,
                    default=None,
                )
                if proposal.score is not None and (
                    best is None or _higher(proposal.score, best.score)
                ):
                    self.pole[node] = proposal.pole

    def take(self, proposals: Sequence[Proposal]) -> set[int]:
        """Gives free labels to the nodes that they were proposed for, the highest score first,
        where a node has none or a lower one. Without scores the first proposal wins. Returns the
        nodes whose label is new.
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
        """Nodes whose best proposal another node holds, in `order`; those that hold nothing
        better."""
        found = []
        for node in self.order:
            claims = [
                p for p in self.history[node] if p.text is not None and p.pole == self.pole[node]
            ]
            if not claims:
                continue
            # The first of the best, as in `take`.
            best, held = max(claims, key=_rank), self.held.get(node)
            holder = self.holder(str(best.text))
            if (
                holder is not None
                and holder != node
                and (held is None or _higher(best.score, held.score))
            ):
                found.append(Rivalry(node, str(best.text), holder))
        return found

    def labels(self) -> list[Label]:
        """One per node, in the order of the views."""
        return [self._label(node) for node in self.nodes]

    def closed_history(self) -> list[Proposal]:
        """Every proposal with the reason why it was chosen or dropped."""
        return [self._closed(proposal) for node in self.nodes for proposal in self.history[node]]

    def _scored(self, proposal: Proposal) -> Proposal:
        if self._select is None or proposal.text is None:
            return proposal
        return replace(proposal, score=self._select.r(proposal.node, proposal.pole, proposal.text))

    def _label(self, node: int) -> Label:
        chosen = self.held.get(node)
        last = (
            chosen.round
            if chosen is not None
            else max((p.round for p in self.history[node]), default=0)
        )
        attempts = len({p.round for p in self.history[node] if p.round <= last})
        if chosen is None:
            failure = ALL_TAKEN if self.texts(node) else NO_LABEL
            return Label(node, self.pole[node], None, "failed", attempts, failure)
        remark = LAST_RESORT if chosen.origin == "last resort" else None
        return Label(node, self.pole[node], chosen.text, "aligned", attempts, remark)

    def _closed(self, proposal: Proposal) -> Proposal:
        chosen = self.held.get(proposal.node)
        if proposal is chosen:
            first = (
                "the first label that was free"
                if proposal.score is None
                else "the highest score of those that were free"
            )
            return replace(
                proposal,
                chosen=True,
                why=LAST_RESORT if proposal.origin == "last resort" else first,
            )
        if proposal.text is None:
            return proposal
        if proposal.pole != self.pole[proposal.node]:
            return replace(proposal, why="the other pole scores higher")
        holder = self.holder(proposal.text)
        if holder is not None and holder != proposal.node:
            return replace(proposal, why=f"it is the label of node {holder}")
        if chosen is None or not _higher(proposal.score, chosen.score):
            return replace(
                proposal,
                why="its score is not higher"
                if proposal.score is not None
                else "another stands before it",
            )
        # A label that was taken when it was asked for and became free when its holder was revised.
        return replace(proposal, why="it was another node's label at the time")


def _rank(proposal: Proposal) -> float:
    """Undefined scores come last."""
    return -2.0 if proposal.score is None else proposal.score


def _higher(score: float | None, than: float | None) -> bool:
    """Whether a score replaces another; an undefined one replaces nothing, and a defined one
    replaces it."""
    return score is not None and (than is None or score > than)
