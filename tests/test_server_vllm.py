"""The real thing: two vLLM servers on the embedded model. One start serves all tests of this file
(a minute on two cores).
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp_by_construction.config import LabelerConfig
from interp_by_construction.llm.backend import Sampling
from interp_by_construction.llm.client import make_labeler
from interp_by_construction.llm.digits import TOLERANCE, log_softmax
from interp_by_construction.simulators.exact import simulate_packed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

PROMPT = "cat, dog, horse = animals\nMonday, Friday = days of the week\nred, blue, green ="
SIMULATION = (
    "Rate how well each word fits the label animals.\n"
    + "the\t0\ncat\t9\nsat\t0\ndog\t9\non\t0\na\t0\nhorse\t9\n" * 8
)
EXCERPTS = [
    ["The", " dog", " and", " the", " horse", " ran", "."],
    [" A", " ripe", " pear", " fell", "."],
] * 3
MEMORY_LIMIT = 6 * 1024**3
START_SECONDS = 400.0

CHILD = """
import json, sys, threading, time
from pathlib import Path
import numpy as np
from interp_by_construction.config import LabelerConfig
from interp_by_construction.llm import server
from interp_by_construction.llm.backend import Sampling
from interp_by_construction.llm.client import make_labeler
from interp_by_construction.simulators.exact import simulate_packed

EXCERPTS = json.loads(sys.argv[4])
out, prompt, simulation = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
cfg = LabelerConfig()
servers = [server.managed_server(kind, cfg, out / "logs", out) for kind in ("generate", "classify")]
starts = [threading.Thread(target=s.start) for s in servers]
[t.start() for t in starts]; [t.join() for t in starts]
greedy, warm = Sampling(8, 0.0, 3, ["\\n"]), Sampling(8, 0.7, 3, ["\\n"])
results = {}
with make_labeler(cfg, out / "calls.sqlite", out / "logs") as labeler:
    ids = labeler.tokenizer(simulation).input_ids
    np.savez(out / "alone.npz", ids=ids, logits=labeler.digit_logits([ids])[0])
    results["greedy"] = labeler.complete([prompt], greedy)
    results["alone"] = labeler.complete([prompt], warm)
    probe = labeler.tokenizer.encode("0, 1, 2, 3, 4, 5, ", add_special_tokens=False)
    results["reference"] = labeler.digit_logprobs([probe])[0].tolist()
    results["given"] = labeler.digit_logits([probe])[0][-1].tolist()
    results["verified"] = labeler.verified
    np.save(out / "simulated.npy", simulate_packed(labeler, ["animals", "the word the"], EXCERPTS, "test"))
    results["chat"] = labeler.chat([[{"role": "user", "content": "Say hello."}]], greedy)
with make_labeler(cfg, out / "crowd.sqlite", out / "logs") as labeler:
    crowd = [ids[i:] for i in range(1, 9)]
    np.savez(out / "crowd.npz", logits=labeler.digit_logits([*crowd, ids])[-1])
    results["crowd"] = labeler.complete([*(f"{i}, {i} =" for i in range(6)), prompt], warm)[-1:]
results["groups"] = [s.pid for s in servers]
(out / "partial").write_text(json.dumps(results))
(out / "partial").rename(out / "results.json")
time.sleep(3600)
"""


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
def served(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, dict[str, Any], subprocess.Popen[bytes]]]:
    out = tmp_path_factory.mktemp("vllm")
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out), PROMPT, SIMULATION, json.dumps(EXCERPTS)]
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (out / "results.json").is_file():
            assert process.poll() is None, "the process that starts the servers died"
            assert time.monotonic() < deadline, "the servers did not start in time"
            time.sleep(0.5)
        yield out, json.loads((out / "results.json").read_text()), process
    finally:
        process.kill()
        process.wait()


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
    """Last in this file: it ends the servers."""
    _, results, process = served
    groups = results["groups"]
    # For each server: watchdog, API server, engine, worker.
    assert len(processes_of(groups)) >= 8
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while processes_of(groups):
        assert time.monotonic() < deadline, f"still running: {processes_of(groups)}"
        time.sleep(0.2)
