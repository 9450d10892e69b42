"""What safety against kills, power cuts and full disks costs, as a share of a run's time.

    python scripts/bench_safety.py                      the demo
    python scripts/bench_safety.py experiment=stories   another run; any configuration override

The run is made below a temporary folder, in one process, and the time in each part is summed:

    flush        until a file, or the names in a folder, are on the disk
    allocate     space for a file before it is mapped
    hash         sha256 of each file of an artifact and of each checkpoint
    checkpoint   the rest of writing checkpoints and finished phases

A run without a finished phase on disk would start training anew after a kill, so the last row is
what resuming costs. The others are what safety costs on top.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interp_by_construction import pipeline
from interp_by_construction.config import compose
from interp_by_construction.errors import IbcError
from interp_by_construction.training import fit
from interp_by_construction.training.checkpoints import Checkpoints

PARTS = ("flush", "allocate", "hash", "checkpoint")


class Clock:
    """Seconds and calls by part. Time within an inner part is not counted for the outer one."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: defaultdict[str, int] = defaultdict(int)
        self._inner = [0.0]

    def around(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, with its time added to `part`."""

        def timed(*given: Any, **named: Any) -> Any:
            self.calls[part] += 1
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return call(*given, **named)
            finally:
                took = time.perf_counter() - began
                self.seconds[part] += took - self._inner.pop()
                self._inner[-1] += took

        return timed


def main() -> None:
    clock = Clock()
    os.fsync = clock.around("flush", os.fsync)
    os.posix_fallocate = clock.around("allocate", os.posix_fallocate)
    hashlib.file_digest = clock.around("hash", hashlib.file_digest)
    Checkpoints.save = clock.around("checkpoint", Checkpoints.save)  # type: ignore[method-assign]
    fit.save_finished = clock.around("checkpoint", fit.save_finished)
    with tempfile.TemporaryDirectory(dir=".") as root:
        given = sys.argv[1:] or ["experiment=demo"]
        # In one process, whose calls are counted.
        settings = [
            *given,
            "run=bench",
            f"paths.root={Path(root).resolve()}",
            "trainer.helper=never",
        ]
        began = time.perf_counter()
        pipeline.run(compose(settings))
        whole = time.perf_counter() - began
    say = sys.stdout.write
    say(f"\n{'part':<12}{'calls':>8}{'seconds':>10}{'% of run':>10}\n")
    for part in PARTS:
        seconds = clock.seconds[part]
        say(f"{part:<12}{clock.calls[part]:>8}{seconds:>10.2f}{100 * seconds / whole:>10.2f}\n")
    total = sum(clock.seconds.values())
    say(f"{'all':<12}{'':>8}{total:>10.2f}{100 * total / whole:>10.2f}   of {whole:.0f} s\n")


if __name__ == "__main__":
    try:
        main()
    except IbcError as error:
        sys.exit(f"bench_safety: {error}")
