"""Two real vLLM servers for all tests of a file, started by whoever needs them first."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROMPT = "cat, dog, horse = animals\nMonday, Friday = days of the week\nred, blue, green ="
SIMULATION = (
    "Rate how well each word fits the label animals.\n"
    + "the\t0\ncat\t9\nsat\t0\ndog\t9\non\t0\na\t0\nhorse\t9\n" * 2
)
EXCERPTS = [
    ["The", " dog", " and", " the", " horse", " ran", "."],
    [" A", " ripe", " pear", " fell", "."],
] * 2
START_SECONDS = 400.0

HOLDER = """
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
# As experiment=demo, so that the tutorial starts these servers.
cfg, store = LabelerConfig(threads=1), out / "store"
servers = [server.managed_server(kind, cfg, out / "logs", store) for kind in ("generate", "classify")]
[s.hold() for s in servers]
(out / "held").touch()
if not sys.stdin.readline():
    sys.exit()
starts = [threading.Thread(target=s.start) for s in servers]
[t.start() for t in starts]; [t.join() for t in starts]
greedy, warm = Sampling(8, 0.0, 3, ["\\n"]), Sampling(8, 0.7, 3, ["\\n"])
results = {}
with make_labeler(cfg, store / "alone.sqlite", out / "logs") as labeler:
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
with make_labeler(cfg, store / "crowd.sqlite", out / "logs") as labeler:
    crowd = [ids[i:] for i in range(1, 5)]
    np.savez(out / "crowd.npz", logits=labeler.digit_logits([*crowd, ids])[-1])
    results["crowd"] = labeler.complete([*(f"{i}, {i} =" for i in range(3)), prompt], warm)[-1:]
results["groups"] = [s.pid for s in servers]
(out / "partial").write_text(json.dumps(results))
(out / "partial").rename(out / "results.json")
time.sleep(3600)
"""
"""Uses both servers until it is killed. It asks for them only when a line is written to it."""


class HeldServers:
    """A process that keeps up the servers of the store below `root`. A run on that store starts
    them, or finds them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        given = (str(root), PROMPT, SIMULATION, json.dumps(EXCERPTS))
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *given], stdin=subprocess.PIPE
        )

    def held(self) -> None:
        """Returns when the process uses the servers, so that a run which starts them does not end
        them."""
        self._wait_for("held")

    def answers(self) -> dict[str, Any]:
        """What the servers say; starts those that nobody has started."""
        if not (self.root / "results.json").is_file():
            assert self.process.stdin is not None
            self.process.stdin.write(b"ask\n")
            self.process.stdin.flush()
        return json.loads(self._wait_for("results.json").read_text())

    def close(self) -> None:
        """Ends the process. The servers end with it."""
        self.process.kill()
        self.process.communicate()

    def _wait_for(self, name: str) -> Path:
        deadline = time.monotonic() + START_SECONDS
        while not (self.root / name).is_file():
            assert self.process.poll() is None, "the process that holds the servers died"
            assert time.monotonic() < deadline, "the servers did not start in time"
            time.sleep(0.1)
        return self.root / name
