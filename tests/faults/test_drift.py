"""What differs from one start to the next on one machine, and from machine to machine: a run's
artifacts are the same bytes, or they say what made them. Then `ibc run` warns of a mixture and `ibc
verify` lists it."""

from __future__ import annotations

import locale
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pytest
from fake_server import FakeServer
from faults.campaign import SCALE, drawn
from own_process import FORKS, command_alone
from small_run import overrides, run_hashes
from stock import Stock

from interp_by_construction.cli import main
from interp_by_construction.engine.run_directory import RunDirectory

REMOVED = ("evaluate", "work")
"""Stages that a mixed run computes anew."""


class Drift(NamedTuple):
    """Something that differs. A fresh interpreter gets `environment`. Else `change` is called in a
    process of its own, with a folder that it may write to."""

    name: str
    change: Callable[[Path], None] | None = None
    environment: dict[str, str] | None = None
    settings: tuple[str, ...] = ()


# Changes of a process.


def _zone(_folder: Path) -> None:
    os.environ["TZ"] = "Pacific/Chatham"
    time.tzset()


def _home(folder: Path) -> None:
    (folder / "home").mkdir()
    os.environ["HOME"] = str(folder / "home")


def _elsewhere(folder: Path) -> None:
    (folder / "work here").mkdir()
    os.chdir(folder / "work here")


def _umask(mask: int, _folder: Path) -> None:
    os.umask(mask)


class _Listing:
    """What `os.scandir` gives, in another order."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self.entries = iter(entries)

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self.entries

    def __next__(self) -> os.DirEntry[str]:
        return next(self.entries)

    def __enter__(self) -> _Listing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.entries = iter(())


def _listings(order: Callable[[list[Any]], None], _folder: Path) -> None:
    """Folders list their files in another order."""
    listdir, scandir = os.listdir, os.scandir

    def listed(path: Any = ".") -> list[Any]:
        names = sorted(listdir(path))
        order(names)
        return names

    def scanned(path: Any = ".") -> _Listing:
        with scandir(path) as found:
            entries = sorted(found, key=lambda each: each.name)
        order(entries)
        return _Listing(entries)

    # Assigned by name, as the types of both say more than any replacement can.
    for name, other in (("listdir", listed), ("scandir", scanned)):
        setattr(os, name, other)


def _version(name: str, _folder: Path) -> None:
    """A package has another version, as far as it is recorded."""
    from interp_by_construction.engine import made_with

    installed = made_with.installed
    if name == "ibc":
        made_with.__version__ = "0.0.0"
    else:
        made_with.installed = lambda packages: {**installed(packages), name: "0.0.0"}


FORKED = [
    Drift("time zone", _zone),
    Drift("home", _home),
    Drift("working directory", _elsewhere),
    Drift("umask 077", partial(_umask, 0o077)),
    Drift("umask 000", partial(_umask, 0)),
    Drift("folders listed backwards", partial(_listings, list.reverse)),
    Drift("folders listed in any order", partial(_listings, random.Random(0).shuffle)),
    Drift("threads", lambda _: None, settings=("trainer.threads=2",)),
    Drift("version of torch", partial(_version, "torch")),
    Drift("version of ibc", partial(_version, "ibc")),
]
FRESH = [
    Drift("hash seed", environment={"PYTHONHASHSEED": "1"}),
    Drift("locale C", environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    Drift("locale tr_TR.UTF-8", environment={"LC_ALL": "tr_TR.UTF-8"}),
    Drift("instructions", environment={"ATEN_CPU_CAPABILITY": "default"}),
]


def _changed(settings: list[str], said: str, drift: int, folder: str) -> None:
    """`ibc run` in a process that differs; drift: its place in `FORKED`."""
    change = FORKED[drift].change
    assert change is not None
    change(Path(folder))
    command_alone(["run", *settings], said)


def _run(drift: Drift, settings: list[str], folder: Path) -> str:
    """What the run says. It must end well."""
    said = folder / "said"
    if drift.environment is None:
        arguments = ([*settings, *drift.settings], str(said), FORKED.index(drift), str(folder))
        process = FORKS.Process(target=_changed, args=arguments)
        process.start()
        process.join(300)
        code = process.exitcode
    else:
        command = [sys.executable, "-m", "interp_by_construction", "run", *settings]
        with said.open("w") as file:
            code = subprocess.run(
                command,
                env={**os.environ, **drift.environment},
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=300,
            ).returncode
    text = said.read_text(encoding="utf-8", errors="replace")
    assert code == 0, f"{drift.name}: exit code {code}\n{text}"
    return text


def _made_with(run: RunDirectory) -> list[dict[str, str]]:
    """Of all artifacts of a run, each kind once."""
    found: list[dict[str, str]] = []
    for stage, fingerprint in run.artifacts:
        artifact = run.store.get(stage, fingerprint)
        assert artifact is not None
        if artifact.made_with not in found:
            found.append(artifact.made_with)
    return found


def _missing(drift: Drift) -> str | None:
    """What this machine lacks for it, if anything."""
    name = (drift.environment or {}).get("LC_ALL")
    if name is None:
        return None
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        return f"the locale {name}"
    finally:
        locale.setlocale(locale.LC_ALL, before)
    return None


@pytest.fixture(scope="module")
def reference(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return stock.plain(tmp_path_factory.mktemp("reference"))


@pytest.mark.skipif(SCALE == "few", reason="a part of make faults")
@pytest.mark.parametrize("drift", [*drawn(FORKED, 2), *drawn(FRESH, 0)], ids=lambda each: each.name)
def test_a_run_is_the_same_or_says_what_made_it(
    drift: Drift, reference: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if lack := _missing(drift):
        pytest.skip(f"{drift.name}: this machine lacks {lack}")
    with FakeServer() as server:
        _run(drift, overrides(server, tmp_path / "root"), tmp_path)
        run = RunDirectory(tmp_path / "root" / "runs" / "small")
        same = run_hashes(run) == run_hashes(reference)
        alike = _made_with(run) == _made_with(reference)
        with capsys.disabled():
            print(f"{drift.name}: same bytes {same}, same maker {alike}")  # noqa: T201
        assert same or not alike, f"{drift.name}: other bytes, and nothing says why"
        if not alike:
            _mixes(drift, reference, server, tmp_path, capsys)


def _mixes(
    drift: Drift,
    reference: RunDirectory,
    server: FakeServer,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run that was begun without the drift and is finished with it says so."""
    root = folder / "mixed"
    shutil.copytree(reference.store.root.parent, root)
    # A run that was never finished has no seal, which would refuse other bytes.
    (root / "runs" / "small" / "seal.json").unlink()
    for stage in REMOVED:
        for artifact in (root / "store" / stage).iterdir():
            if artifact.is_dir():
                shutil.rmtree(artifact)
    said = _run(drift, overrides(server, root), folder)
    made = _made_with(RunDirectory(root / "runs" / "small"))
    names = {name for each in made for name in each if each[name] != made[0].get(name)}
    assert names, f"{drift.name}: no artifact says that it was made otherwise"
    capsys.readouterr()
    main(["verify", "small", f"paths.root={root}"])
    listed = capsys.readouterr().out
    warned = " ".join(said.split())
    for name in names:
        assert "mixes artifacts" in warned and f"{name}: " in warned, (drift.name, said)
        assert f"made with {name} " in listed, (drift.name, listed)
