"""A run that is killed again and again, at any instant and in the middle of commits, ends in the
same bytes as one that was never killed, and asks the labeler again only what was on its way."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer
from faults.campaign import SCALE, SEED, drawn
from own_process import FORKS, run_alone
from small_run import config, overrides, run_hashes

from interp_by_construction import pipeline
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store

CONCURRENCY = 2
LONGEST = 12.0
"""Seconds of a run, about, and so the latest instant of a kill."""
N_PROBES = 6
"""Calls with which each process checks its endpoint: three prompts, each to both servers."""
OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


def _dies_in_a_commit(settings: list[str], said: str, which: int, operation: int) -> None:
    """The run is killed at one of the operations on files of one of its commits."""
    left = [which, operation]
    complete = Store._complete

    def counted(event: str, _: Any) -> None:
        if left[0] < 0 and event in OPERATIONS:
            left[1] -= 1
            if left[1] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def committed(*given: Any) -> None:
        # From here on all is counted: hashes, manifest, rename, and what goes last.
        left[0] -= 1
        complete(*given)

    sys.addaudithook(counted)
    Store._complete = committed  # type: ignore[method-assign]
    run_alone(settings, said)


@pytest.mark.skipif(
    SCALE == "few", reason="a part of make faults; test_pipeline and test_commit hold the law"
)
@pytest.mark.parametrize("schedule", ["sequential", "joint"])
def test_a_run_that_is_killed_again_and_again_ends_in_the_reference(
    schedule: str, tmp_path: Path
) -> None:
    more = ["trainer.helper=never", f"schedule={schedule}", "trainer.checkpoint_seconds=0"]
    more += [f"labeler.concurrency={CONCURRENCY}"]
    with FakeServer() as server:
        expected = run_hashes(pipeline.run(config(server, tmp_path / "reference", *more)))
    n_killed = n_whole = 0
    cases = drawn(range(50), 5)
    while cases:
        root, said = tmp_path / f"root-{n_whole}", tmp_path / f"said-{n_whole}"
        killed_here = 0
        with FakeServer() as server:
            settings = overrides(server, root, *more)
            code: int | None = -signal.SIGKILL
            while code == -signal.SIGKILL:
                case = cases.pop() if cases else None
                code = _attempt(settings, said, case)
                killed_here += code == -signal.SIGKILL
            assert code == 0, said.read_text()
            asked = Counter(json.dumps(request, sort_keys=True) for request in server.requests)
        assert run_hashes(RunDirectory(root / "runs" / "small")) == expected
        repeated = sum(asked.values()) - len(asked)
        assert repeated <= (CONCURRENCY + N_PROBES) * killed_here, asked.most_common(5)
        n_killed, n_whole = n_killed + killed_here, n_whole + 1
    print(f"{schedule}: {n_killed} kills in {n_whole} runs")  # noqa: T201


def _attempt(settings: list[str], said: Path, case: int | None) -> int | None:
    """Exit code of a run that is killed at an instant, or in a commit, of the case's own. Without a
    case it is left alone."""
    dice = random.Random(f"{SEED} {case}")
    if case is not None and case % 3 == 0:
        given = (settings, str(said), dice.randrange(1, 6), dice.randrange(1, 40))
        process = FORKS.Process(target=_dies_in_a_commit, args=given)
        process.start()
    else:
        process = FORKS.Process(target=run_alone, args=(settings, str(said)))
        process.start()
        if case is not None:
            time.sleep(dice.random() * LONGEST)
            process.kill()
    process.join(300)
    return process.exitcode
