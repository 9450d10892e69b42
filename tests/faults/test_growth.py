"""Memory as text, nodes, labels and calls grow. The peak of a process of its own grows no faster
than what it is given, and by no more for each than `STATED` says. The time of each size is printed.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from faults.campaign import SCALE
from given_text import given_passage
from labeler_clients import complete
from numpy.typing import NDArray
from own_process import FORKS
from random_head import write_random_head
from stage_jobs import compute, given
from test_call_claims import Echo, labeler

from interp_by_construction.config import CollectConfig, SelectionConfig, compose
from interp_by_construction.corpus import build_corpus
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.disk import write_json
from interp_by_construction.engine.records import to_json
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.engine.store import METRICS
from interp_by_construction.labelling.evidence import gather_evidence
from interp_by_construction.labelling.labels import Label

MB = 2**20
SLACK = 12 * MB
"""What an allocator and first calls keep, whatever the size."""
STEEPER = 1.25
"""Twice the size may take so much more memory for each. A square would take twice as much."""
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _text(size: int, folder: Path) -> Callable[[], Any]:
    """Makes a corpus of `size` bytes of text."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 8))) for _ in range(3000)]
    with (folder / "text.jsonl").open("w") as file:
        written = 0
        while written < size:
            text = " ".join(draw.choices(words, k=200))
            written += len(text)
            file.write(json.dumps({"text": text}) + "\n")
    cfg = compose(["data=text", f"data.path={folder / 'text.jsonl'}", "data.vocab_size=512"])
    return lambda: build_corpus(cfg.data, None, folder)


def _nodes(size: int, folder: Path) -> Callable[[], Any]:
    """Collects evidence of `size` nodes, of a vocabulary of 150,000."""
    n, length = 64, 48
    ids = np.random.default_rng(0).integers(0, 150_000, (n, length))
    passage = given_passage([[f" t{token}" for token in row] for row in ids.tolist()], ids)
    cfg = CollectConfig(batch_size=16, top_k=8, per_quantile=1, n_near_misses=2, n_random=1)

    def read(
        part: Passage, nodes: NDArray[np.int64] | None, description: str
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for first in range(0, len(part.blocks), cfg.batch_size):
            at = slice(first, min(first + cfg.batch_size, len(part.blocks)))
            rows = [
                np.random.default_rng(int(block)).normal(size=(length, size))
                for block in part.blocks[at]
            ]
            values = np.stack(rows).astype(np.float32)
            yield at, values if nodes is None else values[..., nodes]

    every = SelectionConfig(select="all")
    return lambda: gather_evidence(read, passage, 0, cfg, every, seed=0)


def _labels(size: int, folder: Path) -> Callable[[], Any]:
    """Simulates `size` labels with a head."""
    from interp_by_construction.stages.encode import Encode
    from interp_by_construction.stages.simulate import Simulate

    cfg = compose(
        [
            "data=stories",
            "data.n_documents=900",
            "data.vocab_size=512",
            "simulate.simulator=head",
            f"simulate.head={write_random_head(folder / 'head.safetensors')}",
            "simulate.n_score_tokens=0",
            "simulate.reliability_tokens=0",
            "simulate.n_head_score_tokens=1024",
            "simulate.max_align_tokens=16384",
        ]
    )
    corpus, encoded, labels = (folder / name for name in ("corpus", "encoded", "labels"))
    for each in (corpus, encoded, labels):
        each.mkdir()
    build_corpus(cfg.data, None, corpus)
    encode = Encode.of_parts(cfg, given(corpus))
    assert encode is not None
    write_json(encoded / METRICS, to_json(compute(encode, encoded)))
    named = [Label(node, 1, f"label {node}", "aligned", 1, None) for node in range(size)]
    write_rows(labels / "labels.jsonl", map(asdict, named))
    stage = Simulate.of(cfg, given(corpus), given(encoded), given(labels), 1)
    return lambda: compute(stage, folder / "simulated")


def _calls(size: int, folder: Path) -> Callable[[], Any]:
    """Claims and asks `size` calls."""
    made, prompts = labeler(folder, Echo()), [f"{i}" for i in range(size)]
    return lambda: complete(made, prompts)


class Growth(NamedTuple):
    """Something that grows."""

    prepare: Callable[[int, Path], Callable[[], Any]]
    """Size and folder -> what is measured."""
    least: int
    """The smallest of three sizes, each twice the one before."""
    stated: int
    """Bytes of memory for each more of it, at most, as docs/reliability.md says."""


STATED = {
    "text": Growth(_text, MB, 20),
    "nodes": Growth(_nodes, 1_000, 140_000),
    "labels": Growth(_labels, 500, 220_000),
    "calls": Growth(_calls, 10_000, 2_500),
}


def _kilobytes(name: str) -> int:
    line = next(each for each in STATUS.read_text().splitlines() if each.startswith(name))
    return int(line.split()[1])


def _peak(name: str, size: int, folder: str, answer: Connection) -> None:
    """Sends bytes that the peak stands above the beginning, and seconds."""
    act = STATED[name].prepare(size, Path(folder))
    CLEAR.write_text("5")
    before, began = _kilobytes("VmRSS"), time.monotonic()
    kept = act()
    seconds = time.monotonic() - began
    answer.send((1024 * (_kilobytes("VmHWM") - before), seconds))
    del kept


def _measured(name: str, size: int, folder: Path) -> tuple[int, float]:
    folder.mkdir()
    here, there = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_peak, args=(name, size, str(folder), there))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        pytest.fail(f"{size} of {name}: the process ended with {process.exitcode}")
    finally:
        process.join(60)


@pytest.mark.skipif(not CLEAR.exists(), reason="only Linux says how much memory a process took")
@pytest.mark.skipif(SCALE == "few", reason="a part of make faults")
@pytest.mark.parametrize("name", STATED)
def test_memory_grows_as_stated(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    growth = STATED[name]
    sizes = [growth.least * factor for factor in (1, 2, 4)]
    found = [_measured(name, size, tmp_path / str(size)) for size in sizes]
    peaks = [peak for peak, _ in found]
    with capsys.disabled():
        for size, (peak, seconds) in zip(sizes, found, strict=True):
            print(f"{size:,} of {name}: {peak / MB:.1f} MiB, {seconds:.1f} s")  # noqa: T201
    each = [(peak + SLACK) / size for peak, size in zip(peaks, sizes, strict=True)]
    assert all(two <= STEEPER * one for one, two in pairwise(each)), f"not linear: {peaks}"
    assert peaks[2] - peaks[0] <= growth.stated * (sizes[2] - sizes[0]) + SLACK, peaks
