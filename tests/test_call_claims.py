"""Claims on calls take time with the number of calls, not with its square."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from labeler_clients import complete

from interp_by_construction.config import LabelerConfig
from interp_by_construction.llm import client
from interp_by_construction.llm.backend import Answer, Job, ServerKind
from interp_by_construction.llm.cache import CallCache, cache_key, encode
from interp_by_construction.llm.client import Labeler

CLAIMS = 16


class Echo:
    """A backend that says what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self, kinds: Sequence[ServerKind]) -> None:
        raise AssertionError("nobody asks what it can do")

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
        for index, job in enumerate(jobs):
            self.asked.append(job.payload["prompt"])
            yield index, Answer(job.payload["prompt"], 1)

    def close(self) -> None:
        self.asked.clear()


class Steps:
    """What the kernel and the cache do for one list of calls."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.held: set[int] = set()
        self.most = 0
        self.of_locks = 0
        """Locks that the kernel goes through, over all operations."""
        self.of_cache = 0
        lockf, get = fcntl.lockf, CallCache.get

        def counted(file: Any, command: int, length: int, start: int) -> None:
            self.of_locks += 1 + len(self.held)
            lockf(file, command, length, start)
            (self.held.discard if command & fcntl.LOCK_UN else self.held.add)(start)
            self.most = max(self.most, len(self.held))

        def looked_up(cache: CallCache, key: str) -> bytes | None:
            self.of_cache += 1
            return get(cache, key)

        patch.setattr(fcntl, "lockf", counted)
        patch.setattr(CallCache, "get", looked_up)


def labeler(path: Path, echo: Echo) -> Labeler:
    return Labeler(LabelerConfig(), CallCache(path / "calls.sqlite"), lambda _: echo)


def doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path, int], None]
) -> tuple[Steps, Steps]:
    """Steps of an act on n and on 2n calls."""
    monkeypatch.setattr(client, "CLAIMS", CLAIMS)
    found = []
    for n in (6 * CLAIMS, 12 * CLAIMS):
        with monkeypatch.context() as patch:
            found.append(Steps(patch))
            act(tmp_path / str(n), n)
    return found[0], found[1]


def test_twice_the_calls_take_twice_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(path: Path, n: int) -> None:
        prompts = [f"{i}" for i in range(n)]
        with labeler(path, echo := Echo()) as made:
            assert complete(made, prompts) == prompts
            assert echo.asked == prompts

    once, twice = doubled(tmp_path, monkeypatch, ask)
    assert once.most == twice.most == CLAIMS and not twice.held
    assert twice.of_locks == 2 * once.of_locks and twice.of_cache == 2 * once.of_cache


def test_waiting_for_another_process_takes_no_more_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which answers one call at a time, in the order in which it was asked."""

    def wait(path: Path, n: int) -> None:
        prompts = [f"{i}" for i in range(n)]
        with labeler(path, echo := Echo()) as made:
            keys = [
                cache_key(
                    {
                        "labeler": made.identity,
                        "kind": "completion",
                        "prompt": prompt,
                        "max_tokens": 8,
                        "temperature": 0.7,
                        "seed": 1,
                        "stop": ["\n"],
                    }
                )
                for prompt in prompts
            ]
            answers = dict(zip(keys, prompts, strict=True))
            monkeypatch.setattr(made._locks, "take", lambda keys: [])
            monkeypatch.setattr(
                made._locks, "wait", lambda key: made.cache.put(key, encode(answers[key]))
            )
            assert complete(made, prompts) == prompts and not echo.asked

    once, twice = doubled(tmp_path, monkeypatch, wait)
    assert twice.of_cache == 2 * once.of_cache


def test_calls_of_a_process_that_ended_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had claimed every second call, and has answered none."""
    prompts = [f"{i}" for i in range(40)]
    with labeler(tmp_path, echo := Echo()) as made:
        take, claimed = made._locks.take, []

        def refuse_once(keys: Sequence[str]) -> list[str]:
            claimed.append(len(keys))
            return take(keys[::2]) if len(claimed) == 1 else take(keys)

        monkeypatch.setattr(made._locks, "take", refuse_once)
        assert complete(made, prompts) == prompts
        assert claimed == [40, 20] and sorted(echo.asked) == sorted(prompts)
