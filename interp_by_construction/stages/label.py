"""label: one distinct natural-language explanation per node, from its activations, chosen by how
well it predicts them.

1. Every node gets `n_candidates` proposals, one greedy, the others sampled with a fixed seed; with
   nodes.poles=both, each pole.
2. A proposal's score is r of its simulation with the node's activations on the select split, which
   nothing else reads. The pole with the best proposal becomes the node's pole. Nodes take the
   proposal that scores highest on them and that is free.
3. Contrast: a node whose best proposal another node holds is asked for what sets it apart, with the
   words of both.
4. A node without a label asks again and is told which ones to avoid; as a last resort it keeps a
   proposal that is taken and adds its own top words.
5. Revision: the labeler sees where label and node disagree on the label split, and a new label
   replaces the old one only if it scores higher. With `label.audit_rounds` it then sees the worst
   cases of an audit, edited text included (`labelling.audit_cases`).
6. A node with no proposal that parses has failed: it becomes free and is counted (invariant 3).

Without a select split (`label.select_tokens=0`) the first proposal counts instead of the best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from interp_by_construction.config import LabelConfig
from interp_by_construction.corpus.words import normalised
from interp_by_construction.labelling.ask import Asker
from interp_by_construction.labelling.choice import Board
from interp_by_construction.labelling.compare import Comparison
from interp_by_construction.labelling.incoming import Incoming
from interp_by_construction.labelling.prompts import top_words
from interp_by_construction.labelling.revision import CounterExamples
from interp_by_construction.subject.records import Node, Proposal
from interp_by_construction.subject.tables import write_records

if TYPE_CHECKING:
    from interp_by_construction.llm.client import Labeler

N_COUNTER_EXAMPLES = 5
"""Words of each kind that a revision shows."""
N_AVOIDED = 6
"""Labels that a node which asks again is told to avoid."""
HEAT = 0.15
"""Added to the temperature each time that a node asks again."""


class Critic(Protocol):
    """Where labels and their nodes disagree: a `Comparison`, or an `Auditor`."""

    def counter_examples(
        self, labels: Sequence[tuple[int, int, str]], n: int
    ) -> dict[int, CounterExamples]: ...


def run(
    views: Sequence[Node],
    incoming: Incoming,
    labeler: Labeler,
    cfg: LabelConfig,
    seed: int,
    out: Path,
    select: Comparison | None = None,
    counter: Critic | None = None,
    revisions: int = 0,
    auditor: Critic | None = None,
) -> dict[str, Any]:
    """Labels the nodes of `views`: each node's dominant pole, then other poles, where they are
    asked for.

    select: the text on which candidates are scored (None: not at all). counter: the text of the
    counter-examples, needed with `revisions`; auditor: the same for `cfg.audit_rounds`, of which
    there are none without it. Writes `labels.jsonl`, and `history.jsonl`: every answer with its
    score and why it was chosen or dropped.
    """
    board, asker = Board(views, select), Asker(labeler, cfg, incoming, seed)
    questions = [asker.plain(view) for node in board.order for view in board.views[node].values()]
    fresh = board.add(asker.ask(questions, "proposal", cfg.n_candidates, board.history))
    board.choose_poles()
    board.take(fresh)
    contrast = _contrast(board, asker, cfg)
    _ask_again(board, asker, cfg)
    n_last_resort = _last_resort(board, asker, cfg)
    before = dict(board.held)
    revision = [_revise(board, asker, cfg, counter, "revision") for _ in range(revisions)]
    audited = [
        _revise(board, asker, cfg, auditor, "audit")
        for _ in range(cfg.audit_rounds if auditor is not None else 0)
    ]
    labels = board.labels()
    write_records(out / "labels.jsonl", [asdict(label) for label in labels])
    write_records(out / "history.jsonl", [asdict(proposal) for proposal in board.closed_history()])
    failed = Counter(str(label.reason) for label in labels if label.text is None)
    return {
        "n_labels": len(labels) - failed.total(),
        "n_failed": failed.total(),
        "failed": dict(sorted(failed.items())),
        "n_distinct": len({normalised(label.text) for label in labels if label.text}),
        "n_contrasted": n_last_resort,
        "n_first_attempt": sum(label.attempts == 1 for label in labels),
        "n_other_pole": sum(label.pole != next(iter(board.views[label.node])) for label in labels),
        "contrast": contrast,
        "revisions": _summed(revision),
        **({"audits": _summed(audited)} if audited else {}),
        "selection": None if select is None else _selection(board, before, select),
        **asker.metrics(),
    }


def _contrast(board: Board, asker: Asker, cfg: LabelConfig) -> dict[str, int]:
    """Asks nodes whose best proposal another node holds for what sets them apart from it."""
    rivals = board.rivals()
    questions = [
        asker.contrast(board.view(rival.node), rival.text, board.view(rival.holder))
        for rival in rivals
    ]
    fresh = board.add(asker.ask(questions, "contrast", cfg.n_revised, board.history))
    return {"n_asked": len(rivals), "n_accepted": len(board.take(fresh))}


def _ask_again(board: Board, asker: Asker, cfg: LabelConfig) -> None:
    """Nodes that are left without a label, because none could be parsed or all are taken."""
    for attempt in range(1, cfg.retries + 1):
        waiting = [board.view(node) for node in board.waiting()]
        questions = [
            asker.plain(view, list(dict.fromkeys(board.texts(view.node)))[:N_AVOIDED])
            for view in waiting
        ]
        board.take(
            board.add(
                asker.ask(
                    questions,
                    "retry",
                    cfg.n_candidates,
                    board.history,
                    HEAT * attempt,
                    greedy=False,
                )
            )
        )


def _last_resort(board: Board, asker: Asker, cfg: LabelConfig) -> int:
    """`animals` becomes `animals, such as fox, hen` where another node holds `animals` and shows
    neither word; how often."""
    count = 0
    for node in board.waiting():
        text = _told_apart(board, node, cfg.n_words)
        if text is not None:
            count += len(
                board.take(
                    board.add([Proposal(node, board.pole[node], asker.round, "last resort", text)])
                )
            )
    asker.round += 1
    return count


def _told_apart(board: Board, node: int, n_words: int) -> str | None:
    words = top_words(board.view(node), n_words)
    for text in board.texts(node):
        holder = board.holder(text)
        taken = set() if holder is None else set(top_words(board.view(holder), n_words))
        own = [word for word in words if word not in taken and any(c.isalpha() for c in word)]
        for count in (2, 1, 3):
            candidate = f"{text}, such as {', '.join(own[:count])}"
            if len(own) >= count and board.is_free(candidate):
                return candidate
    return None


_REVISION = (
    "n_asked",
    "n_accepted",
    "n_rejected",
    "n_unparsed",
    "n_repeated",
    "n_without_counter_examples",
)


def _summed(rounds: Sequence[dict[str, int]]) -> dict[str, int]:
    return {
        "n_rounds": len(rounds),
        **{key: sum(done[key] for done in rounds) for key in _REVISION},
    }


def _revise(
    board: Board,
    asker: Asker,
    cfg: LabelConfig,
    counter: Critic | None,
    origin: Literal["revision", "audit"],
) -> dict[str, int]:
    """One round for all labelled nodes. Of the nodes that are asked: a new label was accepted, was
    not (`n_rejected`: it scores lower or is taken), could not be parsed, or was proposed before
    (`n_repeated`).
    """
    if counter is None:
        raise ValueError("revisions need text for counter-examples")
    held = [
        (node, board.pole[node], str(board.held[node].text))
        for node in board.order
        if node in board.held
    ]
    examples = counter.counter_examples(held, N_COUNTER_EXAMPLES)
    asked = [(node, text) for node, _, text in held if node in examples]
    questions = [asker.revision(board.view(node), text, examples[node]) for node, text in asked]
    proposals = asker.ask(questions, origin, cfg.n_revised, board.history)
    fresh = board.add(proposals)
    accepted = board.take(fresh)
    parsed, answered = {p.node for p in fresh}, {p.node for p in proposals}
    nodes = {node for node, _ in asked}
    return dict(
        zip(
            _REVISION,
            (
                len(nodes),
                len(accepted),
                len(parsed - accepted),
                len(answered - parsed),
                len(nodes - answered),
                len(held) - len(nodes),
            ),
            strict=True,
        )
    )


def _selection(board: Board, before: dict[int, Proposal], select: Comparison) -> dict[str, Any]:
    """Mean r on the select split of the first candidate (the dominant pole's), of the label chosen
    before any revision, and of the final one, over the nodes on which all three are defined. The
    choice was made on this text: it flatters the chosen.
    """
    rows = []
    for node, final in board.held.items():
        dominant = next(iter(board.views[node]))
        first = next(
            (p.score for p in board.history[node] if p.text is not None and p.pole == dominant),
            None,
        )
        rows.append([np.nan if r is None else r for r in (first, before[node].score, final.score)])
    r = np.array(rows, dtype=np.float64).reshape(-1, 3)
    defined = r[~np.isnan(r).any(axis=1)]
    means = defined.mean(axis=0).tolist() if len(defined) else [None] * 3
    return {
        "simulator": select.simulator,
        "n_tokens": select.n_tokens,
        "n_candidates": sum(
            p.text is not None for proposals in board.history.values() for p in proposals
        ),
        "n": len(defined),
        "n_undefined": len(r) - len(defined),
        **dict(zip(("r_first", "r_chosen", "r_revised"), means, strict=True)),
    }
