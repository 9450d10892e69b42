"""Commands in processes of their own that end behind one stage. This file imports little, as every
process imports it anew."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from own_process import FORKS

MOST_SECONDS = 60
MOST_MEMORY = 3 * 2**30
"""Bytes that a command may write to. What needs more must be refused before it is asked for."""
ENOUGH = 77
"""Exit code of a command that has come as far as it should."""


class Said(NamedTuple):
    """How a command ended. A negative code is the signal that ended it."""

    code: int
    text: str

    @property
    def reasons(self) -> list[str]:
        """Its lines that say why it ended."""
        return [line for line in self.text.splitlines() if line.startswith("ibc: ")]


class Job(NamedTuple):
    """`ibc` with some words, in the working directory `folder/here`."""

    words: list[str]
    folder: Path
    last: str
    """The stage behind which it ends with `ENOUGH`, or `settings` to compute nothing."""


def commands(jobs: list[Job]) -> list[Said]:
    """How each ended. Hydra is asked through `config.compose`, in a quarter of the time."""
    process = FORKS.Process(target=_one_by_one, args=(jobs,))
    process.start()
    process.join()
    assert process.exitcode == 0
    return [_said(job.folder) for job in jobs]


def _said(folder: Path) -> Said:
    text = (folder / "said").read_text(errors="replace")
    return Said(int((folder / "code").read_text()), text)


def _one_by_one(jobs: list[Job]) -> None:
    """Each in a fork of this process, which imports and composes once."""
    from interp_by_construction.config import compose
    from interp_by_construction.errors import IbcError

    with contextlib.suppress(IbcError):
        compose(jobs[0].words[1:])
    for words, folder, last in jobs:
        (folder / "here").mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if not child:
            _until(words, folder, last)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        (folder / "code").write_text(str(code))


class _Enough(BaseException):
    """No error that anything catches."""


def _until(words: list[str], folder: Path, last: str) -> None:
    """Never returns."""
    from interp_by_construction import cli, pipeline
    from interp_by_construction.config import Config, compose
    from interp_by_construction.engine.engine import Engine

    handle = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.chdir(folder / "here")
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    signal.alarm(MOST_SECONDS)
    get = Engine.get

    def until_last(self: Engine, stage: Any) -> Any:
        made = get(self, stage)
        if stage.name == last:
            raise _Enough
        return made

    def run(arguments: list[str]) -> int:
        cfg: Config = compose(arguments)
        if last != "settings":
            pipeline.run(cfg)
        raise _Enough

    # No call is made of which an endpoint could answer.
    unasked = {"check_endpoints": lambda *asked: None}
    vars(pipeline).update(unasked)
    vars(cli).update(_run=run)
    Engine.get = until_last  # type: ignore[method-assign]
    code = 1
    try:
        cli.main(words)
    except _Enough:
        code = ENOUGH
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for out in (sys.stdout, sys.stderr):
            out.flush()
        os._exit(code)


def fault_of(said: Said, *named: str) -> str | None:
    """What is wrong with the end of a command, or None. named: what the reason must name one of,
    where it ended with exit code 2."""
    if said.code == ENOUGH:
        return None
    if said.code != 2:
        return f"exit code {said.code}: {said.text[-1500:]}"
    if "Traceback" in said.text:
        return f"a traceback: {said.text[-1500:]}"
    if len(said.reasons) != 1:
        return f"{len(said.reasons)} reasons: {said.text[-800:]}"
    if named and not any(each in said.text for each in named):
        return f"names none of {named}: {said.reasons[0]}"
    if re.search(r"[\x00-\x08\x0b-\x1f]", said.reasons[0]):
        return f"steers the terminal: {said.reasons[0]!r}"
    return None
