"""What a run works with and no result depends on: device, threads, tracker, and what is open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from interp_by_construction.errors import ConfigError

T = TypeVar("T")

Tracker = Callable[[str, int | None], AbstractContextManager[Any]]
"""Name and layer of a stage -> its logger (`engine.tracking`)."""


class Handle(Generic[T]):
    """Something outside the store that a stage computes with. `identity` is hashed. It is opened
    when it is first needed, and closed with the run."""

    @property
    def identity(self) -> str:
        """Holds no path, time or host name."""
        raise NotImplementedError

    def open(self, runtime: Runtime) -> T:
        """What the stage works with; it is closed at the end if it has a method `close`."""
        raise NotImplementedError

    def tokens(self, opened: T) -> int:
        """Tokens that language models behind `opened` have read and written in this process."""
        return 0


@dataclass
class Runtime:
    """One per process and run. Handles are opened once and closed by `close`."""

    wanted_device: str
    """auto, cpu, cuda, or a GPU by its number such as cuda:1."""
    threads: int
    """Torch threads of training. Their number can change last bits."""
    encoder_threads: int
    """Torch threads of the encoder, which is large enough for more than a small subject."""
    checkpoint_seconds: float
    tracker: Tracker
    calls: Path
    """The cache of answers of language models, shared by all runs on a store."""
    logs: Path
    """Folder for the logs of servers."""
    _opened: dict[str, tuple[Handle[Any], Any]] = field(default_factory=dict)
    _prepared: bool = False

    @cached_property
    def device(self) -> str:
        """cpu, cuda or a GPU by its number. Raises ConfigError for a GPU that is not there."""
        return resolve_device(self.wanted_device)

    @cached_property
    def device_name(self) -> str:
        """`cpu`, or the GPU's own name, by which its seconds can be compared."""
        return self.device if self.device == "cpu" else torch.cuda.get_device_name(self.device)

    def use(self, handle: Handle[T]) -> T:
        """What the handle opens. Equal handles share it; equal identities do not, since two
        endpoints may serve one model."""
        key = repr(handle)
        if key not in self._opened:
            self._opened[key] = (handle, handle.open(self))
        return self._opened[key][1]

    def tokens(self) -> int:
        """Tokens that language models have read and written for this process."""
        return sum(handle.tokens(opened) for handle, opened in self._opened.values())

    def prepare(self) -> None:
        """Sets the threads once, before the first computation."""
        if not self._prepared:
            torch.set_num_threads(self.threads)
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            self._prepared = True

    def close(self) -> None:
        """Closes what has been opened."""
        for _, opened in self._opened.values():
            if hasattr(opened, "close"):
                opened.close()
        self._opened.clear()


def resolve_device(device: str) -> str:
    """`auto` becomes cuda where there is one. Raises ConfigError for a GPU that is not there."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if there else "cpu"
    if device != "cpu" and not there:
        raise ConfigError(
            f"trainer.device={device}, but torch sees no CUDA device; use trainer.device=auto or cpu"
        )
    number = torch.device(device).index
    if number is not None and device != "cpu" and number >= there:
        raise ConfigError(
            f"trainer.device={device}, but torch sees {there} GPUs; give cuda:0 to cuda:{there - 1}"
        )
    return device


def fast_dtype(device: str) -> torch.dtype:
    """Precision in which language models are read on `device`.

    bfloat16, but float32 on CPUs without instructions for it: there it is five times as fast.
    """
    known = torch.cpu.get_capabilities() if device == "cpu" else {"amx_bf16": True}
    has_bfloat16 = known.get("avx512_bf16") or known.get("amx_bf16")
    return torch.bfloat16 if has_bfloat16 else torch.float32


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Inside the block torch uses `n` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
