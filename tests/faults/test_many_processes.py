"""Eight processes on one store, some of which are killed, or stopped and continued, while the
labeler is slow or fails: each artifact is completed once, nothing waits for ever, and all ends in
the reference. A call is repeated only where the process that made it was killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, fake_text
from faults.campaign import SCALE, SEED, drawn
from labeler_clients import complete, labeler
from own_process import FORKS, run_alone
from small_run import overrides, run_hashes
from stock import Stock

from interp_by_construction.config import LabelerConfig
from interp_by_construction.engine.store import Recipe, Store

N_PROCESSES, N_ARTIFACTS, N_PROMPTS = 8, 6, 4
SECONDS = 120.0
CONCURRENCY = 2


def recipe(number: int) -> Recipe:
    return Recipe("stage", 1, {"number": number}, {}, {})


def prompts(number: int) -> list[str]:
    """Each is shared by two artifacts."""
    return [f"{number // 2} {i}" for i in range(N_PROMPTS)]


def _work(root: str, url: str, seed: str) -> None:
    """Makes all artifacts in an order of its own."""
    os.setsid()
    folder, dice = Path(root), random.Random(seed)
    # The server's failures are fewer than the attempts of a call.
    cfg = LabelerConfig(
        backend="endpoint", url=url, timeout=1.0, retries=8, concurrency=CONCURRENCY
    )
    with labeler(folder, cfg) as made:
        for number in dice.sample(range(N_ARTIFACTS), N_ARTIFACTS):

            def compute(out: Path, number: int = number) -> dict[str, Any]:
                answers = complete(made, prompts(number))
                (out / "answers").write_text("\n".join(answers))
                time.sleep(dice.random() / 20)
                with (folder / "completed").open("a") as file:
                    file.write(f"{number}\n")
                return {"n": len(answers)}

            Store(folder / "store").build(recipe(number), compute)


def test_eight_processes_share_what_they_make(tmp_path: Path) -> None:
    for case in drawn(range(30), 2):
        root, dice = tmp_path / str(case), random.Random(f"{SEED} {case}")
        root.mkdir()
        with FakeServer() as server:
            server.delay = dice.choice([0.0, 0.02, 0.1])
            server.timeout_sleep = 1.5
            server.failures.extend(dice.choices([503, 429, "drop", "timeout"], k=dice.randrange(5)))
            n_failures, n_killed = len(server.failures), 0
            begun: dict[int, Any] = {}
            for i in range(N_PROCESSES):
                begun[i] = _begin(root, server.url, f"{SEED} {case} {i}")
            for _ in range(6):
                time.sleep(dice.random() / 10)
                i = dice.randrange(N_PROCESSES)
                if not begun[i].is_alive():
                    continue
                if dice.random() < 0.5:
                    begun[i].kill()
                    begun[i].join()
                    n_killed += 1
                    begun[i] = _begin(root, server.url, f"{SEED} {case} {i} again")
                else:
                    os.kill(begun[i].pid, signal.SIGSTOP)
                    time.sleep(dice.random() / 5)
                    os.kill(begun[i].pid, signal.SIGCONT)
            for process in begun.values():
                process.join(SECONDS)
                assert process.exitcode == 0, f"round {case}: {process.exitcode}"
            asked = Counter(str(body["prompt"]) for _, body in server.requests)
        store = Store(root / "store")
        for number in range(N_ARTIFACTS):
            found = store.get("stage", recipe(number).fingerprint)
            assert found is not None and store.verify("stage", found.fingerprint) == []
            expected = [fake_text(prompt, 1, 0.7) for prompt in prompts(number)]
            assert (found.path / "answers").read_text() == "\n".join(expected)
        # One that was killed at the end of its work has completed nothing.
        completed = Counter((root / "completed").read_text().split())
        assert sum(completed.values()) <= N_ARTIFACTS + n_killed, completed
        repeated = sum(asked.values()) - len(asked)
        assert repeated <= n_failures + CONCURRENCY * n_killed, f"round {case}: {asked}"


def _begin(root: Path, url: str, seed: str) -> Any:
    process = FORKS.Process(target=_work, args=(str(root), url, seed))
    process.start()
    return process


@pytest.mark.skipif(SCALE == "few", reason="a part of make faults")
def test_runs_that_are_killed_beside_each_other_end_in_the_reference(
    stock: Stock, tmp_path: Path
) -> None:
    expected, root = run_hashes(stock.plain(tmp_path / "reference")), tmp_path / "root"
    dice = random.Random(SEED)
    with FakeServer() as server:

        def begin(i: int) -> Any:
            settings = overrides(server, root, "trainer.helper=never", f"run=r{i}")
            process = FORKS.Process(target=run_alone, args=(settings, str(tmp_path / f"said-{i}")))
            process.start()
            return process

        begun = [begin(i) for i in range(N_PROCESSES)]
        for _ in range(6):
            time.sleep(3 * dice.random())
            i = dice.randrange(N_PROCESSES)
            begun[i].kill()
            begun[i].join()
            begun[i] = begin(i)
        for i, process in enumerate(begun):
            process.join(600)
            assert process.exitcode == 0, (tmp_path / f"said-{i}").read_text()
    run = stock.plain(tmp_path / "other")
    for i in range(N_PROCESSES):
        assert run_hashes(type(run)(root / "runs" / f"r{i}")) == expected
