"""Laws of the two schedules: the phases, the freezes, matched compute, and whole runs beside each
other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_server import FakeServer
from small_run import QUICK, config, run_hashes
from stage_jobs import compute, given
from stock import Stock
from tiny_subjects import random_model
from training_jobs import (
    NODES,
    aligned,
    comparison,
    configured,
    plan,
    run,
    setting,
    write_corpus,
    write_inputs,
)

from interp_by_construction import pipeline
from interp_by_construction.config import compose
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError
from interp_by_construction.export.run import export_run
from interp_by_construction.report import curves
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.report.run_tables import show_tables
from interp_by_construction.report.terminal import show_status
from interp_by_construction.results.verification import verify
from interp_by_construction.stages import freeze
from interp_by_construction.stages.align import Align
from interp_by_construction.stages.control import Control
from interp_by_construction.stages.freeze_only import FreezeOnly
from interp_by_construction.stages.removed import Removed
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject
from interp_by_construction.training.batches import Stream, batch_indices
from interp_by_construction.training.losses import correlation_loss, lm_loss
from interp_by_construction.training.modules import AlignmentModule
from interp_by_construction.training.phases import Phase, Reading, segments

SCHEDULES = ["sequential", "joint"]


class Killed(Exception):
    pass


@pytest.mark.parametrize("n_layers", [1, 2, 3, 7])
def test_both_schedules_take_the_same_steps_and_tokens(n_layers: int) -> None:
    layers, steps = list(range(n_layers)), n_layers * (1 + 3 + 4)
    for schedule in SCHEDULES:
        phases = [phase for each in segments(configured(schedule), layers) for phase in each.phases]
        assert sum(phase.steps for phase in phases) == steps
        texts = {each: each.n_batches for phase in phases for each in phase.reads}
        for split, per_layer in (("align", 1 + 3), ("train", 4)):
            read = sum(n for each, n in texts.items() if each.split == split)
            assert read == n_layers * per_layer
    # One stream, read on from phase to phase.
    assert len(texts) == 2
    assert [phase.first for phase in phases] == list(
        np.cumsum([0, *(phase.steps for phase in phases[:-1])])
    )


def test_the_stream_reads_both_splits_evenly_and_in_their_own_order(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    reads = Reading("align", 5, 2, 3), Reading("train", 3, 2, 4)
    stream = Stream(Phase("mixed", reads, 0, 8, 1e-3), tmp_path)
    own = [
        [
            blocks.batch(batch_indices(text.seed, len(blocks), 2, i))["input_ids"]
            for i in range(text.n_batches)
        ]
        for text, blocks in zip(reads, stream.blocks, strict=True)
    ]
    kinds = []
    for step in range(8):
        ids = stream.at(step)["input_ids"]
        kinds.append(bool(own[0]) and torch.equal(ids, own[0][0]))
        assert torch.equal(ids, own[0 if kinds[-1] else 1].pop(0))
        # Never further from even than one step.
        assert abs(sum(kinds) - (step + 1) * 5 / 8) < 1
    assert own == [[], []]
    # A phase that begins later reads on.
    later = Stream(Phase("later", reads, 5, 3, 1e-3), tmp_path)
    assert torch.equal(later.at(1)["input_ids"], stream.at(6)["input_ids"])


def test_the_loss_is_the_lm_loss_and_the_sum_of_the_layers(tmp_path: Path) -> None:
    """One forward pass gives every layer what a pass of its own gives."""
    write_corpus(tmp_path)
    model: Any = random_model("llama")
    layers = [aligned(layer, *nodes) for layer, nodes in NODES.items()]
    text = (Reading("align", 1, 3, 0),)
    batch = Stream(Phase("joint", text, 0, 1, 1e-3), tmp_path, layers).at(0)
    expected = plain = lm_loss(model(batch["input_ids"]).logits, batch["input_ids"])
    for layer, (nodes, poles) in NODES.items():
        values = activations(model, layer, batch["input_ids"])[..., nodes] * torch.tensor(poles)
        targets, mask = batch[f"targets_{layer}"], batch[f"mask_{layer}"]
        expected = expected + 0.3 * correlation_loss(values, targets, mask).loss
    module: Any = AlignmentModule(model, plan(1), layers, 0.3, "correlation")
    module._logged = lambda loss, **_: loss
    torch.testing.assert_close(module.training_step(batch, 0), expected)
    torch.testing.assert_close(module.training_step({"input_ids": batch["input_ids"]}, 0), plain)


@pytest.fixture
def inputs(tmp_path: Path, few_checkpoints: None) -> Path:
    write_inputs(tmp_path)
    return tmp_path


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_frozen_activations_survive_and_controls_see_the_same_tokens(
    schedule: str, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    original = Stream.at

    def recording(self: Stream, step: int) -> dict[str, torch.Tensor]:
        batch = original(self, step)
        seen.append(batch["input_ids"].numpy())
        return batch

    monkeypatch.setattr(Stream, "at", recording)
    cfg = configured(schedule)
    last = run(inputs, cfg, inputs / "run")
    final = load_subject(last / "model")
    assert all(freeze.frozen_identical(final, inputs / f"run/freeze{layer}") for layer in NODES)
    with torch.no_grad():
        final.model.layers[2].mlp.up_proj.weight[17, 0] += 1e-3
    assert not freeze.frozen_identical(final, inputs / "run/freeze2")
    real, seen[:] = list(seen), []
    held = {}
    for kind in (Control, FreezeOnly):
        held[kind] = load_subject(comparison(inputs, cfg, inputs / kind.name, kind) / "model")
        assert len(real) == len(seen) == 16
        assert all(np.array_equal(a, b) for a, b in zip(real, seen, strict=True))
        seen.clear()
    start = load_subject(inputs / "start/model").model.embed_tokens.weight
    assert torch.equal(held[FreezeOnly].model.embed_tokens.weight, start)
    assert not torch.equal(held[Control].model.embed_tokens.weight, start)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("distill", [0.0, 1.0])
def test_without_any_mlp_removed_the_controls_training_is_the_control(
    inputs: Path, distill: float, schedule: str
) -> None:
    """What a layer's MLP is worth is measured by this training, so that nothing but the MLP may
    differ."""
    cfg = configured(schedule, distill=distill)
    control = comparison(inputs, cfg, inputs / "c", Control)
    model, n_steps = given(inputs / "start"), 0
    for layer in NODES if schedule == "sequential" else [1]:
        stage = dataclasses.replace(Removed.of(setting(inputs, cfg), model, [layer]), layers=())
        record = compute(stage, inputs / f"whole{layer}")
        n_steps += sum(phase.steps for phase in record.phases)
        model = given(inputs / f"whole{layer}")
    assert n_steps == 16 and same_weights(control, model.folder)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("distill", [0.0, 1.0])
def test_a_run_whose_labels_weigh_nothing_is_its_freeze_only_run(
    inputs: Path, distill: float, schedule: str
) -> None:
    """What stands beside the tax differs from the run in labels alone, whatever else the loss is
    made of."""
    cfg = configured(schedule, weight=0.0, start="node", distill=distill, local_steps=0)
    held = comparison(inputs, cfg, inputs / "held", FreezeOnly)
    assert same_weights(run(inputs, cfg, inputs / "run"), held)


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load_subject(each / "model").state_dict() for each in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_training_that_is_killed_goes_on_to_the_same_weights(
    schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inputs(tmp_path)
    cfg = configured(schedule)
    whole = run(tmp_path, cfg, tmp_path / "whole")
    original, read = Stream.at, []
    # One batch is read ahead, so that a kill at step 2 comes behind the checkpoint of step 0.
    kills = {"joint": 2, "continue": 2, "settle_0": 1}

    def killed(self: Stream, step: int) -> dict[str, torch.Tensor]:
        read.append((self.phase, step))
        if kills.get(self.phase.name) == step and read.count(read[-1]) == 1:
            raise Killed
        return original(self, step)

    monkeypatch.setattr(Stream, "at", killed)
    for _ in range(4 if schedule == "sequential" else 2):
        with pytest.raises(Killed):
            run(tmp_path, cfg, tmp_path / "parts")
    again = run(tmp_path, cfg, tmp_path / "parts")
    assert same_weights(whole, again)
    firsts = [each for each in read if each[1] == 0 and kills.get(each[0].name) != 1]
    assert len(firsts) == len(set(firsts)), "a phase began anew"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_knobs_of_alignment_change_what_is_trained(schedule: str, inputs: Path) -> None:
    """A control says for every layer how far it learned its targets."""
    layers = list(NODES) if schedule == "joint" else [1]
    targets = {layer: given(inputs / f"targets{layer}") for layer in layers}
    knobs: list[dict[str, Any]] = [
        {},
        {"objective": "mse"},
        {"distill": 1.0},
        {"ablate_free": 0.5},
        {"target": "shuffled"},
    ]
    weights = []
    for i, knob in enumerate(knobs):
        made, out = setting(inputs, configured(schedule, **knob)), inputs / str(i)
        record = compute(Align.of(made, given(inputs / "start"), targets, None), out)
        assert list(record.n_aligned) == list(record.start) == layers
        assert list(record.targets) == (layers if "target" in knob else [])
        weights.append(load_subject(out / "model").model.layers[2].mlp.up_proj.weight)
    assert not any(torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_a_phase_without_anything_to_distil_from_is_refused(inputs: Path) -> None:
    stage = Control.of(
        setting(inputs, configured("joint", distill=1.0)), given(inputs / "start"), 1
    )
    with pytest.raises(ValueError, match="needs the original"):
        compute(dataclasses.replace(stage, original=None), inputs / "out")


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture(scope="module")
def root(server: FakeServer, stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of each schedule, and the loop's first, in one store."""
    root = stock.link(tmp_path_factory.mktemp("schedules"))
    for name, layers in (("sequential", "1"), ("joint", "[1,2]")):
        pipeline.run(
            config(server, root, *QUICK, f"schedule={name}", f"run={name}", f"layer={layers}")
        )
    return root


