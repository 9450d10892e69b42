"""label: one distinct natural-language explanation per node, from its activations.

1. Every node gets `n_candidates` proposals: one greedy, the others sampled with a fixed seed.
2. Nodes take, in order of variance, the first proposal that parses and that no other node of the layer holds.
3. A node without one asks again and is told which labels to avoid.
4. A node whose proposals are all taken keeps its first and adds the top words that set it apart from the holder.
5. A node with no proposal that parses has failed: it becomes free and is counted (invariant 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp_by_construction.config import LabelConfig
from interp_by_construction.labeler.prompts import normalised
from interp_by_construction.records import Label, Node
from interp_by_construction.stages.tables import write_records

if TYPE_CHECKING:
    from interp_by_construction.labeler.client import Labeler


def run(
    nodes: Sequence[Node],
    incoming: Mapping[int, list[tuple[str, float]]],
    labeler: Labeler,
    cfg: LabelConfig,
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Labels `nodes`; incoming: node -> (label, weight) of its strongest labelled inputs.

    Writes `labels.jsonl`, and `proposals.jsonl` with all that was parsed for each node, in the order it was proposed.
    """
    from interp_by_construction.labeler.prompts import top_words

    order = sorted(nodes, key=lambda node: -node.variance)
    words = {node.node: top_words(node, cfg.n_words) for node in order}
    holder: dict[str, int] = {}
    chosen: dict[int, Label] = {}
    proposals: dict[int, list[str]] = {node.node: [] for node in order}
    for attempt in range(cfg.retries + 1):
        waiting = [node for node in order if node.node not in chosen]
        if not waiting:
            break
        new = _propose(waiting, proposals, incoming, labeler, cfg, seed, attempt)
        for node in waiting:
            proposals[node.node] += new[node.node]
            free = next((text for text in new[node.node] if normalised(text) not in holder), None)
            if free is not None:
                holder[normalised(free)] = node.node
                chosen[node.node] = Label(node.node, node.pole, free, "aligned", attempt + 1, None)
    n_contrasted = 0
    for node in order:
        if node.node in chosen:
            continue
        text = _contrasted(proposals[node.node], words, node.node, holder)
        if text is None:
            reason = "every proposal is another node's label" if proposals[node.node] else "no proposal could be parsed"
            chosen[node.node] = Label(node.node, node.pole, None, "failed", cfg.retries + 1, reason)
        else:
            n_contrasted += 1
            holder[normalised(text)] = node.node
            reason = "duplicate, told apart by its top words"
            chosen[node.node] = Label(node.node, node.pole, text, "aligned", cfg.retries + 1, reason)
    labels = [chosen[node.node] for node in nodes]
    write_records(out / "labels.jsonl", [asdict(label) for label in labels])
    write_records(out / "proposals.jsonl", [{"node": node.node, "proposals": proposals[node.node]} for node in nodes])
    failed = sum(label.text is None for label in labels)
    return {
        "n_labels": len(labels) - failed,
        "n_failed": failed,
        "n_distinct": len({label.text for label in labels if label.text}),
        "n_contrasted": n_contrasted,
        "n_first_attempt": sum(label.attempts == 1 for label in labels),
    }


def _propose(
    nodes: Sequence[Node],
    earlier: Mapping[int, list[str]],
    incoming: Mapping[int, list[tuple[str, float]]],
    labeler: Labeler,
    cfg: LabelConfig,
    seed: int,
    attempt: int,
) -> dict[int, list[str]]:
    """Parsed proposals per node, without those that the node made before, best first."""
    from interp_by_construction.labeler.prompts import STOP, chat_prompt, parse_label, words_prompt

    asked: list[Any] = []
    seeds: list[int] = []
    greedy: list[bool] = []
    for node in nodes:
        avoid = list(dict.fromkeys(earlier[node.node]))[:6]
        shown = incoming.get(node.node, [])[: cfg.n_incoming]
        build: Callable[..., Any] = words_prompt if cfg.style == "completion" else chat_prompt
        prompt = build(node, cfg.n_words, cfg.n_contexts, shown, avoid)
        for candidate in range(cfg.n_candidates):
            asked.append(prompt)
            seeds.append(hash_seed(seed, node.layer, node.node, attempt, candidate))
            greedy.append(attempt == 0 and candidate == 0)
    ask: Callable[..., list[str]] = labeler.complete if cfg.style == "completion" else labeler.chat
    answers: list[str] = [""] * len(asked)
    for is_greedy in (True, False):
        chosen = [i for i, g in enumerate(greedy) if g == is_greedy]
        if chosen:
            replies = ask(
                [asked[i] for i in chosen],
                max_tokens=cfg.max_tokens,
                temperature=0.0 if is_greedy else cfg.temperature + 0.15 * attempt,
                seed=[seeds[i] for i in chosen],
                stop=STOP,
            )
            for i, reply in zip(chosen, replies, strict=True):
                answers[i] = reply
    result: dict[int, list[str]] = {}
    for index, node in enumerate(nodes):
        replies = answers[index * cfg.n_candidates : (index + 1) * cfg.n_candidates]
        parsed = (parse_label(reply) for reply in replies)
        result[node.node] = list(dict.fromkeys(text for text in parsed if text and text not in earlier[node.node]))
    return result


def _contrasted(proposals: Sequence[str], words: Mapping[int, list[str]], node: int, holder: Mapping[str, int]) -> str | None:
    """`animals` becomes `animals, such as fox, hen` where another node holds `animals` and shows neither word."""
    for text in proposals:
        other = set(words[holder[normalised(text)]]) if normalised(text) in holder else set()
        own = [word for word in words[node] if word not in other and any(c.isalpha() for c in word)]
        for count in (2, 1, 3):
            candidate = f"{text}, such as {', '.join(own[:count])}"
            if len(own) >= count and normalised(candidate) not in holder:
                return candidate
    return None


def hash_seed(*parts: int) -> int:
    """A stable 31-bit seed from integers."""
    import hashlib

    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1
