"""After a power cut an artifact is absent or whole, a checkpoint is found or dropped, and the state
of a run is the old one or the new one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.campaign import SEED, drawn
from faults.power import Disk

from interp_by_construction.engine import store as store_module
from interp_by_construction.engine.disk import write_json
from interp_by_construction.engine.store import Recipe, Store, scratch_beside
from interp_by_construction.errors import CorruptArtifact
from interp_by_construction.training.checkpoints import Checkpoints, load_finished, save_finished

RECIPE = Recipe("stage", 1, {"a": 1}, {}, {})
WEIGHTS = {"w": torch.arange(3.0)}


def _stage(out: Path) -> dict[str, Any]:
    """Keeps a checkpoint and a finished phase, as training does."""
    phase = scratch_beside(out) / "train"
    phase.mkdir(exist_ok=True)
    if load_finished(phase) is None:
        checkpoints = Checkpoints(phase)
        for step in (1, 2, 3):
            checkpoints.save(step, lambda path, step=step: path.write_bytes(b"%d" % step * 9))
        save_finished(phase, WEIGHTS, {"steps": 3})
        checkpoints.remove()
    (out / "model").mkdir()
    (out / "model" / "weights").write_bytes(b"weights")
    (out / "table").write_text("1\n")
    return {"n": 2}


def _files(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "manifest.json"
    }


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], Any]], Disk]:
    """Does something in a folder while its disk is watched."""

    def watch(work: Callable[[Path], Any]) -> Disk:
        folder = tmp_path_factory.mktemp("watched")
        disk = Disk(folder)
        with disk.watched(pytest.MonkeyPatch()):
            work(folder)
        return disk

    return watch


def test_an_artifact_is_absent_or_whole(
    cut: Callable[[Callable[[Path], Any]], Disk], tmp_path: Path
) -> None:
    disk = cut(lambda folder: Store(folder).build(RECIPE, _stage))
    reference = _files(Store(disk.folder).path("stage", RECIPE.fingerprint))
    n_whole = 0
    for number in drawn(range(200), 20):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk.after_a_cut(random.Random(f"{SEED} {number}"), folder)
        store = Store(folder)
        if store.get("stage", RECIPE.fingerprint) is not None:
            assert store.verify("stage", RECIPE.fingerprint) == [], number
            n_whole += 1
        store.build(RECIPE, _stage)
        assert store.verify("stage", RECIPE.fingerprint) == [], number
        assert _files(store.path("stage", RECIPE.fingerprint)) == reference, number
    print(f"the artifact was there after {n_whole} cuts")  # noqa: T201


def test_a_store_that_does_not_flush_is_found(
    cut: Callable[[Callable[[Path], Any]], Disk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the test above would pass on anything."""
    monkeypatch.setattr(store_module, "flush", lambda path: None)
    disk = cut(lambda folder: Store(folder).build(RECIPE, _stage))
    broken = 0
    for number in range(60):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk.after_a_cut(random.Random(number), folder)
        try:
            there = Store(folder).get("stage", RECIPE.fingerprint) is not None
            broken += there and Store(folder).verify("stage", RECIPE.fingerprint) != []
        except CorruptArtifact:
            broken += 1
    assert broken


def test_a_checkpoint_is_intact_or_dropped_and_never_older_than_the_last_but_one(
    cut: Callable[[Callable[[Path], Any]], Disk], tmp_path: Path
) -> None:
    def save(folder: Path) -> None:
        checkpoints = Checkpoints(folder)
        for step in range(1, 6):
            checkpoints.save(step, lambda path, step=step: path.write_bytes(b"%d" % step * 99))
            (folder / "saved").write_text(str(step))

    disk = cut(save)
    for number in drawn(range(100), 10):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk.after_a_cut(random.Random(f"{SEED} {number}"), folder)
        newest = Checkpoints(folder).newest()
        if newest is not None:
            step = int(newest.name.partition("-")[0])
            assert newest.read_bytes() == b"%d" % step * 99
        saved = folder / "saved"
        if saved.is_file() and (text := saved.read_text()):
            assert newest is not None and step >= int(text), number


def test_a_state_is_the_old_one_or_the_new_one(
    cut: Callable[[Callable[[Path], Any]], Disk], tmp_path: Path
) -> None:
    def write(folder: Path) -> None:
        for step in range(5):
            write_json(folder / "state.json", {"step": step, "text": "x" * 200})

    disk = cut(write)
    for number in drawn(range(100), 10):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk.after_a_cut(random.Random(f"{SEED} {number}"), folder)
        file = folder / "state.json"
        assert not file.exists() or json.loads(file.read_text())["step"] in range(5), number