def run_of(root: Path, name: str) -> RunDirectory:
    return RunDirectory(root / "runs" / name)


def test_the_invariants_and_the_contract_hold(root: Path) -> None:
    name, run = "joint", run_of(root, "joint")
    summary = run.summary or {}
    assert verify(run, Store(root / "store")) == []
    assert summary["schedule"] == name and summary["complete"]
    assert summary["invariants"] == {"frozen_identical": True, "splits_disjoint": True}
    assert summary["loss"]["tax"] == summary["loss"]["final"] - summary["loss"]["control"]
    for layer in summary["layers"]:
        assert (
            layer["score"]["final"]["n"] + layer["score"]["final"]["n_undefined"]
            == layer["n_aligned"]
            == 4
        )
    show_status(run)
    show_tables(run)


def test_layers_aligned_together_have_one_tax_and_a_worth_each(
    server: FakeServer, root: Path
) -> None:
    """The joint phase belongs to no layer: only all of them have a tax; each is retrained without
    as the whole control was."""
    before = (run_of(root, "joint").summary or {})["loss"]
    run = pipeline.run(
        config(
            server, root, *QUICK, "schedule=joint", "run=worth", "layer=[1,2]", "work.removed=true"
        )
    )
    summary, store = run.summary or {}, Store(root / "store")
    assert summary["loss"] == before and verify(run, store) == []
    layers, whole = [layer["work"] for layer in summary["layers"]], summary["work"]
    assert [layer["tax"] for layer in layers] == [None, None] and whole["tax"] == summary["loss"][
        "tax"
    ]
    for work, removed in ((layers[0], [1]), (layers[1], [2]), (whole, [1, 2])):
        assert (
            work["removed"]["layers"] == removed
            and work["removed"]["control"] == summary["loss"]["control"]
        )
        assert work["removed"]["cost"] == work["removed"]["loss"] - summary["loss"]["control"]
    made = [store.get("removed", run.state["layers"][layer]["removed"]) for layer in ("1", "2")]
    assert all(
        sum(phase["steps"] for phase in each.metrics["phases"]) == 18
        for each in made
        if each is not None
    )
    show_status(run)
    show_tables(run)


