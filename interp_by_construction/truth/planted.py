"""Planted nodes: synthetic activations whose concept is known, shown to the labeler as a collected
node would be.

A node's activation is the membership in its concept plus Gaussian noise, so that their correlation
over the text is exactly the grade, shifted so that it is never negative (a ReLU's side of zero).
Excerpts are chosen by the statistics that `collect` uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from interp_by_construction.config import CollectConfig
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.subject.activation_statistics import FirstPass, SecondPass
from interp_by_construction.subject.records import Node, excerpt_of


def plant(
    member: NDArray[np.bool_], is_text: NDArray[np.bool_], grade: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Activations [token, node] whose r with `member` [token, node] is `grade` on the tokens that
    are text; 0 elsewhere.

    Grade 0 is noise alone. A node whose concept does not occur is 0 everywhere: a constant, of
    which nothing is defined.
    """
    noise = rng.standard_normal((int(is_text.sum()), member.shape[1]))
    noise -= noise.mean(axis=0)
    signal = member[is_text].astype(np.float64)
    signal -= signal.mean(axis=0)
    spread = np.sqrt((signal**2).sum(axis=0))
    unit = signal / np.where(spread > 0, spread, 1.0)
    # Noise with no part along the signal, so that r is exact and not only expected.
    noise -= unit * np.einsum("tn,tn->n", noise, unit)
    noise /= np.sqrt((noise**2).sum(axis=0))
    values = grade * unit + np.sqrt(1 - grade**2) * noise
    values -= values.min(axis=0)
    planted = np.zeros(member.shape, dtype=np.float32)
    planted[is_text] = np.where((spread > 0) | (grade == 0), values, 0.0)
    return planted


def as_nodes(
    text: Passage,
    values: NDArray[np.float32],
    cfg: CollectConfig,
    seed: int,
) -> list[Node]:
    """Records of the nodes whose activations are `values` [token, node] on `text`."""
    n_nodes = values.shape[1]
    shaped = torch.from_numpy(values.reshape(*text.shape, n_nodes))
    blocks, tokens = torch.arange(len(text)), torch.from_numpy(text.ids)
    parts = torch.split(blocks, cfg.batch_size)
    first = FirstPass(n_nodes, cfg.top_k, reservoir=256 * cfg.n_quantiles, seed=seed)
    for part in parts:
        first.update(part, tokens[part], shaped[part])
    nodes, poles = np.arange(n_nodes), first.poles()
    second = SecondPass(first, nodes, poles, cfg, vocab_size=int(text.ids.max()) + 1)
    for part in parts:
        second.update(part, tokens[part], shaped[part])
    records = []
    for node in range(n_nodes):
        picks = {
            **first.picks(node, int(poles[node]), cfg, seed),
            "near_misses": second.near_misses(node),
        }
        poled = shaped[..., node].numpy() * int(poles[node])
        excerpts: dict[str, Any] = {
            kind: [
                excerpt_of(
                    text.tokens[row],
                    poled[row],
                    position,
                    text.around(row, position, cfg.window),
                    int(text.blocks[row]),
                )
                for row, position in chosen
            ]
            for kind, chosen in picks.items()
        }
        records.append(
            Node(
                layer=0,
                node=node,
                pole=int(poles[node]),
                mean=float(first.mean[node]),
                variance=float(first.variance[node]),
                histogram=second.histogram[node].tolist(),
                bin_edges=second.edges[node].tolist(),
                **excerpts,
            )
        )
    return records
