"""The real thing: two vLLM servers on the embedded model, which the tutorial's commands start. One
start serves all tests of this file (a minute on two cores).
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_process import typed
from test_docs import TINY, tutorial
from vllm_servers import EXCERPTS, PROMPT, HeldServers

from interp_by_construction.config import LabelerConfig
from interp_by_construction.llm.backend import Sampling
from interp_by_construction.llm.client import make_labeler
from interp_by_construction.llm.digits import TOLERANCE, log_softmax
from interp_by_construction.llm.process_group import members
from interp_by_construction.simulators.exact import simulate_packed

pytestmark = pytest.mark.slow

MEMORY_LIMIT = 6 * 1024**3


def processes_of(groups: list[int]) -> list[int]:
    """Running processes of the process groups; zombies do not count."""
    return [pid for group in groups for pid, _ in members(group)]


@pytest.fixture(scope="module")
def vllm_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldServers]:
    """The tutorial starts them, as a reader does. The other tests ask them afterwards."""
    servers = HeldServers(tmp_path_factory.mktemp("vllm"))
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def served(vllm_servers: HeldServers) -> tuple[Path, dict[str, Any], subprocess.Popen[bytes]]:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    return vllm_servers.root, vllm_servers.answers(), vllm_servers.process


def test_the_tutorial_runs_as_written(vllm_servers: HeldServers) -> None:
    """Its own commands in its own order, with the real labeler on real vLLM servers that the run
    starts. The tests below go on with them."""
    vllm_servers.held()
    here = vllm_servers.root
    said = "".join(typed(command, here) for command in tutorial(TINY))
    assert (here / "runs/mine/report/index.html").is_file()
    assert (here / "my_labelled_model/model.safetensors").is_file()
    run = here / "runs" / "mine"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["labeler"] == {"model": "smollm2", "backend": "vllm"}
    assert summary["invariants"] == {"frozen_identical": True, "splits_disjoint": True}
    assert summary["layers"][0]["n_distinct_labels"] == summary["layers"][0]["n_aligned"]
    assert all(layer["n_aligned"] > 0 for layer in summary["layers"])
    assert list((run / "logs").rglob("offline-run-*")), "W&B writes offline runs"
    assert "every hash and every invariant holds" in said and "strongest on" in said


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
