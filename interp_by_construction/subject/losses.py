"""LM losses of a model on a passage, untouched and under interventions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from interp_by_construction.corpus.passage import Passage, batches
from interp_by_construction.engine.progress import track
from interp_by_construction.subject.interventions import Intervention, intervened
from interp_by_construction.subject.reading import device_of

N_COUNTED = 1024
"""Blocks that are counted at once."""


class Losses(NamedTuple):
    """Summed LM loss of each document, in nats."""

    document: NDArray[np.int64]
    """Document ids, ascending, [document]."""
    tokens: NDArray[np.int64]
    """Predicted tokens, [document]."""
    nats: dict[str, NDArray[np.float64]]
    """Intervention (`none` for the untouched model) -> [document]."""


def document_losses(
    model: nn.Module,
    passage: Passage,
    interventions: Mapping[str, Sequence[Intervention]],
    batch_size: int,
    description: str,
) -> Losses:
    """Loss by document of the untouched model, and under each set of interventions.

    A token's loss belongs to the document that the token is in.
    """
    document, tokens = count_values(part.documents[:, 1:] for part in passage.slices(N_COUNTED))
    nats = {name: np.zeros(len(document)) for name in ("none", *interventions)}
    for at, found in token_losses(model, passage, interventions, batch_size, description):
        place = np.searchsorted(document, passage.part(at).documents[:, 1:])
        for name, values in found.items():
            np.add.at(nats[name], place, values)
    return Losses(document, tokens, nats)


def token_losses(
    model: nn.Module,
    passage: Passage,
    interventions: Mapping[str, Sequence[Intervention]],
    batch_size: int,
    description: str,
) -> Iterator[tuple[slice, dict[str, NDArray[np.float64]]]]:
    """Blocks of each batch, and the loss of every predicted token in nats, [batch, pos - 1].

    The losses are of the untouched model (`none`), and under each set of interventions.
    """
    device = device_of(model)
    for at in track(batches(len(passage), batch_size), description.strip()):
        part = passage.part(at)
        ids = torch.as_tensor(part.ids, device=device)
        found = {"none": token_nats(model, ids)}
        if interventions:
            text = torch.as_tensor(part.is_text, device=device)
            for name, each in interventions.items():
                with intervened(model, each, at, text):
                    found[name] = token_nats(model, ids)
        yield at, found


def token_nats(model: nn.Module, ids: Tensor) -> NDArray[np.float64]:
    """Loss of every predicted token in nats, [batch, pos - 1]."""
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        nats = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
    return nats.reshape(len(ids), -1).double().cpu().numpy()


def count_values(parts: Iterable[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values of all parts, ascending, and how often each occurs."""
    known, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for part in parts:
        new, more = np.unique(part, return_counts=True)
        both = np.union1d(known, new)
        total = np.zeros(len(both), np.int64)
        total[np.searchsorted(both, known)] += counts
        total[np.searchsorted(both, new)] += more
        known, counts = both, total
    return known, counts
