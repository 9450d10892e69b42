"""A second process that computes what needs no answers of a language model.

While the labeler writes, a run waits. Meanwhile a helper reads text, trains controls and measures
losses: all stages whose parents are there, and that ask no language model. Both work on one store,
whose locks give each stage to one of them. So the artifacts are those of a run without a helper.

The helper ends with the run, also when the run is killed: it reads from a pipe that only the run
holds open. What the helper cannot compute, the run computes itself, and shows what is wrong.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interp_by_construction.config import Config, from_saved, to_dict
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.run_directory import RunDirectory, near
from interp_by_construction.engine.session import open_engine
from interp_by_construction.engine.stage import Stage
from interp_by_construction.schedules.outlook import Outlook
from interp_by_construction.schedules.plan import graph_of

_LOG = logging.getLogger(__name__)

START = f"""
import sys
sys.path[:] = {{path!r}}
from interp_by_construction.schedules.lifeline import task_of_parent
line = task_of_parent()
from {__name__} import main
main(line)
"""
"""Program of a helper. It imports from where the run imports."""
POLL_SECONDS = 0.5
"""How often a helper looks for the next stage while none is ready."""
END_SECONDS = 2.0
"""How long a helper may take to end when the run is done."""


@contextmanager
def helper(cfg: Config, directory: RunDirectory, ahead: Outlook) -> Iterator[None]:
    """A helper works during the block, if `ahead` says that it pays."""
    if not ahead.helped:
        yield
        return
    task = {
        "config": to_dict(cfg),
        "directory": str(directory.path),
        "layers": directory.state["planned"],
    }
    log = directory.logs / "helper.log"
    with log.open("ab") as opened:
        # A session of its own: Ctrl-C reaches the run alone, which then closes the pipe.
        process = subprocess.Popen(
            [sys.executable, "-c", START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=opened,
            stderr=opened,
            start_new_session=True,
        )
    pipe = process.stdin
    assert pipe is not None
    try:
        # One that could not start leaves a broken pipe, and why in its log.
        with contextlib.suppress(BrokenPipeError):
            # Not on the command line, which every user of the machine can read.
            pipe.write(json.dumps(task).encode() + b"\n")
            pipe.flush()
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Below 0 after a kill. 0 where it had nothing left to do, or ended with the pipe.
        if process.returncode > 0:
            _LOG.warning("the helper failed, and the run did its work; why: %s", near(log))


def work(cfg: Config, directory: RunDirectory, layers: list[int]) -> None:
    """Computes one ready stage after the other until all that asks no language model is there."""
    graph = graph_of(cfg, layers)
    with open_engine(cfg, directory, announced=False) as (engine, runtime, lines):
        ahead = Outlook.of(cfg, graph, engine.find, runtime)
        lines.expect(ahead.missing)
        own = ahead.for_helper
        while own := [stage for stage in own if engine.find(stage) is None]:
            stage = next((each for each in own if _is_ready(each, engine)), None)
            if stage is None:
                time.sleep(POLL_SECONDS)
            else:
                engine.get(stage)


def _is_ready(stage: Stage[Any], engine: Engine) -> bool:
    """Whether its parents are there, and nobody computes it."""
    there = all(engine.find(parent) is not None for parent in stage.parents.values())
    return there and not engine.store.busy(stage.recipe)


def main(line: bytes) -> None:
    """What a helper does, to which the run gave this line."""
    task = json.loads(line)
    work(from_saved(task["config"]), RunDirectory(Path(task["directory"])), task["layers"])
