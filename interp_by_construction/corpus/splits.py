"""Assigns every document to one split (invariant 2)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate

from interp_by_construction.config import SPLITS
from interp_by_construction.errors import CorpusError

ENOUGH = 0.5
"""Share of what it should get below which a split starves."""


def assign(sizes: Sequence[float], fractions: Mapping[str, float], seed: int) -> list[str]:
    """Split of each document, by a seeded shuffle.

    sizes: of each document, in any unit. fractions: share of the text that each of `SPLITS` gets. A
    document goes to the split in which its middle lies in the shuffled text. If a long document
    leaves too little for a split, the longest documents are placed first, see `_packed`.

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
    wanted = {split: fractions[split] / share * total for split in SPLITS}
    result = _in_order(sizes, order, list(wanted.values()))
    if _least(result, sizes, wanted) < ENOUGH:
        packed = _packed(sizes, order, wanted)
        if _least(packed, sizes, wanted) > _least(result, sizes, wanted):
            result = packed
    _fill_empty(result, order)
    return result


def _in_order(sizes: Sequence[float], order: Sequence[int], wanted: Sequence[float]) -> list[str]:
    """The shuffled text, cut at the documents' borders. wanted: size of each split."""
    result = [SPLITS[-1]] * len(sizes)
    bounds = list(accumulate(wanted))
    start, current = 0.0, 0
    for index in order:
        middle = start + sizes[index] / 2
        while current < len(SPLITS) - 1 and middle > bounds[current]:
            current += 1
        result[index] = SPLITS[current]
        start += sizes[index]
    return result


def _packed(sizes: Sequence[float], order: Sequence[int], wanted: Mapping[str, float]) -> list[str]:
    """The longest documents first, each to the split that is then fullest for its size the least
    (Graham 1969, https://doi.org/10.1137/0117039). So long ones go to the large splits, and short
    ones fill the others evenly."""
    result = [SPLITS[-1]] * len(sizes)
    filled = dict.fromkeys(SPLITS, 0.0)
    for index in sorted(order, key=lambda index: -sizes[index]):
        size = sizes[index]
        split = min(SPLITS, key=lambda name: (filled[name] + size) / wanted[name])
        result[index] = split
        filled[split] += size
    return result


def _least(splits: Sequence[str], sizes: Sequence[float], wanted: Mapping[str, float]) -> float:
    """What the split that gets least gets, as a share of what it should get."""
    got = dict.fromkeys(SPLITS, 0.0)
    for split, size in zip(splits, sizes, strict=True):
        got[split] += size
    return min(got[split] / wanted[split] if wanted[split] else 1.0 for split in SPLITS)


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
