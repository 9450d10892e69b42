"""Whatever an endpoint sends, a call ends in time and in little memory: in the honest answer, or in
one line. Then the server is honest again, and so are all answers."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fake_server import FakeServer, fake_text
from faults.campaign import SCALE, drawn
from faults.hostile_replies import BODIES, REPLIES, TRANSPORT, hostile
from labeler_clients import complete, config, labeler
from own_process import FORKS, run_alone
from small_run import overrides, run_hashes
from stock import Stock

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.backend import Sampling
from interp_by_construction.llm.cache import decode
from interp_by_construction.llm.client import Labeler
from interp_by_construction.llm.replies import spoken
from interp_by_construction.shown import plain

SEEDS = 3
N_PROMPTS = 4
RETRIES = 1
PATIENCE, LONG_PATIENCE = 0.4, 20.0
"""Seconds that a request may take, where the reply never ends and where it does."""
MOST_SECONDS = 5.0
MOST_BYTES = 200 * 2**20
"""By which the memory of the process, in which the server runs too, may grow."""
LONGEST_WAIT = 60.0
"""Seconds that a server may ask a client to wait."""

PROMPTS = [[1, i + 2] for i in range(N_PROMPTS)]
CALLS: dict[str, Callable[[Labeler], list[Any]]] = {
    "completion": lambda made: complete(made, [f"{i}" for i in range(N_PROMPTS)]),
    "chat": lambda made: made.chat(
        [[{"role": "user", "content": f"{i}"}] for i in range(N_PROMPTS)], Sampling(8, 0.0)
    ),
    "digits": lambda made: made.digit_logits(PROMPTS),
    "digit_logprobs": lambda made: made.digit_logprobs(PROMPTS),
}


class Case(NamedTuple):
    """One reply to one kind of call. The seed draws the details."""

    kind: str
    name: str
    seed: int


CASES = [
    Case(kind, name, seed) for kind in REPLIES for name in REPLIES[kind] for seed in range(SEEDS)
]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        # What follows a thought begins with a letter.
        fake.text_of = lambda *asked: fake_text(*asked).strip()
        yield fake


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds between attempts, which take none here."""
    asked, sleep = [0.0], asyncio.sleep

    async def short(seconds: float) -> None:
        asked.append(seconds)
        await sleep(min(seconds, 0.01))

    monkeypatch.setattr(asyncio, "sleep", short)
    return asked


def test_a_hostile_reply_is_no_answer_and_leaves_no_trace(
    tmp_path: Path, server: FakeServer, waits: list[float]
) -> None:
    wrong = []
    honest = {kind: _honest(kind, server, tmp_path / "honest" / kind) for kind in CALLS}
    for number, case in enumerate(drawn(CASES, 30)):
        try:
            _try(case, server, tmp_path / str(number), *honest[case.kind])
        except AssertionError as error:
            wrong.append(f"{case}: {error}")
    assert not wrong, f"{len(wrong)} of these:\n" + "\n".join(wrong)
    assert max(waits) <= LONGEST_WAIT


@pytest.mark.skipif(SCALE == "few", reason="a part of make faults; the test above holds the law")
def test_a_run_ends_with_one_line_or_in_the_reference(stock: Stock, tmp_path: Path) -> None:
    """Then the same command, asked of the honest server, ends in the reference, too.
    That has two layers, of which this is one, so what is measured on both is left out."""
    expected = run_hashes(stock.plain(tmp_path / "reference"))
    names = sorted(TRANSPORT | BODIES)
    with FakeServer() as server:
        for name in drawn(names, 1, 8):
            folder = tmp_path / name.replace(" ", "-")
            root, said = folder / "root", folder / "said"
            folder.mkdir()
            settings = overrides(server, root, "layer=1", "labeler.timeout=2", "labeler.retries=1")
            server.failures.extend([None] * random.Random(name).randrange(20))
            server.failures.append(hostile("completion", name, 0))
            code = exit_code(settings, said)
            text = said.read_text()
            assert not server.failures, f"{name}: no call got the reply"
            assert code in (0, 2) and "Traceback" not in text, f"{name}: {code}\n{text}"
            if code == 2:
                (line,) = [each for each in text.splitlines() if each.startswith("ibc: ")]
                assert server.url in line, f"{name}: {line}"
                said.unlink()
                assert exit_code(settings, said) == 0, f"{name}, resumed:\n{said.read_text()}"
            made = run_hashes(RunDirectory(root / "runs" / "small"))
            common = made.keys() & expected.keys()
            assert {"label", "simulate", "align"} <= {file.partition("/")[0] for file in common}
            assert all(made[file] == expected[file] for file in common), name


