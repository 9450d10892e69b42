"""`ibc run` in a process of its own that a server of forks has made."""

from __future__ import annotations

import os

PRELOADED = (
    "interp_by_construction.cli",
    "interp_by_construction.pipeline",
    "hydra",
    "pytorch_lightning",
    "transformers.models.gpt2.modeling_gpt2",
)
"""What a run imports."""


def run_alone(settings: list[str]) -> None:
    """Leads a process group, so that it can be killed with all its children. Says nothing."""
    from interp_by_construction.cli import main

    os.setsid()
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silent, stream)
    main(["run", *settings])
