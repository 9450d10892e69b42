"""The loop and its invariants, from the outside, with a fake labeler behind the real HTTP
interface."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from fake_server import FakeServer, fake_text
from own_process import FORKS, run_alone
from pytorch_lightning import Trainer
from safetensors.torch import load_file, save_file
from small_run import config, overrides, store_hashes
from stock import Stock

from interp_by_construction import pipeline
from interp_by_construction.cli import main
from interp_by_construction.config import compose
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.run_files import SCHEMA
from interp_by_construction.engine.seal import seal
from interp_by_construction.engine.store import Artifact, Store
from interp_by_construction.errors import ConfigError, StoreError
from interp_by_construction.export.run import export_run
from interp_by_construction.results.verification import notes, verify
from interp_by_construction.schedules.layers import layers_after
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture(scope="module")
def finished(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunDirectory]:
    root = tmp_path_factory.mktemp("finished")
    return root, stock.plain(root)


def test_summary_keeps_the_contract(finished: tuple[Path, RunDirectory]) -> None:
    summary = finished[1].summary
    assert summary is not None
    assert summary["schema"] == SCHEMA and summary["complete"] is True
    assert set(summary["subject"]) >= {"name", "n_layers", "d_mlp", "n_params"}
    assert set(summary["loss"]) >= {
        "original",
        "control",
        "freeze_only",
        "final",
        "tax",
        "tax_ci95",
    }
    assert summary["loss"]["tax"] == summary["loss"]["final"] - summary["loss"]["control"]
    for difference, other in (
        ("tax", "control"),
        ("over_original", "original"),
        ("over_freeze_only", "freeze_only"),
    ):
        low, high = summary["loss"][f"{difference}_ci95"]
        assert (
            low
            <= summary["loss"][difference]
            == summary["loss"]["final"] - summary["loss"][other]
            <= high
        )
    # The tax stands beside the work whether or not the MLPs were removed; each turn adds its part.
    taxes = [layer["work"]["tax"] for layer in summary["layers"]]
    assert summary["work"]["removed"] is None and summary["work"]["tax"] == summary["loss"]["tax"]
    assert sum(taxes) == pytest.approx(summary["loss"]["tax"])
    assert summary["invariants"] == {"frozen_identical": True, "splits_disjoint": True}
    assert [layer["layer"] for layer in summary["layers"]] == [1, 2]
    for layer in summary["layers"]:
        assert layer["n_aligned"] + layer["n_free"] == layer["n_nodes"] == 32
        assert layer["score"]["second"] is None
        for name, score in layer["score"].items():
            assert name == "second" or score["n"] + score["n_undefined"] == layer["n_aligned"]


def test_without_a_head_the_labeler_itself_scores_candidates_and_revises_nothing(
    finished: tuple[Path, RunDirectory],
) -> None:
    for layer in (finished[1].summary or {})["layers"]:
        labelling = layer["labelling"]
        assert (
            labelling["selection"]["simulator"] == "exact-contrast"
            and labelling["revisions"]["n_rounds"] == 0
        )
        assert (
            0 < labelling["selection"]["n_tokens"] <= 128
            and labelling["selection"]["n_candidates"] >= 4
        )
        assert (
            labelling["selection"]["n"] + labelling["selection"]["n_undefined"]
            == layer["n_aligned"]
        )
        assert (
            labelling["selection"]["r_revised"]
            == labelling["selection"]["r_chosen"]
            >= labelling["selection"]["r_first"]
        )


def test_nodes_table_has_every_node(finished: tuple[Path, RunDirectory]) -> None:
    rows = pq.read_table(finished[1].path / "nodes.parquet").to_pylist()
    assert len(rows) == 64
    aligned = [row for row in rows if row["status"] == "aligned"]
    assert all(row["label"] and row["pole"] in (1, -1) for row in aligned)
    assert all(
        row["label"] is None and row["score_final"] is None
        for row in rows
        if row["status"] == "free"
    )
    for layer in (1, 2):
        labels = [row["label"] for row in aligned if row["layer"] == layer]
        assert len(labels) == len(set(labels)) == 4


def test_the_log_has_each_stage_once_with_its_estimate(
    finished: tuple[Path, RunDirectory],
) -> None:
    run = finished[1]
    log, n = run.log.read_text(), len(run.artifacts)
    assert f"small: {n} stages, {n} to do, about " in log.splitlines()[0]
    took = re.findall(r"^\S+ \S+ (.+) took [\d.]+ s \(estimated [\d.]+ s\)$", log, re.M)
    assert len(took) == n + 1 and took[-1] == "all stages", took
    assert len(set(took)) == len(took) and {"corpus", "layer 2 losses_control"} <= set(took)
    assert "`Trainer.fit` stopped" in log, "Lightning's chatter"


def test_a_finished_run_asks_and_computes_nothing(
    server: FakeServer,
    finished: tuple[Path, RunDirectory],
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, run = finished
    n_requests, before = len(server.requests), store_hashes(root)
    times = {file: file.stat().st_mtime_ns for file in (root / "store").rglob("*.safetensors")}
    summary = run.summary
    again = pipeline.run(config(server, root))
    assert again.summary == summary
    shown = f"small: all {len(run.artifacts)} stages were done before\n"
    assert capsys.readouterr() == ("", shown)
    assert len(server.requests) == n_requests
    assert store_hashes(root) == before
    assert {
        file: file.stat().st_mtime_ns for file in (root / "store").rglob("*.safetensors")
    } == times


def test_a_finished_run_starts_no_engine_and_no_training(
    server: FakeServer, finished: tuple[Path, RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the package and of its tests has imported vLLM either."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(Trainer, "fit", refused)
    pipeline.run(config(server, finished[0]))
    assert not [name for name in sys.modules if name.partition(".")[0] == "vllm"]


def test_a_run_of_several_versions_or_machines_says_so_and_still_verifies(
    server: FakeServer,
    finished: tuple[Path, RunDirectory],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, run = finished
    assert notes(run, Store(root / "store")) == []

    def mixed(artifact: Artifact) -> dict[str, str]:
        return {"torch": "1" if artifact.stage == "align" else "2", "device": "cpu"}

    monkeypatch.setattr(Artifact, "made_with", property(mixed))
    pipeline.run(config(server, root))
    said = [each.getMessage() for each in caplog.records if "mixes" in each.getMessage()]
    assert len(said) == 1 and "different torch: 2" in said[0] and "device" not in said[0]
    main(["verify", run.name, f"paths.root={root}"])
    out = capsys.readouterr().out
    assert "note    made with torch 1: align/" in out and "ok      small" in out


def test_verify_passes_and_names_any_flipped_byte(finished: tuple[Path, RunDirectory]) -> None:
    root, run = finished
    store = Store(root / "store")
    assert verify(run, store) == []
    for stage, fingerprint in run.artifacts:
        for file in [f for f in store.path(stage, fingerprint).rglob("*") if f.is_file()]:
            content = file.read_bytes()
            if not content:
                continue
            middle = len(content) // 2
            file.write_bytes(
                content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            )
            problems = store.verify(stage, fingerprint)
            file.write_bytes(content)
            assert any(str(file) in problem for problem in problems), file


def test_verify_finds_a_broken_freeze_even_with_honest_hashes(
    finished: tuple[Path, RunDirectory], tmp_path: Path
) -> None:
    """A stage that moves a frozen weight and hashes the result correctly: only the invariant can
    tell."""
    root, run = finished
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    state = run.state
    store = Store(copy / "store")
    last = store.path("continue", state["layers"]["2"]["continue"])
    weights = load_file(last / "model" / "model.safetensors")
    weights["transformer.h.0.mlp.c_fc.weight"][0, 0] += 1e-3
    save_file(weights, last / "model" / "model.safetensors", metadata={"format": "pt"})
    manifest = json.loads((last / "manifest.json").read_text())
    _rehash(last, manifest)
    problems = verify(RunDirectory(copy / "runs" / "small"), store)
    assert any("layer 1 is not as it was frozen" in problem for problem in problems)


def test_an_artifact_that_was_deleted_is_made_again_and_the_run_verifies(
    server: FakeServer, stock: Stock, tmp_path: Path
) -> None:
    """It took other seconds. The seal is of what it holds."""
    run = stock.plain(tmp_path)
    damaged = run.store.path("losses", run.state["shared"]["losses"])
    shutil.rmtree(damaged)
    again = pipeline.run(config(server, tmp_path))
    assert damaged.is_dir() and verify(again, Store(tmp_path / "store")) == []


def _rehash(path: Path, manifest: dict[str, object]) -> None:
    import hashlib

    from interp_by_construction.engine.disk import canonical_json, sha256_file, write_json

    files = manifest["files"]
    assert isinstance(files, dict)
    for name in files:
        files[name] = {"sha256": sha256_file(path / name), "bytes": (path / name).stat().st_size}
    manifest.pop("checksum")
    write_json(
        path / "manifest.json",
        {**manifest, "checksum": hashlib.sha256(canonical_json(manifest)).hexdigest()},
    )


@pytest.mark.parametrize(
    "command",
    [
        ["status", "small"],
        ["verify", "small"],
        ["report", "small"],
        ["export", "small", "at=final", "output=exported"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema": 0}, f"schema=0, but this version reads schema {SCHEMA}"),
        ({"schema": 9}, f"schema=9, but this version reads schema {SCHEMA}"),
        ({"loss": {"tax": 0.0}}, "lacks loss.original, loss.control"),
    ],
    ids=["older", "newer", "without"],
)
def test_no_command_reads_a_summary_of_another_schema(
    finished: tuple[Path, RunDirectory],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    change: dict[str, Any],
    named: str,
) -> None:
    """Nor stumbles over it: exit code 2, the file and the fix."""
    file = _other_schema(finished, tmp_path, change)
    with pytest.raises(SystemExit) as exit_:
        main([*command, f"paths.root={tmp_path}"])
    error = capsys.readouterr().err
    assert (
        exit_.value.code == 2
        and str(file) in error
        and named in error
        and "give a new run=NAME, or another paths.root" in error
    )


def test_a_run_of_another_schema_is_left_as_it_is(
    server: FakeServer, finished: tuple[Path, RunDirectory], tmp_path: Path
) -> None:
    _other_schema(finished, tmp_path, {"schema": 0})
    run = RunDirectory(tmp_path / "runs" / "small")
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match=r"schema=0(.|\n)*a new run=NAME"):
        pipeline.run(config(server, tmp_path))
    assert run.standing == "incomplete" and not (tmp_path / "store").exists()
    assert before == {file: file.read_bytes() for file in before}


def test_verify_names_every_value_that_its_artifacts_do_not_say(
    finished: tuple[Path, RunDirectory], tmp_path: Path
) -> None:
    """Wherever it stands in the summary, the table of nodes or the links."""
    store = Store(finished[0] / "store")
    file = _other_schema(finished, tmp_path, {})
    run, summary = RunDirectory(file.parent), json.loads(file.read_text())
    seal(run)
    sealed = file.read_text()
    assert verify(run, store) == []
    summary["layers"][1]["labelling"]["n_labels"] += 1
    summary["layers"][0]["work"]["tax"] = None
    summary["stages"]["corpus"]["extra"] = 3
    file.write_text(json.dumps(summary))
    changed, *found = verify(run, store)
    assert changed == f"{file}: differs from what was written"
    lines = "\n".join(found)
    assert "layers[1].labelling.n_labels is 5, its artifacts say 4" in lines
    assert "layers[0].work.tax is null, its artifacts say" in lines
    assert "stages.corpus.extra is 3, its artifacts say nothing of it" in lines
    assert len(lines.splitlines()) == 3
    file.write_text(sealed)
    table = pq.read_table(run.path / "nodes.parquet")
    rows = table.to_pylist()
    rows[3]["label"] = "another"
    pq.write_table(table.from_pylist(rows, schema=table.schema), run.path / "nodes.parquet")
    changed, line = verify(run, store)
    assert changed == f"{run.path / 'nodes.parquet'}: differs from what was written"
    assert 'nodes.parquet: layer 1 node 3.label is "another", its artifacts say' in line
    shutil.copy(finished[1].path / "nodes.parquet", run.path)
    plan: dict[str, Any] = {"shared": {}, "layers": {"1": {}, "2": {}}}
    for link in run.plan:
        group = plan["shared"] if link.layer is None else plan["layers"][str(link.layer)]
        group[link.name] = [link.stage, link.fingerprint]
    assert verify(run, store, plan) == []
    plan["layers"]["2"]["align"] = ["align", "0" * 32]
    (line,) = verify(run, store, plan)
    assert "state.json: layers.2.align is" in line and "the plan says" in line


def _other_schema(finished: tuple[Path, RunDirectory], root: Path, change: dict[str, Any]) -> Path:
    """A copy of the run below `root`, its summary changed; returns the summary's file."""
    shutil.copytree(
        finished[1].path, root / "runs" / "small", ignore=shutil.ignore_patterns(".lock")
    )
    file = root / "runs" / "small" / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    return file


