"""Laws of what a training phase leaves on disk: the newest intact one is found, and a damaged one
is never read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from interp_by_construction.training.checkpoints import (
    FINISHED,
    WEIGHTS,
    Checkpoints,
    load_finished,
    save_finished,
)


def _saved(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(step, lambda path, step=step: path.write_bytes(b"%d" % step * 1000))
    return checkpoints


def _text(checkpoints: Checkpoints) -> bytes | None:
    newest = checkpoints.newest()
    return newest.read_bytes()[:2] if newest else None


def test_the_last_two_are_kept_and_the_newest_is_found(tmp_path: Path) -> None:
    checkpoints = _saved(tmp_path, 11, 22, 33)
    assert len(list(tmp_path.iterdir())) == 2 and _text(checkpoints) == b"33"
    checkpoints.remove()
    assert checkpoints.newest() is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 1, 1999])
def test_a_torn_one_gives_way_to_the_one_before(
    size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = _saved(tmp_path, 11, 22)
    newest = checkpoints.newest()
    assert newest is not None
    os.truncate(newest, size)
    assert _text(checkpoints) == b"11" and str(newest) in caplog.text and not newest.exists()


def test_a_changed_bit_is_found_and_nothing_intact_means_none(tmp_path: Path) -> None:
    checkpoints = _saved(tmp_path, 11, 22)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert checkpoints.newest() is None and not list(tmp_path.iterdir())


def test_a_kill_while_writing_leaves_those_before(tmp_path: Path) -> None:
    checkpoints = _saved(tmp_path, 11)

    def killed(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(22, killed)
    assert _text(checkpoints) == b"11"
    checkpoints.save(33, lambda path: path.write_bytes(b"33"))
    assert _text(checkpoints) == b"33" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", [FINISHED, WEIGHTS])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone"])
def test_a_damaged_result_counts_as_not_finished(
    name: str, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = {"w": torch.arange(6.0)}
    save_finished(tmp_path, weights, {"steps": 3})
    loaded = load_finished(tmp_path)
    assert loaded is not None and torch.equal(loaded[0]["w"], weights["w"])
    assert loaded[1] == {"steps": 3}
    file = tmp_path / name
    if damage == "gone":
        file.unlink()
    else:
        os.truncate(file, 0 if damage == "empty" else file.stat().st_size - 3)
    assert load_finished(tmp_path) is None
    assert (name, damage) == (FINISHED, "gone") or "trained again" in caplog.text
    save_finished(tmp_path, weights, {"steps": 3})
    assert load_finished(tmp_path) is not None
