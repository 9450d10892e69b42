"""The real thing: two vLLM servers on the embedded model. One start serves all tests of this file
and the tutorial (a minute on two cores).
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_servers import EXCERPTS, PROMPT, HeldServers

from interp_by_construction.config import LabelerConfig
from interp_by_construction.llm.backend import Sampling
from interp_by_construction.llm.client import make_labeler
from interp_by_construction.llm.digits import TOLERANCE, log_softmax
from interp_by_construction.simulators.exact import simulate_packed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

MEMORY_LIMIT = 6 * 1024**3


def processes_of(groups: list[int]) -> list[int]:
    """Running processes of the process groups; zombies do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, group = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            except OSError:
                continue
            if int(group) in groups and state not in ("Z", "X"):
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def served(vllm_servers: HeldServers) -> tuple[Path, dict[str, Any], subprocess.Popen[bytes]]:
    return vllm_servers.root, vllm_servers.answers(), vllm_servers.process


def test_digit_logits_are_the_language_models(served: Any, tmp_path: Path) -> None:
    out = served[0]
    stored = np.load(out / "alone.npz")
    ids = stored["ids"].tolist()
    with make_labeler(
        LabelerConfig(backend="transformers"), tmp_path / "calls.sqlite", tmp_path
    ) as reference:
        expected = reference.digit_logits([ids])[0]
    assert stored["logits"].shape == expected.shape == (len(ids), 10)
    assert np.corrcoef(stored["logits"].ravel(), expected.ravel())[0, 1] > 0.99


def test_the_start_up_check_compares_two_paths_and_passes(served: Any) -> None:
    """The reference comes from the generating server; it must also tell digits apart, or the check
    would pass on anything."""
    results = served[1]
    reference, given = (
        log_softmax(np.array(results["reference"])),
        log_softmax(np.array(results["given"])),
    )
    assert results["verified"] and np.abs(reference - given).max() <= TOLERANCE
    assert np.ptp(reference) > 4 * TOLERANCE and int(reference.argmax()) == int(given.argmax()) == 6


def test_simulation_is_the_same_through_transformers(served: Any, tmp_path: Path) -> None:
    simulated = np.load(served[0] / "simulated.npy")
    with make_labeler(
        LabelerConfig(backend="transformers"), tmp_path / "calls.sqlite", tmp_path
    ) as reference:
        expected = simulate_packed(reference, ["animals", "the word the"], EXCERPTS, "test")
    # Digits from 0 to 9; a difference of rounding in the logits moves the expected digit by a
    # fraction of one.
    assert simulated.shape == expected.shape and np.abs(simulated - expected).max() < 0.5
    assert np.corrcoef(simulated.ravel(), expected.ravel())[0, 1] > 0.99


def test_greedy_text_is_the_language_models(served: Any, tmp_path: Path) -> None:
    with make_labeler(
        LabelerConfig(backend="transformers"), tmp_path / "calls.sqlite", tmp_path
    ) as reference:
        expected = reference.complete([PROMPT], Sampling(8, 0.0, 3, ["\n"]))
    assert served[1]["greedy"] == expected
    assert served[1]["chat"][0].strip()


def test_answers_do_not_depend_on_the_requests_around_them(served: Any) -> None:
    out, results, _ = served
    np.testing.assert_array_equal(
        np.load(out / "alone.npz")["logits"], np.load(out / "crowd.npz")["logits"]
    )
    assert results["alone"] == results["crowd"]


def test_memory_of_every_process(served: Any) -> None:
    for pid in processes_of(served[1]["groups"]):
        peak = [
            line
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        ]
        assert int(peak[0].split()[1]) * 1024 < MEMORY_LIMIT


def test_nothing_outlives_a_killed_parent(served: Any) -> None:
    """Last in this file: it ends the servers. The parent is the last process that uses them."""
    _, results, process = served
    groups = results["groups"]
    # For each server: watchdog, API server, engine.
    assert len(processes_of(groups)) >= 6
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while processes_of(groups):
        assert time.monotonic() < deadline, f"still running: {processes_of(groups)}"
        time.sleep(0.2)
