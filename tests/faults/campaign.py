"""How much of a campaign of faults is tried, and which part.

`make test` tries a few of each kind, always the same. `make faults` tries a tenth and
`make faults-long` all. A tenth is drawn with a seed that is printed. IBC_FAULTS_SEED repeats it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Literal, TypeVar, cast

T = TypeVar("T")

SCALE = cast(Literal["few", "tenth", "all"], os.environ.get("IBC_FAULTS", "few"))
SEED = int(
    os.environ.get("IBC_FAULTS_SEED")
    or (0 if SCALE == "few" else random.SystemRandom().randrange(10**6))
)
# Processes that a test begins draw with the same one.
os.environ["IBC_FAULTS_SEED"] = str(SEED)

TRIED: dict[str, list[int]] = {}
"""Test -> how many faults it has tried, and of how many."""


def drawn(cases: Sequence[T], few: int, most: int | None = None) -> list[T]:
    """Those that are tried. few: how many of them `make test` tries; most: how many at all."""
    whole = min(len(cases), most or len(cases))
    sizes = {"few": few, "tenth": max(few, -(-whole // 10)), "all": whole}
    number = min(sizes[SCALE], len(cases))
    print(f"{number} of {len(cases)} faults, IBC_FAULTS_SEED={SEED}")  # noqa: T201
    note(number, whole)
    chosen = sorted(random.Random(SEED).sample(range(len(cases)), number))
    return [cases[i] for i in chosen]


def note(number: int, whole: int) -> None:
    """Says in the table at the end of `make faults` how many faults this test tries, and of how
    many."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    tried = TRIED.setdefault(test, [0, 0])
    TRIED[test] = [tried[0] + number, tried[1] + whole]
