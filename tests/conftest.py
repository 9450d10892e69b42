"""What tests of several files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vllm_servers import HeldServers


@pytest.fixture(scope="session")
def vllm_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldServers]:
    """The tutorial starts them, as a reader does. The tests of the servers ask them afterwards."""
    servers = HeldServers(tmp_path_factory.mktemp("vllm"))
    yield servers
    servers.close()
