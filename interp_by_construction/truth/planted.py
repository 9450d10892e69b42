"""Planted nodes: synthetic activations whose concept is known, shown to the labeler as the nodes of
a model would be.

A node's activation is the membership in its concept plus Gaussian noise. Over the text its
correlation with the membership is exactly the grade. It is shifted so that it is never negative,
like that of a ReLU. `labelling.evidence` chooses excerpts as it does for the nodes of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.passage import Passage, batches


def plant(
    member: NDArray[np.bool_], is_text: NDArray[np.bool_], grade: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Activations [token, node] whose r with `member` [token, node] is `grade` on the tokens that
    are text; 0 elsewhere.

    Grade 0 is noise alone. A node whose concept does not occur is 0 everywhere.
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


def planted_batches(
    text: Passage, values: NDArray[np.float32], batch_size: int
) -> Callable[..., Iterator[tuple[slice, NDArray[np.float32]]]]:
    """Reads planted nodes as `subject.reading.read_activations` reads those of a model, from any
    part of `text`. values: [token, node] of all of it."""
    shaped = values.reshape(*text.shape, values.shape[1])
    row = {block: i for i, block in enumerate(text.blocks.tolist())}

    def read(
        passage: Passage, nodes: NDArray[np.int64] | None = None, description: str = ""
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for at in batches(len(passage), batch_size):
            part = shaped[[row[block] for block in passage.blocks[at].tolist()]]
            yield at, part if nodes is None else part[..., nodes]

    return read
