"""The README of the tools names every file, and its commands are understood."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS / "tune_labeler"))
README = (TOOLS / "README.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
    if line.strip().startswith("python tools/")
]


def test_every_file_has_a_row() -> None:
    rows = set(re.findall(r"^\| `([\w/]+\.py)` \|", README, flags=re.MULTILINE))
    tests = {file.name for file in (TOOLS / "tests").glob("test_*.py")} - {Path(__file__).name}
    files = [*TOOLS.glob("*.py"), *TOOLS.glob("tune_labeler/*.py")]
    assert rows == {file.relative_to(TOOLS).as_posix() for file in files} | tests


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_are_understood(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", command[1:])
    assert importlib.import_module(Path(command[1]).stem).arguments().out
