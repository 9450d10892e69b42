"""Lightning in one process on one device, whatever a scheduler's variables say.

Lightning would take number and rank of processes from the variables of SLURM, torchrun and others.
A stage is always one process: in an allocation with several tasks it would refuse to train, and in
all tasks but the first it would log nothing.
"""

from __future__ import annotations

from typing import Any


def be_main_process() -> None:
    """Loggers write in this process."""
    from pytorch_lightning.utilities import rank_zero_only

    rank_zero_only.rank = 0  # type: ignore[attr-defined]


def one_process() -> Any:
    """A plugin for Lightning's Trainer."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    class OneProcess(LightningEnvironment):
        @property
        def creates_processes_externally(self) -> bool:
            return False

        def local_rank(self) -> int:
            return 0

        def node_rank(self) -> int:
            return 0

    be_main_process()
    return OneProcess()
