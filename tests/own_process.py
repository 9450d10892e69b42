"""`ibc run` in a process of its own that a server of forks has made."""

from __future__ import annotations

import multiprocessing
import os

PRELOADED = (
    "interp_by_construction.cli",
    "interp_by_construction.pipeline",
    "hydra",
    "pytorch_lightning",
    "transformers.models.gpt2.modeling_gpt2",
)
"""What a run imports."""


FORKS = multiprocessing.get_context("forkserver")
"""Processes that need not import torch once more."""
FORKS.set_forkserver_preload(list(PRELOADED))


def run_alone(settings: list[str], said: str = os.devnull) -> None:
    """Leads a process group, so that it can be killed with all its children. said: file for what it
    says."""
    from interp_by_construction.cli import main

    os.setsid()
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    main(["run", *settings])
