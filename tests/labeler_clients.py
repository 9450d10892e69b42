"""Clients of a labeler for its tests, and what their child processes do: this file imports little,
as every spawned process imports it anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from fake_server import FakeServer, fake_text

from interp_by_construction.config import LabelerConfig
from interp_by_construction.llm.backend import Sampling
from interp_by_construction.llm.cache import CallCache
from interp_by_construction.llm.client import Labeler, make_labeler
from interp_by_construction.llm.digits import DIGITS, Digits


def config(server: FakeServer, **changes: Any) -> LabelerConfig:
    base = LabelerConfig(
        backend="endpoint", url=server.url, classify_url=server.url, timeout=0.5, retries=3
    )
    return replace(base, **changes)


def labeler(tmp_path: Path, cfg: LabelerConfig) -> Labeler:
    made = make_labeler(cfg, tmp_path / "calls.sqlite", tmp_path / "logs")
    # The tests of this file need no model: every digit is its own token, and test_digits.py
    # compares logits.
    made.__dict__["digits"] = Digits(tuple(range(10)), DIGITS, "")
    made.verified = True
    return made


def complete(made: Labeler, prompts: list[str], **changes: Any) -> list[str]:
    options = {"max_tokens": 8, "temperature": 0.7, "seed": 1, "stop": ["\n"], **changes}
    return made.complete(prompts, Sampling(**options))


def fill_caches(paths: Sequence[Path], offset: int, barrier: Barrier) -> None:
    """One after the other, each at the same moment as the processes beside it."""
    for path in paths:
        cache = CallCache(path)
        barrier.wait(60)
        for i in range(50):
            cache.put(f"{(offset + i) % 75}", f"{(offset + i) % 75}".encode())


def complete_beside(url: str, directory: Path, barrier: Barrier) -> None:
    cfg = LabelerConfig(backend="endpoint", url=url, classify_url=url)
    with labeler(directory, cfg) as made:
        barrier.wait()
        assert complete(made, [f"{i}" for i in range(20)]) == [
            fake_text(f"{i}", 1, 0.7) for i in range(20)
        ]