def test_a_damaged_summary_is_a_problem_that_verify_lists(
    finished: tuple[Path, RunDirectory], tmp_path: Path
) -> None:
    file = _other_schema(finished, tmp_path, {})
    file.write_text(file.read_text()[:-5])
    assert (
        f"{file} is damaged" in verify(RunDirectory(file.parent), Store(finished[0] / "store"))[0]
    )


@pytest.mark.parametrize("at", ["before", "after", "final"])
def test_export_loads_in_plain_transformers_with_the_same_logits(
    finished: tuple[Path, RunDirectory], tmp_path: Path, at: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    root, run = finished
    store = Store(root / "store")
    export_run(run, store, at, "1", tmp_path / at)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / at).eval()
    ids = AutoTokenizer.from_pretrained(tmp_path / at)(
        "Lily had a red ball .", return_tensors="pt"
    ).input_ids
    layers = run.state["layers"]
    source = {
        "before": store.path("subject", run.state["shared"]["subject"]),
        "after": store.path("align", layers["1"]["align"]),
        "final": store.path("continue", layers["2"]["continue"]),
    }[at]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, load_subject(source / "model")(ids).logits)
    assert (tmp_path / at / "nodes.parquet").is_file() and (tmp_path / at / "README.md").is_file()


def test_aligned_activations_are_bit_identical_from_freeze_to_final(
    finished: tuple[Path, RunDirectory], tmp_path: Path
) -> None:
    root, run = finished
    store = Store(root / "store")
    for at in ("after", "final"):
        export_run(run, store, at, "1", tmp_path / at)
    rows = pq.read_table(run.path / "nodes.parquet").to_pylist()
    nodes = [row["node"] for row in rows if row["layer"] == 1 and row["status"] == "aligned"]
    free = [row["node"] for row in rows if row["layer"] == 1 and row["status"] == "free"]
    ids = torch.randint(0, 500, (3, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        after, final = (
            activations(load_subject(tmp_path / at), 1, ids) for at in ("after", "final")
        )
    assert torch.equal(after[..., nodes], final[..., nodes])
    assert not torch.equal(after[..., free], final[..., free])


def test_a_run_grows_layer_by_layer_to_the_same_hashes(
    server: FakeServer, finished: tuple[Path, RunDirectory], tmp_path: Path
) -> None:
    _seed_store(finished, tmp_path, "align", 0)
    first = pipeline.run(config(server, tmp_path, "layer=1"))
    assert [layer["layer"] for layer in (first.summary or {})["layers"]] == [1]
    with pytest.raises(ConfigError, match=r"layers \[2\].*layer=\[2,3\]"):
        pipeline.run(config(server, tmp_path, "layer=3"))
    with pytest.raises(ConfigError, match="layer=0"):
        pipeline.run(config(server, tmp_path, "layer=0"))
    grown = pipeline.run(config(server, tmp_path, "layer=2"))
    assert grown.state["layers"]["2"] == finished[1].state["layers"]["2"]
    whole, parts = store_hashes(finished[0]), store_hashes(tmp_path)
    assert {name: digest for name, digest in parts.items() if name in whole} == whole


def test_jobs_that_differ_in_weight_share_labels_simulations_and_controls(
    server: FakeServer, tmp_path: Path, stock: Stock
) -> None:
    for job, weight in enumerate((0.1, 10)):
        own = ("run=sweep", f"align.weight={weight}", "work.enabled=false")
        cfg = config(server, tmp_path, "layer=1", *own)
        pipeline.run(stock.begin(cfg), f"sweep/{job}")
    store = tmp_path / "store"
    count = {
        stage.name: sum(not p.name.startswith(".") for p in stage.iterdir())
        for stage in store.iterdir()
        if stage.is_dir()
    }
    assert (
        count["collect"]
        == count["label"]
        == count["simulate"]
        == count["control"]
        == count["freeze_only"]
        == 1
    )
    assert count["align"] == count["continue"] == count["evaluate"] == 2


def test_another_config_under_the_same_name_is_refused_with_the_differing_fields(
    server: FakeServer, finished: tuple[Path, RunDirectory]
) -> None:
    with pytest.raises(ConfigError, match=r"align.weight: 0.3 -> 0.7"):
        pipeline.run(config(server, finished[0], "align.weight=0.7"))


def test_a_run_of_another_version_is_refused_and_nothing_of_it_is_changed(
    server: FakeServer,
    finished: tuple[Path, RunDirectory],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary = _other_schema(finished, tmp_path, {})
    run, before = RunDirectory(summary.parent), summary.read_bytes()
    saved = yaml.safe_load((run.path / "config.yaml").read_text())
    del saved["align"]["start"]
    (run.path / "config.yaml").write_text(yaml.safe_dump(saved))
    with pytest.raises(ConfigError, match=r"align\.start.*version 0.* wrote it.*run=NAME.*paths"):
        pipeline.run(config(server, tmp_path))
    with pytest.raises(SystemExit, match="2"):
        main(["verify", run.name, f"paths.root={tmp_path}"])
    assert "missing field align.start" in capsys.readouterr().err
    assert summary.read_bytes() == before and not (tmp_path / "store").exists()


def test_two_processes_on_one_run_are_refused(
    server: FakeServer, finished: tuple[Path, RunDirectory]
) -> None:
    with finished[1].lock(), pytest.raises(StoreError, match="in use"):
        pipeline.run(config(server, finished[0]))


def test_a_node_without_a_label_becomes_free_and_is_counted(tmp_path: Path, stock: Stock) -> None:
    """Invariant 3: an answer that cannot be parsed is never a label, a zero or a silent drop."""
    refused: set[str] = set()

    def text_of(prompt: str, seed: int, temperature: float) -> str:
        query = prompt.splitlines()[-1].split("|")[0]
        if not refused:
            refused.add(query)
        return "!!!" if query in refused else fake_text(prompt, seed, temperature)

    with FakeServer() as broken:
        broken.text_of = text_of
        run = pipeline.run(stock.begin(config(broken, tmp_path, "layer=1")))
    layer = (run.summary or {})["layers"][0]
    assert layer["n_failed_labels"] >= 1
    assert layer["n_aligned"] + layer["n_failed_labels"] == 4
    assert (
        layer["score"]["final"]["n"] + layer["score"]["final"]["n_undefined"] == layer["n_aligned"]
    )
    failed = [
        row
        for row in pq.read_table(run.path / "nodes.parquet").to_pylist()
        if row["status"] == "failed"
    ]
    assert len(failed) == layer["n_failed_labels"]
    assert all(row["label"] is None and row["score_final"] is None for row in failed)


def test_simulations_do_not_depend_on_the_subject(
    server: FakeServer, finished: tuple[Path, RunDirectory], tmp_path: Path
) -> None:
    """Invariant 5: with the same labels, another subject gives the same targets."""
    from stage_jobs import compute, given

    from interp_by_construction.stages.simulate import Simulate

    root, run = finished
    cfg = config(server, root)
    store, state = Store(root / "store"), run.state
    assert set(
        json.loads(
            (store.path("simulate", state["layers"]["1"]["simulate"]) / "manifest.json").read_text()
        )["parents"]
    ) == {
        "corpus",
        "encoded",
        "labels",
    }
    corpus, encoded = (
        given(store.path(stage, state["shared"][stage])) for stage in ("corpus", "encode")
    )
    labels = given(store.path("label", state["layers"]["1"]["label"]))
    compute(Simulate.of(cfg, corpus, encoded, labels, 1), tmp_path)
    old, new = (
        load_file(store.path("simulate", state["layers"]["1"]["simulate"]) / "targets.safetensors"),
        load_file(tmp_path / "targets.safetensors"),
    )
    assert all(torch.equal(old[name], new[name]) for name in old)


@pytest.fixture(scope="module")
def joint(
    server: FakeServer, stock: Stock, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunDirectory]:
    root = tmp_path_factory.mktemp("joint")
    return root, pipeline.run(stock.begin(config(server, root, "schedule=joint")))


def kill_within(stage: str, root: Path, arguments: list[str]) -> None:
    """Starts `ibc run` in a process of its own, and kills it while `stage` is at work."""
    process = FORKS.Process(target=run_alone, args=(arguments,))
    process.start()
    deadline = time.monotonic() + 120
    partial, began = root / "store" / stage, False
    while process.is_alive() and time.monotonic() < deadline and not began:
        time.sleep(0.005)
        began = partial.is_dir() and any(p.name.endswith(".partial") for p in partial.iterdir())
    assert began and process.pid is not None, f"{stage} did not begin"
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whole", "stages"),
    [
        (
            "finished",
            ["subject", "encode", "simulate", "align", "continue", "control", "evaluate"],
        ),
        ("joint", ["align", "continue"]),
    ],
    ids=["sequential", "joint"],
)
def test_killed_and_started_again_ends_in_the_same_hashes(
    server: FakeServer,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    whole: str,
    stages: list[str],
) -> None:
    """SIGKILL while a stage is at work. The next call goes on, and is killed within the next stage.
    The last call finishes with the weights of a run that was never killed."""
    finished: tuple[Path, RunDirectory] = request.getfixturevalue(whole)
    more = [] if whole == "finished" else [f"schedule={whole}"]
    arguments = [*overrides(server, tmp_path, *more), "trainer.checkpoint_seconds=0"]
    if stages[0] != "subject":
        _seed_store(finished, tmp_path, stages[0], -1)
    for stage in stages:
        kill_within(stage, tmp_path, arguments)
        assert not (tmp_path / "runs" / "small" / "summary.json").is_file()
    pipeline.run(config(server, tmp_path, *more))
    assert store_hashes(tmp_path) == store_hashes(finished[0])
    assert RunDirectory(tmp_path / "runs" / "small").state["layers"] == finished[1].state["layers"]


def _seed_store(finished: tuple[Path, RunDirectory], root: Path, stage: str, which: int) -> None:
    """All of the run but one of its artifacts of this stage and what depends on that."""
    run = finished[1]
    store, made = run.store, {link.fingerprint: link.stage for link in run.links}
    parents = {
        each: json.loads((store.path(name, each) / "manifest.json").read_text())["parents"]
        for each, name in made.items()
    }
    left = {[link.fingerprint for link in run.links if link.stage == stage][which]}
    while more := {each for each in made if left & set(parents[each].values())} - left:
        left |= more
    for each in made.keys() - left:
        shutil.copytree(store.path(made[each], each), root / "store" / made[each] / each)


def test_run_name_and_start_layer(server: FakeServer, tmp_path: Path) -> None:
    assert compose([]).run_name == "default"
    assert compose(["experiment=demo"]).run_name == "demo"
    assert compose(["experiment=demo", "run=mine"]).run_name == "mine"
    assert layers_after(compose(["layer=3"]), None, [], 4) == [3]
    assert layers_after(compose(["layer=all", "start_layer=2"]), None, [], 4) == [2, 3]
    assert layers_after(compose(["layer=all"]), 1, [1], 4) == [1, 2, 3]
    with pytest.raises(ConfigError, match="start_layer=2"):
        layers_after(compose(["layer=3", "start_layer=2"]), 1, [1, 2], 4)
    with pytest.raises(ConfigError, match="0 to 3"):
        layers_after(compose(["layer=4"]), None, [], 4)