def exit_code(settings: list[str], said: Path) -> int | None:
    """Of `ibc run`."""
    process = FORKS.Process(target=run_alone, args=(settings, str(said)))
    process.start()
    process.join(300)
    return process.exitcode


def _honest(kind: str, server: FakeServer, folder: Path) -> tuple[list[Any], dict[str, Any]]:
    """The answers of an honest server, and what the cache holds then."""
    with labeler(folder, config(server)) as made:
        return CALLS[kind](made), _cached(folder)


def _try(
    case: Case, server: FakeServer, folder: Path, answers: list[Any], cached: dict[str, Any]
) -> None:
    one, rng = REPLIES[case.kind][case.name], random.Random(case.seed)
    before = rng.randrange(N_PROMPTS)
    times = rng.choice((1, RETRIES + 1)) if one.ends == "again" else 1
    fails = one.ends == "error" or times > RETRIES
    server.failures.clear()
    server.failures.extend([None] * before + [hostile(*case)] * times)
    server.requests.clear()
    patience = PATIENCE if one.slow else LONG_PATIENCE
    changes = {"timeout": patience, "retries": RETRIES, "concurrency": 1}
    with labeler(folder, config(server, **changes)) as made:
        began, resident = time.monotonic(), _memory("VmRSS")
        _forget_peak()
        try:
            given: list[Any] | str = CALLS[case.kind](made)
        except LabelerError as error:
            given = str(error)
        took, grown = time.monotonic() - began, _memory("VmHWM") - resident
        assert took < MOST_SECONDS, f"it took {took:.1f} s"
        assert grown < MOST_BYTES, f"memory grew by {grown / 2**20:.0f} MiB"
        paths = {path for path, _ in server.requests}
        assert len(paths) == 1, f"asked for {paths}"
        n_expected = before + times if fails else N_PROMPTS + times * (one.ends == "again")
        assert len(server.requests) == n_expected, (
            f"{len(server.requests)} requests, {given!r:.300}"
        )
        if isinstance(given, str):
            assert fails, given
            _check_line(given, server)
        else:
            assert not fails, f"answered {given!r:.300}"
            _check_equal(given, answers)
        found = _cached(folder)
        assert len(found) == (before if fails else N_PROMPTS), f"{len(found)} cached"
        _check_equal(list(found.values()), [cached[key] for key in found])
        server.failures.clear()
        _check_equal(CALLS[case.kind](made), answers)
        assert _cached(folder).keys() == cached.keys()


def _check_line(said: str, server: FakeServer) -> None:
    """It names the server and what is wrong, and can be shown."""
    assert server.url in said or "labeler." in said, said
    assert said == plain(said) and "\n" not in said, repr(said)
    assert len(said) < 800, f"{len(said)} letters: {said[:300]!r}"


def _check_equal(given: list[Any], expected: list[Any]) -> None:
    same = len(given) == len(expected) and all(map(np.array_equal, given, expected))
    assert same, f"{given!r:.300} instead of {expected!r:.300}"


def _cached(folder: Path) -> dict[str, Any]:
    """Key -> answer, without what was thought before it."""
    with sqlite3.connect(folder / "calls.sqlite") as connection:
        rows = connection.execute("SELECT key, value FROM calls ORDER BY key").fetchall()
    connection.close()
    found = {key: decode(blob) for key, blob in rows}
    return {key: spoken(it) if isinstance(it, str) else it for key, it in found.items()}


def _memory(name: str) -> int:
    """Bytes: VmRSS now, VmHWM at most since `_forget_peak`."""
    (line,) = [
        each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(name)
    ]
    return int(line.split()[1]) * 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")
