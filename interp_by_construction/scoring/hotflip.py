"""Gradient-guided token substitution: a text is edited until a node and the simulation of its label
differ.

1. A start is a short text whose last token is judged, and a direction: the node above its
   simulation, or below.
2. HotFlip (Ebrahimi et al. 2018, https://arxiv.org/abs/1712.06751): to first order, replacing token
   a by token b at a position changes the node by (e_b - e_a) . dh/de. If the node's gradient is
   exactly 0 (a ReLU that is off), that of its pre-activation is used. The best substitutions over
   all positions are proposed.
3. Each is tried on the subject and, as text, on the simulator. The best is kept if it makes the two
   differ more. Both steps are repeated.

Only tokens that occur in the corpus are proposed, and only edits that the subject's tokenizer reads
as these very tokens. So every edited text is one that the subject could meet. Simulation sees the
text alone. The control tries as many substitutions, drawn uniformly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from interp_by_construction.corpus.token_texts import TokenTexts
from interp_by_construction.engine.progress import track
from interp_by_construction.llm.beginning import beginning
from interp_by_construction.scoring.calibration import Calibration
from interp_by_construction.simulators.base import Simulation
from interp_by_construction.subject.families import mlp_in
from interp_by_construction.subject.hooks import activations, capture

PER_POSITION = 3
"""Substitutions proposed per position at most. More than one, since the first order is often
wrong."""

Simulate = Callable[[Sequence[Sequence[str]]], list[NDArray[np.float32]]]
"""Texts as subject tokens -> simulated activations of every label, [pos, node] per text,
uncalibrated."""


def per_text(simulation: Simulation) -> Simulate:
    """A simulation of some labels, text by text."""

    def simulate(texts: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        ends = np.cumsum([len(text) for text in texts])
        return np.split(simulation(texts), ends[:-1])

    return simulate


class Nodes(NamedTuple):
    """The aligned nodes of one layer of one model, [node] each."""

    layer: int
    nodes: NDArray[np.int64]
    poles: NDArray[np.int64]
    calibration: Calibration
    low: NDArray[np.float64]
    """Smallest activation times pole on the text that was calibrated on."""
    span: NDArray[np.float64]
    """Largest minus smallest; disagreement is measured in these."""


@dataclass(frozen=True)
class Start:
    """A text to edit, or one that was edited."""

    column: int
    """Place of the node in `Nodes`."""
    direction: int
    """1: the node above its simulation, -1: below."""
    ids: tuple[int, ...]
    origin: str
    """mined or agreeing."""
    block: int
    gap: float = np.nan
    """Node minus calibrated simulation at the last token, times direction, in spans of the node."""
    swaps: tuple[dict[str, Any], ...] = ()


class Editor:
    """Edits texts of one model. allowed: ids of tokens that may be inserted. `n_tried` counts the
    substitutions."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        nodes: Nodes,
        simulate: Simulate,
        allowed: NDArray[np.int64],
        device: Any,
    ) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.nodes, self.simulate = nodes, simulate
        self.allowed = torch.as_tensor(allowed, device=device)
        self.embedding: Any = model.get_input_embeddings()
        with torch.no_grad():
            self.table = self.embedding(self.allowed).float()
        self.n_tried = 0
        self._begin = beginning(tokenizer)
        """What the model expects before every text. It is no part of a text and never edited."""
        self._texts = TokenTexts(tokenizer)

    def search(
        self,
        starts: Sequence[Start],
        n_steps: int,
        n_candidates: int,
        rng: np.random.Generator | None,
    ) -> list[Start]:
        """The starts, which are `measured`, after `n_steps` substitutions. With `rng` the proposals
        are random, else the gradient's."""
        current = list(starts)
        how = "by gradient" if rng is None else "at random"
        for _ in track(range(n_steps), f"edit text {how}"):
            orders: Iterable[Iterator[tuple[int, int]]] = (
                map(self._ordered, current, self._gradients(current))
                if rng is None
                else (self._random(start, rng) for start in current)
            )
            tried: list[Start] = []
            owner: list[int] = []
            for index, (start, order) in enumerate(zip(current, orders, strict=True)):
                fresh = self._valid(start, order, n_candidates)
                tried += fresh
                owner += [index] * len(fresh)
            self.n_tried += len(tried)
            for index, candidate in zip(owner, self.measured(tried), strict=True):
                if candidate.gap > current[index].gap:
                    current[index] = candidate
        return current

    def measured(self, starts: Sequence[Start]) -> list[Start]:
        """The same with their gaps."""
        if not starts:
            return []
        found = []
        for start, real, simulated in zip(starts, *self.values(starts), strict=True):
            gap = start.direction * (real[-1] - simulated[-1]) / self.nodes.span[start.column]
            found.append(replace(start, gap=float(gap)))
        return found

    @torch.no_grad()
    def values(self, starts: Sequence[Start]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Each start's node times pole, and its calibrated simulation, [pos] per start."""
        n, first = self.nodes, len(self._begin)
        read = activations(self.model, n.layer, self._padded(starts))[:, first:]
        values = read.float().cpu().numpy()
        said = self.simulate([self.tokens(start.ids) for start in starts])
        real, simulated = [], []
        for i, start in enumerate(starts):
            c = start.column
            real.append(values[i, : len(start.ids), n.nodes[c]].astype(np.float64) * n.poles[c])
            simulated.append(
                n.calibration.scale[c] * said[i][:, c].astype(np.float64) + n.calibration.offset[c]
            )
        return real, simulated

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Text of every token."""
        return self._texts.of(ids)

    def _padded(self, starts: Sequence[Start]) -> Tensor:
        """[start, pos] behind what the model expects first, filled up on the right: a causal model
        does not see what follows."""
        longest = max(len(start.ids) for start in starts)
        rows = [
            [*self._begin, *start.ids, *[start.ids[-1]] * (longest - len(start.ids))]
            for start in starts
        ]
        return torch.tensor(rows, device=self.device)

    def _gradients(self, starts: Sequence[Start]) -> list[Tensor]:
        """d(node times pole at the last token) / d(embedding), [pos, d] per start."""
        n, ids, first = self.nodes, self._padded(starts), len(self._begin)
        inputs = self.embedding(ids).detach().requires_grad_(True)
        before: list[Tensor] = []
        handle = mlp_in(self.model, n.layer)[0].register_forward_hook(
            lambda _module, _args, output: before.append(output)
        )
        try:
            with capture(self.model, n.layer, stop=True) as captured:
                self.model(inputs_embeds=inputs, use_cache=False)
        finally:
            handle.remove()
        row = torch.arange(len(starts), device=self.device)
        last = torch.tensor([first + len(start.ids) - 1 for start in starts], device=self.device)
        columns = np.array([start.column for start in starts])
        node = torch.as_tensor(n.nodes[columns], device=self.device)
        pole = torch.as_tensor(n.poles[columns], device=self.device)
        pre = before[0].reshape(*ids.shape, -1)
        (own,) = torch.autograd.grad(
            (captured.of(ids)[row, last, node] * pole).sum(), inputs, retain_graph=True
        )
        (instead,) = torch.autograd.grad((pre[row, last, node] * pole).sum(), inputs)
        dead = (own == 0).flatten(1).all(dim=1)[:, None, None]
        gradients = torch.where(dead, instead, own).float()
        return [gradients[i, first : first + len(start.ids)] for i, start in enumerate(starts)]

    def _ordered(self, start: Start, gradient: Tensor) -> Iterator[tuple[int, int]]:
        """(position, token) by the first-order change in the start's direction, best first."""
        with torch.no_grad():
            own = self.embedding(torch.tensor(start.ids, device=self.device)).float()
            change = (
                torch.einsum("pd,vd->pv", gradient, self.table)
                - torch.einsum("pd,pd->p", gradient, own)[:, None]
            )
            change = change * start.direction
            value, place = change.topk(min(PER_POSITION, change.shape[1]), dim=1)
            order = torch.argsort(value.flatten(), descending=True, stable=True)
        for i in order.tolist():
            yield i // place.shape[1], int(self.allowed[place.flatten()[i]])

    def _random(self, start: Start, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        # As many draws as the gradient has proposals.
        for _ in range(PER_POSITION * len(start.ids)):
            position = int(rng.integers(len(start.ids)))
            place = int(rng.integers(len(self.allowed)))
            yield position, int(self.allowed[place])

    def _valid(self, start: Start, order: Iterator[tuple[int, int]], n: int) -> list[Start]:
        """The first `n` edits that change something and that the tokenizer reads back as the same
        tokens."""
        found: dict[tuple[int, ...], Start] = {}
        for position, token in order:
            if len(found) == n:
                break
            ids = (*start.ids[:position], token, *start.ids[position + 1 :])
            if ids == start.ids or ids in found or not self.reads_back(ids):
                continue
            old, new = map(self._texts.alone, (start.ids[position], token))
            found[ids] = replace(
                start, ids=ids, swaps=(*start.swaps, {"position": position, "old": old, "new": new})
            )
        return list(found.values())

    def reads_back(self, ids: Sequence[int]) -> bool:
        """Whether the tokenizer turns the text of these tokens into these tokens."""
        text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return self.tokenizer.encode(text, add_special_tokens=False) == list(ids)
