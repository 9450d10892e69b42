"""Assigns every document to one split (invariant 2)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate

from interp_by_construction.config import SPLITS
from interp_by_construction.errors import CorpusError


def assign(sizes: Sequence[float], fractions: Mapping[str, float], seed: int) -> list[str]:
    """Split of each document, by a seeded shuffle.

    sizes: of each document, in any unit. fractions: share of the text that each of `SPLITS` gets. A
    document goes to the split in which its middle lies in the shuffled text.

    Raises:
        CorpusError: fewer documents than splits.
    """
    if len(sizes) < len(SPLITS):
        raise CorpusError(
            f"{len(sizes)} documents cannot fill {len(SPLITS)} splits: give at least {len(SPLITS)}"
        )
    order = list(range(len(sizes)))
    random.Random(f"splits/{seed}").shuffle(order)
    total, share = float(sum(sizes)), float(sum(fractions[split] for split in SPLITS))
    result = [SPLITS[-1]] * len(sizes)
    bounds = [passed * total for passed in accumulate(fractions[split] / share for split in SPLITS)]
    start, current = 0.0, 0
    for index in order:
        middle = start + sizes[index] / 2
        while current < len(SPLITS) - 1 and middle > bounds[current]:
            current += 1
        result[index] = SPLITS[current]
        start += sizes[index]
    _fill_empty(result, order)
    return result


def _fill_empty(result: list[str], order: Sequence[int]) -> None:
    """Gives each empty split one document of the split that has most documents."""
    for split in SPLITS:
        counts = Counter(result)
        if not counts[split]:
            donor = max(SPLITS, key=lambda name: counts[name])
            result[next(index for index in order if result[index] == donor)] = split


def check_disjoint(documents: Mapping[str, Sequence[str]]) -> None:
    """Raises CorpusError if two splits share a document. documents: split -> hashes of texts."""
    owner: dict[str, str] = {}
    for split, hashes in documents.items():
        for digest in hashes:
            if owner.setdefault(digest, split) != split:
                raise CorpusError(
                    f"a document is in the splits {owner[digest]!r} and {split!r} (sha256 {digest[:12]})"
                )
