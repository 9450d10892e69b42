"""A full disk ends a run with exit code 2 and one line. With more space the same command ends in
the same bytes as one that never stopped."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_server import FakeServer
from faults.campaign import SCALE, drawn
from own_process import FORKS, run_alone
from small_run import overrides, run_hashes
from stock import Stock

from interp_by_construction.engine.run_directory import RunDirectory

SIZES = 40


@pytest.mark.skipif(SCALE == "few", reason="a part of make faults; test_failing_disk holds the law")
def test_more_space_gives_the_reference(stock: Stock, tmp_path: Path) -> None:
    reference = stock.plain(tmp_path / "reference")
    expected = run_hashes(reference)
    whole = sum(f.stat().st_size for f in (tmp_path / "reference").rglob("*") if f.is_file())
    sizes = [32 * 1024 + whole * 12 * i // (10 * SIZES) for i in range(SIZES)]
    for size in drawn(sizes, 4):
        said = tmp_path / f"said-{size}"
        print(f"{size} bytes")  # noqa: T201
        with _disk(tmp_path / "disk", size) as disk, FakeServer() as server:
            # `paths.root` is made by the run.
            settings = overrides(server, disk / "root")
            code = _run(settings, said)
            text = said.read_text()
            assert code in (0, 2) and "Traceback" not in text, f"{size} bytes: {code}\n{text}"
            if code == 2:
                (line,) = [each for each in text.splitlines() if each.startswith("ibc: ")]
                assert f"no space left for {disk}" in line, f"{size} bytes: {line}"
            _mount("remount,size=500m", disk)
            assert _run(settings, said) == 0, f"{size} bytes, resumed:\n{said.read_text()}"
            assert run_hashes(RunDirectory(disk / "root" / "runs" / "small")) == expected, size


def _run(settings: list[str], said: Path) -> int | None:
    process = FORKS.Process(target=run_alone, args=(settings, str(said)))
    process.start()
    process.join(300)
    return process.exitcode


@contextmanager
def _disk(place: Path, size: int) -> Iterator[Path]:
    """A disk of some bytes. Skips where none can be mounted."""
    place.mkdir(exist_ok=True)
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk can be mounted by root alone")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _mount(options: str, place: Path) -> None:
    subprocess.run(["mount", "-o", options, str(place)], check=True)
