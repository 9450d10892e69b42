"""Commands in processes of their own that a server of forks has made."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

PRELOADED = (
    "interp_by_construction.cli",
    "interp_by_construction.pipeline",
    "hydra",
    "pytorch_lightning",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
)
"""What commands import."""


FORKS = multiprocessing.get_context("forkserver")
"""Processes that need not import torch once more."""
FORKS.set_forkserver_preload(list(PRELOADED))


def run_alone(settings: list[str], said: str = os.devnull) -> None:
    """`ibc run`, as `command_alone`."""
    command_alone(["run", *settings], said)


def command_alone(command: list[str], said: str) -> None:
    """The words behind `ibc`. Leads a process group, so that it can be killed with all its
    children. said: file for what it says."""
    from interp_by_construction.cli import main

    os.setsid()
    _say_to(said)
    main(command)


def _typed(command: list[str] | str, folder: str, said: str) -> None:
    from interp_by_construction.cli import main

    os.chdir(folder)
    _say_to(said)
    if isinstance(command, str):
        exec(compile(command, "<stdin>", "exec"), {"__name__": "__main__"})
    else:
        main(command)


def typed(command: list[str] | str, folder: Path) -> str:
    """What a command says that a reader types in a folder: words behind `ibc`, or a program for
    Python's standard input. It must end with exit code 0."""
    said = folder / "said"
    said.unlink(missing_ok=True)
    process = FORKS.Process(target=_typed, args=(command, str(folder), str(said)))
    process.start()
    process.join()
    text = said.read_text()
    assert process.exitcode == 0, f"{command}: exit code {process.exitcode}\n{text[-6000:]}"
    return text


def _say_to(file: str) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(handle, stream)
