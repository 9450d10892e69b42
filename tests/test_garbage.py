"""Laws of `ibc gc`: what a run needs stays, all else goes, nothing goes while somebody works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock
from test_cli import Here, here  # noqa: F401  a fixture

from interp_by_construction.cli import main
from interp_by_construction.engine.garbage import garbage, remove
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Artifact, Recipe, Store, scratch_beside
from interp_by_construction.errors import StoreError


def _artifact(root: Path, stage: str, **parents: Artifact) -> Artifact:
    recipe = Recipe(
        stage, 1, {"of": stage}, {role: each.fingerprint for role, each in parents.items()}, {}
    )

    def compute(out: Path) -> dict[str, int]:
        (out / "data").write_text("x" * 100)
        return {}

    return Store(root / "store").build(recipe, compute)


def _run(root: Path, name: str, *artifacts: Artifact) -> RunDirectory:
    """A run that consists of these."""
    run = RunDirectory(root / "runs" / name)
    run.path.mkdir(parents=True)
    links = {each.stage: [each.stage, each.fingerprint] for each in artifacts}
    run.write_plan({"shared": {}, "layers": {"1": links}})
    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run and a job of a sweep share a corpus, which only their artifacts name; two artifacts and
    several leftovers belong to nobody."""
    corpus = _artifact(tmp_path, "corpus")
    aligned = _artifact(tmp_path, "align", corpus=corpus)
    _run(tmp_path, "one", aligned)
    # A report has made it.
    _artifact(tmp_path, "viewer", corpus=corpus, model=aligned)
    _run(tmp_path, "sweep/0", _artifact(tmp_path, "label", corpus=corpus))
    old = _artifact(tmp_path, "encode", corpus=corpus)
    _artifact(tmp_path, "losses", encoded=old)
    for left in (f"{old.fingerprint}.scratch", f"{'a' * 32}.partial", f"{'b' * 32}.incomplete-0"):
        (old.path.parent / f".{left}").mkdir()
    return tmp_path


def test_what_no_run_needs_is_listed_and_removed_and_nothing_else(root: Path) -> None:
    found = garbage(root)
    assert {each.path.parent.name for each in found} == {"encode", "losses"} and len(found) == 5
    before = {path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert remove(root, found) == found and garbage(root) == []
    after = {path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert {path.parent for path in before - after} == {each.path for each in found[:2]}
    for stage in ("corpus", "align", "label", "viewer"):
        (fingerprint,) = (p.name for p in (root / "store" / stage).iterdir() if p.name[0] != ".")
        assert Store(root / "store").verify(stage, fingerprint) == []


def test_what_a_run_is_going_to_compute_keeps_its_checkpoints(root: Path) -> None:
    recipe = Recipe("continue", 1, {}, {}, {})
    planned = Artifact("continue", recipe.fingerprint, root)
    _run(root, "begun", planned)
    partial = root / "store" / "continue" / f".{recipe.fingerprint}.partial"
    for folder in (partial, scratch_beside(partial)):
        folder.mkdir(parents=True)
    assert not [each for each in garbage(root) if each.path.parent.name == "continue"]


def test_nothing_goes_while_a_run_works_or_an_artifact_is_made(root: Path) -> None:
    found = garbage(root)
    with (
        RunDirectory(root / "runs" / "one").lock(),
        pytest.raises(StoreError, match="run one is in use"),
    ):
        remove(root, found)
    # Nothing else has its fingerprint, and with it its lock.
    (busy,) = (each for each in found if each.path.parent.name == "losses")
    with FileLock(busy.path.with_name(f".{busy.fingerprint}.lock")):
        assert busy not in remove(root, found)
    assert busy.path.is_dir() and [each.path for each in garbage(root)] == [busy.path]


def test_an_interrupted_removal_is_finished(root: Path) -> None:
    first = garbage(root)[0]
    first.path.rename(first.path.with_name(f".removed-{first.path.name}"))
    found = garbage(root)
    assert "its removal was interrupted" in {each.why for each in found}
    assert remove(root, found) == found and garbage(root) == []


def test_a_run_that_cannot_be_read_stops_it(
    root: Path,
    here: Here,  # noqa: F811
) -> None:
    state = root / "runs" / "one" / "state.json"
    state.write_text(state.read_text()[:-9])
    assert "state.json is damaged" in here.refused("gc", "delete=true")
    old = {"start_layer": 1, "planned": [1], "done": [1], "running": None, "layers": {}}
    state.write_text(json.dumps({**old, "shared": {"corpus": "x"}}))
    assert "it has no plan" in here.refused("gc", "delete=true")
    assert (root / "store" / "losses").is_dir()


def test_the_command_says_what_it_does(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    main(["gc"])
    assert "5 folders" in (said := capsys.readouterr().out) and "no run links to it" in said
    assert len(garbage(root)) == 5
    main(["gc", "delete=true"])
    assert "5 folders removed" in capsys.readouterr().out
    main(["gc"])
    assert "belongs to a run" in capsys.readouterr().out
