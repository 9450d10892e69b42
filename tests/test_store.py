"""Invariant 4: an artifact exists if and only if it is complete."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from interp_by_construction.engine.disk import disk_errors
from interp_by_construction.engine.store import MANIFEST, Recipe, Store, scratch_beside
from interp_by_construction.errors import CorruptArtifact, StoreError


def recipe(**config: Any) -> Recipe:
    return Recipe("stage", 1, config, {"parent": "0" * 32}, {"data": "x"})


def compute(out: Path) -> dict[str, Any]:
    (out / "sub").mkdir(exist_ok=True)
    (out / "sub" / "data.bin").write_bytes(b"0123456789")
    return {"n": 10}


def test_built_once_and_found_again(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []
    for _ in range(2):
        artifact = store.build(recipe(a=1), lambda out: calls.append(out) or compute(out))
        assert artifact.metrics == {"n": 10}
    assert len(calls) == 1
    assert store.verify("stage", artifact.fingerprint) == []


def test_a_failed_stage_leaves_no_artifact_but_its_scratch(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def dies(out: Path) -> dict[str, Any]:
        (out / "leftover").write_text("x")
        (scratch_beside(out) / "last.ckpt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        store.build(recipe(a=1), dies)
    assert store.get("stage", recipe(a=1).fingerprint) is None

    def resumes(out: Path) -> dict[str, Any]:
        assert (scratch_beside(out) / "last.ckpt").read_text() == "half"
        return compute(out)

    artifact = store.build(recipe(a=1), resumes)
    assert set(artifact.manifest["files"]) == {"metrics.json", "sub/data.bin"}
    assert [path.name for path in artifact.path.parent.iterdir() if path.is_dir()] == [
        artifact.fingerprint
    ]


def test_fingerprint_depends_on_everything_and_on_no_order() -> None:
    base = recipe(a=1, b=2)
    assert base.fingerprint == recipe(b=2, a=1).fingerprint
    others = [
        recipe(a=1, b=3),
        Recipe("other", 1, base.config, base.parents, base.identity),
        Recipe("stage", 2, base.config, base.parents, base.identity),
        Recipe("stage", 1, base.config, {"parent": "1" * 32}, base.identity),
        Recipe("stage", 1, base.config, base.parents, {"data": "y"}),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = store.build(recipe(a=1), compute)
    for file in [f for f in artifact.path.rglob("*") if f.is_file()]:
        content = file.read_bytes()
        for position in range(len(content)):
            file.write_bytes(
                content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
            )
            problems = store.verify("stage", artifact.fingerprint)
            assert problems, f"byte {position} of {file.name}"
            assert any(file.name in problem for problem in problems)
        file.write_bytes(content)
    assert store.verify("stage", artifact.fingerprint) == []


def test_missing_extra_and_truncated_files_are_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = store.build(recipe(a=1), compute)
    (artifact.path / "extra").write_text("")
    assert any("extra" in problem for problem in store.verify("stage", artifact.fingerprint))
    (artifact.path / "extra").unlink()
    (artifact.path / "sub" / "data.bin").write_bytes(b"01234")
    with pytest.raises(CorruptArtifact, match=r"data.bin"):
        store.get("stage", artifact.fingerprint)


def test_a_copied_artifact_of_another_recipe_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = store.build(recipe(a=1), compute)
    artifact.path.rename(store.path("stage", "f" * 32))
    assert any(MANIFEST in problem for problem in store.verify("stage", "f" * 32))


def test_manifest_holds_no_path(tmp_path: Path) -> None:
    artifact = Store(tmp_path).build(recipe(a=1), compute)
    assert str(tmp_path) not in json.dumps(artifact.manifest)


def test_cpu_seconds_are_those_worked_and_add_up_over_kills(tmp_path: Path) -> None:
    """Waiting is no work; work before a kill counts."""
    store = Store(tmp_path)

    def works(out: Path) -> dict[str, Any]:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        return compute(out)

    def dies(out: Path) -> dict[str, Any]:
        raise RuntimeError(works(out))

    with pytest.raises(RuntimeError):
        store.build(recipe(a=1), dies)
    made = store.build(recipe(a=1), works)
    waited = store.build(recipe(a=2), lambda out: time.sleep(0.2) or compute(out))  # type: ignore[func-returns-value]
    assert made.cpu_seconds is not None and made.cpu_seconds >= 0.2 and made.seconds >= 0.2
    assert waited.cpu_seconds is not None and waited.cpu_seconds < 0.15 and waited.seconds >= 0.2
    assert store.verify("stage", made.fingerprint) == []


def test_what_an_older_version_began_has_no_cpu_seconds(tmp_path: Path) -> None:
    """Of unknown work nothing is made up; the manifest is as whole as any."""
    store, begun = Store(tmp_path), recipe(a=1)
    scratch = scratch_beside(tmp_path / "stage" / f".{begun.fingerprint}.partial")
    scratch.mkdir(parents=True)
    (scratch / "seconds.json").write_text('{"seconds": 7.0}')
    made = store.build(begun, compute)
    assert made.cpu_seconds is None and made.device is None and made.seconds >= 7.0
    assert "cpu_seconds" not in made.manifest and store.verify("stage", made.fingerprint) == []


@pytest.mark.parametrize("number", [28, 30, 13])
def test_disk_problems_are_errors_that_say_what_to_do(number: int) -> None:
    with pytest.raises(StoreError, match=r"space|paths.root"), disk_errors(Path("x")):
        raise OSError(number, "no")
