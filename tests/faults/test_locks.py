"""File locks that are missing, granted to everybody or never: refused by name. Two machines that do
not see each other's locks: each ends with the reference, and none signals the other's processes."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer
from faults.campaign import SCALE, SEED, drawn
from faults.other_machine import go_to
from faults.test_power_cut import RECIPE, _files, _stage
from own_process import FORKS, command_alone, run_alone
from small_run import overrides, run_hashes
from stock import Stock

from interp_by_construction.engine import locks, machine
from interp_by_construction.engine.locks import check_locks, file_system, own_name
from interp_by_construction.engine.run_lock import HELD, in_use, only_here
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import StoreError
from interp_by_construction.llm.server_registry import entry_of


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What was found of a folder is looked up again."""
    yield
    locks._file_system.cache_clear()
    locks._problem.cache_clear()


def _fails(number: int) -> Callable[..., Any]:
    def call(*given: Any) -> None:
        raise OSError(number, os.strerror(number))

    return call


BAD: dict[str, Callable[..., Any]] = {
    "missing": _fails(errno.ENOSYS),
    "no server for locks": _fails(errno.ENOLCK),
    "not supported": _fails(errno.EOPNOTSUPP),
    "always granted": lambda *given: None,
    "always refused": _fails(errno.EAGAIN),
}


