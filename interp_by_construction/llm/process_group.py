"""What the kernel tells of a process group: its members, and who listens on a port.

Read from /proc. On a system without it no member is seen, and every listener counts as the group's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
LISTENING = "0A"
"""State of a socket in /proc/net/tcp."""
ASKED = frozenset(
    f"{ip:0{width}X}"
    for ip, width in ((0, 8), (0x0100007F, 8), (0, 32), (0x01000000, 32), (0xFFFF00000100007F, 32))
)
"""Local addresses there that get what is sent to 127.0.0.1 or to ::1: any, and loopback. Another
program may listen on the same port of another interface."""


def members(group: int) -> Iterator[tuple[int, str]]:
    """Process id and state of each running process of a group. `T` is a stopped one."""
    for entry in PROC.glob("[0-9]*"):
        try:
            state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state not in ("Z", "X"):
            yield int(entry.name), state


def is_stopped(group: int) -> bool:
    """Whether a process of the group was stopped by a signal, so that it answers nobody."""
    return any(state == "T" for _, state in members(group))


def listens(group: int, port: int) -> bool:
    """Whether a process of the group, and nobody else, gets what is sent to a TCP port of the
    loopback interface."""
    if not PROC.is_dir():
        return True
    sockets = _listeners(port)
    return bool(sockets) and sockets <= {each for pid, _ in members(group) for each in _open(pid)}


def free_port() -> int:
    """A port of the loopback interface on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server of ours could listen on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listeners(port: int) -> set[str]:
    """Inodes of the sockets that listen on a port of the loopback interface."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            _, local, _, state, _, _, _, _, _, inode = row.split()[:10]
            address, _, its_port = local.partition(":")
            if state == LISTENING and address in ASKED and int(its_port, 16) == port:
                found.add(inode)
    return found


def _open(pid: int) -> Iterator[str]:
    """Inodes of the sockets that a process holds."""
    try:
        for handle in (PROC / str(pid) / "fd").iterdir():
            target = str(handle.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]
    except OSError:
        # It has ended, or it is another user's.
        return
