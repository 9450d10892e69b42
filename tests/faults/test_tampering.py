"""Whoever changes a finished run or its artifacts is found: `ibc verify` names the file. A copy
that was not changed is not complained about."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults.campaign import drawn
from stock import Stock

from interp_by_construction.cli import main
from interp_by_construction.engine.disk import sha256_file, sha256_json, write_json
from interp_by_construction.engine.seal import SEALED
from interp_by_construction.engine.store import MANIFEST

Change = tuple[str, Path, Callable[[Path], None]]
"""What is done, the file that must be named, and how it is done."""


@pytest.fixture(scope="module")
def root(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tampered")
    stock.plain(root)
    return root


LONGEST = 60
"""Seconds of `ibc verify`, after which it counts as hanging."""


def said_by_verify(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and all output; 99 where it waits for ever."""

    def hangs(*given: Any) -> None:
        raise SystemExit(99)

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(LONGEST)
    try:
        main(["verify", "small", f"paths.root={root}"])
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_every_change_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missed = []
    for what, file, change in drawn([*_leaves(root), *_files(root), *_folders(root)], 12, 900):
        with _put_back(file.parent if what.startswith("swap") else file):
            change(file)
            code, said = said_by_verify(root, capsys)
        if code not in (1, 2) or str(file) not in said:
            missed.append(f"{what} {file.relative_to(root)}: exit code {code}, {said[:300]}")
    assert not missed, "\n".join(missed)
    assert said_by_verify(root, capsys)[0] == 0, "all was put back"


@pytest.mark.parametrize(
    "name",
    ["nodes.parquet", "summary.json", "seal.json"],
)
def test_a_deleted_result_is_named(
    root: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = root / "runs" / "small" / name
    with _put_back(file):
        file.unlink()
        code, said = said_by_verify(root, capsys)
    assert code == 1 and f"{file}: missing" in said


@pytest.mark.parametrize(
    "name", [*(f"runs/small/{each}" for each in (*SEALED, "seal.json")), MANIFEST, "metrics.json"]
)
def test_a_pipe_is_named_and_not_waited_for(
    root: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = root / name if "/" in name else next((root / "store" / "label").glob(f"*/{name}"))
    with _put_back(file):
        file.unlink()
        os.mkfifo(file)
        code, said = said_by_verify(root, capsys)
    assert code in (1, 2) and str(file) in said


def test_a_harmless_copy_is_not_complained_about(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (what, spoil) in enumerate(drawn(HARMLESS, 2)):
        copy = tmp_path / str(number)
        shutil.copytree(root, copy)
        moved = spoil(copy) or copy
        code, said = said_by_verify(moved, capsys)
        assert code == 0, f"{what}: {said}"
        shutil.rmtree(moved)


# Values.


def _leaves(root: Path) -> Iterator[Change]:
    """Every value of the JSON and YAML files of the run, changed and deleted."""
    for name in ("summary.json", "state.json", "lines.json", "env.json", "config.yaml"):
        file = root / "runs" / "small" / name
        read, write = (
            (json.loads, json.dumps) if file.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
        )
        for place in _places(read(file.read_text())):
            for kind, edit in (("edit", _other), ("remove", None)):
                yield f"{kind} {place}", file, _editor(read, write, place, edit)


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, each in items:
        yield from _places(each, (*place, key))
    if not items and place:
        yield place


def _editor(
    read: Any, write: Any, place: tuple[Any, ...], edit: Callable[[Any], Any] | None
) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        whole = read(file.read_text())
        inner = whole
        for key in place[:-1]:
            inner = inner[key]
        if edit is None:
            del inner[place[-1]]
        else:
            inner[place[-1]] = edit(inner[place[-1]])
        file.write_text(write(whole))

    return change


def _other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value or ''}x" if isinstance(value, str) or value is None else [1]


# Files.


def _files(root: Path) -> Iterator[Change]:
    run = root / "runs" / "small"
    artifacts = [m.parent for m in sorted((root / "store").glob(f"*/*/{MANIFEST}"))]
    inside = [f for folder in artifacts for f in sorted(folder.rglob("*")) if f.is_file()]
    for file in [*(run / name for name in SEALED), *inside]:
        for change in (_flip, _cut, _delete, _link, _pipe):
            yield change.__name__, file, change
    for file in inside:
        if file.name != MANIFEST:
            yield "rehash", file.parents[_depth(file)] / MANIFEST, _rehasher(file)
    for folder in artifacts:
        yield "add", folder / "extra.json", lambda file: file.write_text("{}") and None


def _depth(file: Path) -> int:
    """How many folders above a file its artifact is."""
    return next(i for i, folder in enumerate(file.parents) if (folder / MANIFEST).is_file())


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes() or b"x")
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1] or b"x")


