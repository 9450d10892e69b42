"""What a disk may hold after a power cut.

A disk keeps a file's content only as of its last `fsync`, and a folder's names only as of the last
`fsync` of the folder. What came later may be there, in part or not at all, and folders do not keep
the order in which they changed. `Disk` watches a folder and gives states that a power cut may
leave.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Names = dict[str, int]
"""Name -> inode of what a folder holds."""
CHANGES = ("rename", "replace", "mkdir", "rmdir", "unlink")


@dataclass
class _State:
    """root, folders and files by inode."""

    root: int
    names: dict[int, list[Names]] = field(default_factory=dict)
    """Folder -> its contents since it was flushed, oldest first."""
    contents: dict[int, bytes] = field(default_factory=dict)
    flushed: dict[int, bytes] = field(default_factory=dict)


class Disk:
    """All states of a folder that any power cut may leave, while `watched` is entered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = _State(folder.stat().st_ino)
        self.moments: list[_State] = []
        self._look()

    @contextmanager
    def watched(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Inside, every flush and every change of names is noted."""
        with patch.context() as inner:
            for name in CHANGES:
                inner.setattr(os, name, self._noting(getattr(os, name)))
            inner.setattr(os, "fsync", self._flush)
            yield
        self._note()

    def after_a_cut(self, draw: random.Random, folder: Path) -> None:
        """Writes one of the states into an empty folder. Half of them are late, when most is at
        stake."""
        late = -(-len(self.moments) // 10)
        state = draw.choice(self.moments[-late if draw.random() < 0.5 else 0 :])
        self._write(state, state.root, draw, folder)

    def _noting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any, **named: Any) -> Any:
            self._note()
            result = call(*given, **named)
            self._note()
            return result

        return noted

    def _flush(self, handle: int) -> None:
        self._look()
        inode = os.fstat(handle).st_ino
        if inode in self.now.names:
            self.now.names[inode] = self.now.names[inode][-1:]
        elif inode in self.now.contents:
            self.now.flushed[inode] = self.now.contents[inode]
        self._note()

    def _note(self) -> None:
        self._look()
        self.moments.append(copy.deepcopy(self.now))

    def _look(self) -> None:
        """Takes over what the folder holds now."""
        for path, _, files in os.walk(self.folder):
            names = {entry.name: entry.inode() for entry in os.scandir(path)}
            inode = Path(path).stat().st_ino
            # A folder that was made since is empty as long as it is not flushed.
            versions = self.now.names.setdefault(inode, [{}])
            if versions[-1] != names:
                versions.append(names)
            for name in files:
                file = Path(path, name)
                self.now.contents[file.stat().st_ino] = file.read_bytes()

    def _write(self, state: _State, inode: int, draw: random.Random, folder: Path) -> None:
        versions = state.names[inode]
        names = versions[-1] if draw.random() < 0.5 else draw.choice(versions)
        for name, each in names.items():
            if each in state.names:
                (folder / name).mkdir()
                self._write(state, each, draw, folder / name)
            elif each in state.contents:
                (folder / name).write_bytes(_kept(state, each, draw))


def _kept(state: _State, inode: int, draw: random.Random) -> bytes:
    """What of a file is there: all, what was flushed, or a part of it."""
    whole, flushed = state.contents[inode], state.flushed.get(inode, b"")
    if whole == flushed:
        return whole
    return draw.choice([whole, flushed, whole[: draw.randrange(len(whole) + 1)]])