def test_schedules_share_what_has_the_same_parents(root: Path) -> None:
    one, joint = (run_of(root, name).state["layers"] for name in SCHEDULES)
    for stage in ("collect", "label", "simulate"):
        assert one["1"][stage] == joint["1"][stage]
    assert joint["1"]["align"] == joint["2"]["align"]


def test_all_schedules_and_their_controls_take_the_same_number_of_steps(root: Path) -> None:
    store = Store(root / "store")

    def steps(run: RunDirectory, stages: tuple[str, ...]) -> int:
        made = {(stage, links[stage]) for links in run.state["layers"].values() for stage in stages}
        metrics = [store.get(*each).metrics for each in made]  # type: ignore[union-attr]
        return sum(phase["steps"] for each in metrics for phase in each["phases"])

    for name, n_layers in (("sequential", 1), ("joint", 2)):
        run = run_of(root, name)
        taken = [
            steps(run, stages) for stages in (("align", "continue"), ("control",), ("freeze_only",))
        ]
        assert taken == [n_layers * 9] * 3


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_report_draws_run_and_controls_on_the_same_steps(root: Path, name: str) -> None:
    """With an alignment loss for every layer that is aligned, whatever the schedule."""
    store, run = Store(root / "store"), run_of(root, name)
    facts = RunFacts(run, run.summary or {}, store)
    (layers,) = curves.turns(facts)
    language, alignment = curves.lines(facts, layers)
    # The local phase of the sequential schedule, three steps, has no LM loss.
    taken = {
        line.name: [step for step, _ in line.points if step > 3 or name == "joint"]
        for line in language
    }
    assert set(taken) == {"this run", "control", "freeze-only"}
    assert len({tuple(steps) for steps in taken.values()}) == 1
    assert max(taken["this run"]) == 9 * len(layers)
    assert [line.name for line in alignment] == [f"layer {layer}" for layer in layers]
    assert all(0 < loss < 2 for line in alignment for _, loss in line.points)


