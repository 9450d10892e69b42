"""Which machine this is, and which of its processes can see each other."""

from __future__ import annotations

import socket
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")
PROCESS_SPACE = Path("/proc/self/ns/pid")


def host() -> str:
    """The machine's name, the same after it was started again."""
    return socket.gethostname()


def process_space() -> tuple[str, str, str]:
    """Equal for two processes that see each other under the same process ids, and for no others.

    Host, start of its kernel, and namespace of process ids (a container has its own). The last two
    are empty where the system does not tell.
    """
    boot = BOOT.read_text().strip() if BOOT.is_file() else ""
    space = str(PROCESS_SPACE.readlink()) if PROCESS_SPACE.exists() else ""
    return host(), boot, space
