"""Managed servers that start before anybody needs them, while something else is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from interp_by_construction.config import LabelerConfig
from interp_by_construction.engine.runtime import Runtime
from interp_by_construction.llm.backend import ServerKind
from interp_by_construction.llm.server import ManagedServer, managed_server

Start = Callable[[Sequence[ServerKind]], None]
"""Begins to start servers, and returns at once. Whoever uses one waits for it, and learns then
whether it failed."""


@contextmanager
def early_servers(cfg: LabelerConfig, runtime: Runtime) -> Iterator[Start]:
    """Those of `cfg.backend=vllm`. At the end of the block the ones that nobody has used are
    stopped."""
    begun: list[ManagedServer] = []

    def start(kinds: Sequence[ServerKind]) -> None:
        for kind in kinds if cfg.backend == "vllm" else ():
            server = managed_server(kind, cfg, runtime.logs, runtime.calls.parent)
            server.start_early()
            begun.append(server)

    try:
        yield start
    finally:
        for server in begun:
            if not server.used:
                server.stop()