def test_aligned_activations_are_fixed_from_their_freeze_to_the_end(root: Path) -> None:
    store, run = Store(root / "store"), run_of(root, "joint")
    layers = run.state["layers"]
    models = {
        name: load_subject(store.path(stage, layers[layer][stage]) / "model")
        for name, stage, layer in (
            ("joint", "align", "1"),
            ("lower", "continue", "1"),
            ("final", "continue", "2"),
        )
    }
    ids = torch.randint(0, 500, (3, 40), generator=torch.Generator().manual_seed(0))
    nodes = {layer: freeze_nodes(store, layers[str(layer)]["freeze"]) for layer in (1, 2)}
    with torch.no_grad():
        real = {
            (name, layer): activations(model, layer, ids)
            for name, model in models.items()
            for layer in (1, 2)
        }
    assert torch.equal(real["joint", 1][..., nodes[1]], real["final", 1][..., nodes[1]])
    assert torch.equal(real["lower", 2][..., nodes[2]], real["final", 2][..., nodes[2]])
    # The upper layer still trained while the lower one was frozen.
    assert not torch.equal(real["joint", 2][..., nodes[2]], real["lower", 2][..., nodes[2]])


def freeze_nodes(store: Store, fingerprint: str) -> list[int]:
    nodes: list[int] = json.loads((store.path("freeze", fingerprint) / "frozen.json").read_text())[
        "nodes"
    ]
    return nodes


@pytest.mark.parametrize(
    ("at", "stage"), [("before", "subject"), ("after", "align"), ("final", "continue")]
)
def test_export_writes_the_model_of_the_moment(
    root: Path, tmp_path: Path, at: str, stage: str
) -> None:
    store, run = Store(root / "store"), run_of(root, "joint")
    export_run(run, store, at, "2", tmp_path / at)
    links = run.state["shared"] if stage == "subject" else run.state["layers"]["2"]
    ids = torch.randint(0, 500, (1, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exported, kept = (
            load_subject(p)(ids).logits
            for p in (tmp_path / at, store.path(stage, links[stage]) / "model")
        )
    assert torch.equal(exported, kept)


def test_layers_aligned_together_are_one_result(
    server: FakeServer, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other layers are refused under the same name; a single layer is a set too."""
    before = run_hashes(run_of(root, "joint"))
    capsys.readouterr()
    with pytest.raises(ConfigError, match=r"aligned the layers \[1, 2\] together.*layer=\[1,2,3\]"):
        pipeline.run(config(server, root, *QUICK, "schedule=joint", "run=joint", "layer=3"))
    again = pipeline.run(config(server, root, *QUICK, "schedule=joint", "run=joint", "layer=1"))
    assert [layer["layer"] for layer in (again.summary or {})["layers"]] == [1, 2]
    assert run_hashes(again) == before
    n_stages = len(again.artifacts)
    assert capsys.readouterr().err == f"joint: all {n_stages} stages were done before\n"
    single = pipeline.run(config(server, root, *QUICK, "schedule=joint", "run=single", "layer=1"))
    assert (single.summary or {})["invariants"]["frozen_identical"] and verify(
        single, Store(root / "store")
    ) == []
    assert (
        single.state["layers"]["1"]["align"] != run_of(root, "joint").state["layers"]["1"]["align"]
    )
    assert (
        single.state["layers"]["1"]["simulate"]
        == run_of(root, "joint").state["layers"]["1"]["simulate"]
    )


def test_an_unknown_schedule_is_named() -> None:
    with pytest.raises(ConfigError, match="schedule=both: give one of sequential, joint"):
        compose(["schedule=both"])