@pytest.mark.parametrize("name", ["flock", "fcntl"])
@pytest.mark.parametrize("bad", BAD)
def test_locks_that_do_not_work_are_refused_by_name(
    name: str, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_locks(tmp_path)
    locks._problem.cache_clear()
    monkeypatch.setattr(fcntl, name, BAD[bad])
    kind = "file locks" if name == "flock" else "record locks"
    with pytest.raises(StoreError, match=rf"paths\.root: .*{kind} (are|do)") as error:
        check_locks(tmp_path / "store")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def _without_locks(command: list[str], said: str) -> None:
    fcntl.flock = _fails(errno.ENOSYS)
    command_alone(command, said)


def test_a_run_on_a_store_without_locks_ends_with_one_line(tmp_path: Path) -> None:
    said = tmp_path / "said"
    command = ["run", "layer=1", "logger=none", f"paths.root={tmp_path / 'root'}"]
    process = FORKS.Process(target=_without_locks, args=(command, str(said)))
    process.start()
    process.join(60)
    text = said.read_text()
    assert process.exitcode == 2 and "Traceback" not in text, text
    assert "file locks do not work (Function not implemented)" in text and "paths.root" in text
    assert not (tmp_path / "root" / "store").exists()
    assert not list((tmp_path / "root").glob("runs/*/config.yaml"))


@pytest.mark.parametrize(
    ("mount", "local", "reach"),
    [
        ("ext4 /dev/x rw", True, True),
        ("nfs4 server:/x rw,vers=4.2", False, True),
        ("nfs server:/x rw,nolock", False, False),
        ("nfs4 server:/x rw,local_lock=flock", False, False),
        ("lustre x@tcp:/y rw,flock", False, True),
        ("lustre x@tcp:/y rw,localflock", False, False),
        ("cifs //server/x rw", False, False),
        ("fuse.sshfs me@host: rw", False, False),
    ],
)
def test_how_far_locks_reach_is_read_from_the_mount(
    mount: str, local: bool, reach: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    here = str(tmp_path).replace(" ", "\\040")
    mounts.write_text(
        f"22 1 0:1 / / rw - xfs /dev/disk rw\n36 22 0:2 / {here} rw shared:1 - {mount}\n"
    )
    monkeypatch.setattr(locks, "MOUNTS", mounts)
    found = file_system(tmp_path / "store")
    assert (found.local, found.locks_reach_all) == (local, reach)
    assert own_name(tmp_path) == ("" if reach else f"@{machine.host()}")
    assert file_system(Path("/elsewhere")).kind == "xfs"


def _build(machine_name: str, root: str, n_rounds: int, seed: str) -> None:
    """Makes the same artifacts as another machine does at this moment."""
    with pytest.MonkeyPatch.context() as patch:
        go_to(machine_name, Path(root), patch)
        dice = random.Random(seed)

        def compute(out: Path) -> dict[str, Any]:
            time.sleep(dice.random() / 50)
            return _stage(out)

        for number in range(n_rounds):
            recipe = type(RECIPE)("stage", number, {}, {}, {})
            assert Store(Path(root)).build(recipe, compute).fingerprint == recipe.fingerprint


def test_two_machines_that_do_not_see_each_others_locks_make_the_reference(tmp_path: Path) -> None:
    """One of them is killed now and then."""
    reference = _files(Store(tmp_path / "reference").build(RECIPE, _stage).path)
    n_rounds = {"few": 12, "tenth": 60, "all": 120}[SCALE]
    for case in drawn(range(10), 2):
        root, dice = tmp_path / str(case), random.Random(f"{SEED} {case}")
        root.mkdir()

        def begin(name: str, root: Path = root, case: int = case) -> Any:
            given = (name, str(root), n_rounds, f"{SEED} {case} {name}")
            process = FORKS.Process(target=_build, args=given)
            process.start()
            return process

        one, other = begin("one"), begin("other")
        time.sleep(dice.random() * 0.3)
        os.kill(one.pid, signal.SIGKILL)
        one.join()
        one = begin("one")
        for process in (one, other):
            process.join(60)
            assert process.exitcode == 0
        made = [path for path in (root / "stage").iterdir() if not path.name.startswith(".")]
        assert len(made) == n_rounds
        for path in made:
            assert Store(root).verify("stage", path.name) == [] and _files(path) == reference
        assert not list((root / "stage").glob(".*.partial"))


def _run_on(machine_name: str, settings: list[str], root: str, said: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        go_to(machine_name, Path(root), patch)
        run_alone(settings, said)


@pytest.mark.skipif(SCALE == "few", reason="a part of make faults")
def test_two_machines_run_on_one_store(stock: Stock, tmp_path: Path) -> None:
    expected = run_hashes(stock.plain(tmp_path / "reference"))
    root = tmp_path / "root"
    with FakeServer() as server:
        processes = []
        for name in ("one", "other"):
            settings = overrides(server, root, "trainer.helper=never", f"run={name}")
            given = (name, settings, str(root), str(tmp_path / name))
            processes.append(FORKS.Process(target=_run_on, args=given))
            processes[-1].start()
        for process, name in zip(processes, ("one", "other"), strict=True):
            process.join(300)
            text = (tmp_path / name).read_text()
            assert process.exitcode == 0, text
            assert "may hold for this machine alone (file system nfs4)" in text
            assert run_hashes(type(stock.plain(tmp_path / "x"))(root / "runs" / name)) == expected
            assert (root / "store" / f"calls@{name}.sqlite").is_file()


def test_a_run_that_another_machine_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    go_to("one", root, monkeypatch)
    with only_here(root, "r"):
        assert (root / HELD).read_text() == "one"
        monkeypatch.setattr(socket, "gethostname", lambda: "other")
        monkeypatch.setattr(fcntl, "flock", lambda *given: None)
        assert in_use(root)
        with (
            pytest.raises(StoreError, match=r"run r is in use on one, .*delete"),
            only_here(root, "r"),
        ):
            raise AssertionError
        assert in_use(root), "the refusal has released nothing"
    assert not in_use(root) and not (root / HELD).exists()
    # A kill leaves it behind; the machine itself goes on.
    (root / HELD).write_text("other")
    with only_here(root, "r"):
        pass


def test_machines_with_one_temporary_directory_have_servers_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that none reads a process id of another one."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    here = entry_of("generate", "model").home
    assert here == entry_of("generate", "model").home
    others = set()
    for name, value in (
        ("host", lambda: "other"),
        ("BOOT", _file(tmp_path / "boot", "other")),
        ("PROCESS_SPACE", _link(tmp_path / "space", "pid:[1]")),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(machine, name, value)
            others.add(entry_of("generate", "model").home)
    assert len(others) == 3 and here not in others


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _link(path: Path, target: str) -> Path:
    path.touch()
    path.unlink()
    path.symlink_to(_file(path.with_name(target), ""))
    return path