def _delete(file: Path) -> None:
    file.unlink()


def _link(file: Path) -> None:
    """The same content, but it stands elsewhere."""
    other = file.parents[-2] / "tmp" / f"linked-{os.getpid()}"
    other.parent.mkdir(exist_ok=True)
    shutil.copy(file, other)
    file.unlink()
    file.symlink_to(other)


def _pipe(file: Path) -> None:
    """Who reads it waits for ever."""
    file.unlink()
    os.mkfifo(file)


def _rehasher(data: Path) -> Callable[[Path], None]:
    """Changes data and writes a manifest that fits."""

    def change(file: Path) -> None:
        _flip(data)
        manifest = json.loads(file.read_text())
        del manifest["checksum"]
        name = data.relative_to(file.parent).as_posix()
        manifest["files"][name]["sha256"] = sha256_file(data)
        manifest["files"][name]["bytes"] = data.stat().st_size
        write_json(file, manifest | {"checksum": sha256_json(manifest)})

    return change


def _folders(root: Path) -> Iterator[Change]:
    """Artifacts of one stage take each other's place."""
    for stage in sorted((root / "store").iterdir()):
        artifacts = [m.parent for m in sorted(stage.glob(f"*/{MANIFEST}"))]
        for one, other in itertools.combinations(artifacts, 2):

            def swap(first: Path, second: Path = other) -> None:
                aside = first.with_name("aside")
                first.rename(aside)
                second.rename(first)
                aside.rename(second)

            yield "swap", one, swap


@contextmanager
def _put_back(path: Path) -> Iterator[None]:
    """What stands at the path, or in the artifact that holds it, is there again afterwards."""
    inside = path.is_dir() or "store" in path.parts
    whole = path if path.is_dir() else path.parents[_depth(path)] if inside else path
    aside = whole.with_name(f"{whole.name}.before")
    (shutil.copytree if whole.is_dir() else shutil.copy2)(whole, aside)
    try:
        yield
    finally:
        if whole.is_dir():
            shutil.rmtree(whole)
        else:
            whole.unlink(missing_ok=True)
        aside.rename(whole)


# Copies.


def _touched(copy: Path) -> None:
    for file in copy.rglob("*"):
        os.utime(file, (0, 0))


def _read_only(copy: Path) -> None:
    for file in (copy / "store").rglob("*.json"):
        file.chmod(0o444)


def _without_logs(copy: Path) -> None:
    shutil.rmtree(copy / "runs" / "small" / "logs")


def _without_locks(copy: Path) -> None:
    for file in copy.rglob(".*lock"):
        file.unlink()


def _moved(copy: Path) -> Path:
    return copy.rename(copy.with_name(f"{copy.name} elsewhere, später"))


def _with_report(copy: Path) -> None:
    (copy / "runs" / "small" / "report").mkdir()
    (copy / "runs" / "small" / "report" / "index.html").write_text("a report")


def _with_another_run(copy: Path) -> None:
    shutil.copytree(copy / "runs" / "small", copy / "runs" / "other")


def _with_leftovers(copy: Path) -> None:
    for stage in (copy / "store").iterdir():
        if stage.is_dir():
            (stage / f".{'0' * 32}.partial").mkdir()
            (stage / f".{'0' * 32}.scratch").mkdir()


def _hard_linked(copy: Path) -> None:
    other = copy.with_name(f"{copy.name}.linked")
    shutil.copytree(copy, other, copy_function=os.link)
    shutil.rmtree(copy)
    other.rename(copy)


def _store_elsewhere(copy: Path) -> None:
    other = copy.with_name(f"{copy.name}.store")
    (copy / "store").rename(other)
    (copy / "store").symlink_to(other)


def _reordered(copy: Path) -> None:
    """Folders list their names in another order."""
    for folder in [each for each in (copy / "store").glob("*/*") if each.is_dir()]:
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_file():
                shutil.copy2(file, file.with_name("copied"))
                file.with_name("copied").replace(file)


def _in_the_future(copy: Path) -> None:
    for file in copy.rglob("*"):
        os.utime(file, (time.time() + 1e6,) * 2)


HARMLESS: list[tuple[str, Callable[[Path], Path | None]]] = [
    (change.__name__, change)
    for change in (
        lambda copy: None,
        _touched,
        _read_only,
        _without_logs,
        _without_locks,
        _moved,
        _with_report,
        _with_another_run,
        _with_leftovers,
        _hard_linked,
        _store_elsewhere,
        _reordered,
        _in_the_future,
    )
]
