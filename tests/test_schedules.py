"""Laws of schedule=joint and schedule=hybrid: the stream, the freezes, matched compute, and whole
runs beside the loop's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_server import FakeServer
from safetensors.torch import save_file
from small_run import config, store_hashes
from stage_jobs import compute, given, labelled
from tiny_subjects import LENGTH, ArrayBlocks, random_model

from interp_by_construction.config import AlignConfig, ContinueConfig, TrainerConfig, compose
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError
from interp_by_construction.export.run import export_run
from interp_by_construction.report import curves
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.report.terminal import show_result, show_status
from interp_by_construction.results.verification import verify
from interp_by_construction.schedules import pipeline
from interp_by_construction.stages import continue_ as continue_training
from interp_by_construction.stages import control, freeze, joint
from interp_by_construction.stages.align import JOINT, LOCAL, data_seed, distill_from
from interp_by_construction.stages.freeze import Freeze
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject, save_subject, untie
from interp_by_construction.training import fit as fitting
from interp_by_construction.training.fit import TokenBlocks
from interp_by_construction.training.joint import JointModule, MixedStream
from interp_by_construction.training.losses import correlation_loss, lm_loss

CPU = TrainerConfig(device="cpu", threads=1, weight_decay=0.1, checkpoint_seconds=0)
NODES = {0: ([1, 4], [1, -1]), 1: ([0, 17, 20], [-1, 1, 1])}
ALIGN, CONTINUE = (
    AlignConfig(local_steps=1, steps=3, batch_size=4, lr=1e-2),
    ContinueConfig(steps=4, batch_size=4, lr=1e-2),
)


class _Killed(Exception):
    pass


def schedule(n_layers: int = 2) -> joint.Schedule:
    return joint.Schedule(joint.plan_joint(ALIGN, CONTINUE, n_layers), ALIGN, CONTINUE, CPU, 0, 10)


@pytest.mark.parametrize("n_layers", [1, 2, 3, 7])
def test_joint_takes_the_loops_steps_and_tokens(n_layers: int) -> None:
    plan = joint.plan_joint(ALIGN, CONTINUE, n_layers)
    assert plan.total == n_layers * (1 + 3 + 4) and plan.align_batches == n_layers * (1 + 3)
    assert plan.settle_start(n_layers) == plan.total


def test_the_stream_reads_both_splits_evenly_and_in_their_own_order() -> None:
    align, train = TokenBlocks(ArrayBlocks(10, seed=1)), TokenBlocks(ArrayBlocks(10, seed=2))
    stream = MixedStream(align, train, 5, 8, 2, 2, (3, 4))
    read = {"align": [], "train": []}  # type: ignore[var-annotated]
    kinds = []
    for step in range(8):
        ids = stream.at(step)["input_ids"].numpy()
        kind = (
            "align"
            if any((block == align.dataset.input_ids).all(1).any() for block in ids[:1])
            else "train"
        )
        kinds.append(kind == "align")
        read[kind].append(ids)
    assert len(read["align"]) == 5 and len(read["train"]) == 3
    # Never further from even than one step.
    assert all(abs(sum(kinds[:n]) - n * 5 / 8) < 1 for n in range(9))
    for name, blocks, seed in (("align", align, 3), ("train", train, 4)):
        own = [
            blocks.batch(fitting.batch_indices(seed, 10, 2, i))["input_ids"].numpy()
            for i in range(len(read[name]))
        ]
        assert all(np.array_equal(a, b) for a, b in zip(read[name], own, strict=True))


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for stage in (joint, freeze, control, continue_training):
        monkeypatch.setattr(
            stage, "load_blocks", lambda _path, split: ArrayBlocks(10, seed=len(split))
        )
    model = random_model("llama")
    untie(model)
    save_subject(model, tmp_path / "start")
    generator = torch.Generator().manual_seed(5)
    for layer, (nodes, poles) in NODES.items():
        values = torch.rand(10, LENGTH, len(nodes), generator=generator).half()
        mask = torch.rand(10, LENGTH, generator=generator) > 0.2
        (tmp_path / f"targets{layer}").mkdir()
        tensors = {
            "values": values,
            "mask": mask,
            "nodes": torch.tensor(nodes),
            "poles": torch.tensor(poles),
        }
        save_file(tensors, tmp_path / f"targets{layer}" / "targets.safetensors")
    return tmp_path


def targets(root: Path, *layers: int) -> dict[int, Path]:
    return {layer: root / f"targets{layer}" for layer in layers}


def test_the_loss_is_the_lm_loss_and_the_sum_of_the_layers(corpus: Path) -> None:
    """One forward pass gives every layer what a pass of its own gives."""
    model, layers = (
        load_subject(corpus / "start"),
        joint.read_aligned(targets(corpus, 0, 1), ALIGN, 0),
    )
    batch = schedule().stream(corpus, layers).align.batch(np.array([0, 3, 4]))
    expected = lm_loss(model(batch["input_ids"]).logits, batch["input_ids"])
    for layer, (nodes, poles) in NODES.items():
        values = activations(model, layer, batch["input_ids"])[..., nodes] * torch.tensor(poles)
        expected = (
            expected
            + 0.3 * correlation_loss(values, batch[f"targets_{layer}"], batch[f"mask_{layer}"]).loss
        )
    module = JointModule(model, layers, weight=0.3, steps=1, lr=1e-3, trainer_cfg=CPU)
    plain_trainer: Any = module
    plain_trainer._logged = lambda loss, **_: loss
    torch.testing.assert_close(module.training_step(batch, 0), expected)
    plain = {"input_ids": batch["input_ids"]}
    torch.testing.assert_close(
        module.training_step(plain, 0),
        lm_loss(model(batch["input_ids"]).logits, batch["input_ids"]),
    )


def _joint_run(root: Path, out: Path) -> Path:
    """Joint phase, then freeze and settle both layers; returns the final model's directory."""
    joint.run(root / "start", root, targets(root, 0, 1), schedule(), out / "joint", out / "s")
    model = out / "joint/model"
    for layer, (nodes, _) in NODES.items():
        labels = labelled(out / f"labels{layer}", nodes)
        compute(Freeze(given(root), given(model.parent), labels, layer), out / f"freeze{layer}")
        above = targets(root, *(each for each in NODES if each > layer))
        joint.settle(
            model,
            root,
            layer,
            nodes,
            above,
            layer,
            schedule(),
            out / f"settle{layer}",
            out / f"s{layer}",
        )
        model = out / f"settle{layer}/model"
    return model


def test_frozen_activations_survive_and_controls_see_the_same_tokens(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    original = TokenBlocks.batch

    def recording(self: TokenBlocks, indices: np.ndarray) -> dict[str, torch.Tensor]:
        batch = original(self, indices)
        seen.append(batch["input_ids"].numpy())
        return batch

    monkeypatch.setattr(freeze, "TokenBlocks", type("Probe", (TokenBlocks,), {"batch": original}))
    monkeypatch.setattr(TokenBlocks, "batch", recording)
    final = load_subject(_joint_run(corpus, corpus / "run"))
    assert all(freeze.frozen_identical(final, corpus / f"run/freeze{layer}") for layer in NODES)
    with torch.no_grad():
        final.model.layers[1].mlp.up_proj.weight[17, 0] += 1e-3
    assert not freeze.frozen_identical(final, corpus / "run/freeze1")
    real, seen[:] = list(seen), []
    for held in ("none", "freeze_only"):
        model = corpus / "start"
        for position, (layer, (nodes, _)) in enumerate(NODES.items()):
            out = corpus / f"{held}{position}"
            joint.control(
                model, corpus, position, held, 0, layer, nodes, schedule(), out, out / "scratch"
            )  # type: ignore[arg-type]
            model = out / "model"
        assert len(real) == schedule().plan.total == 16
        assert all(np.array_equal(a, b) for a, b in zip(real, seen, strict=True))
        seen.clear()


@pytest.mark.parametrize("distill", [0.0, 1.0])
def test_without_any_mlp_removed_the_controls_training_in_one_go_is_the_control(
    corpus: Path, distill: float
) -> None:
    """What a layer's MLP is worth is measured by this training, so that nothing but the MLP may
    differ."""
    model = start = corpus / "start"
    planned = dataclasses.replace(schedule(), align=dataclasses.replace(ALIGN, distill=distill))
    for position in range(2):
        out = corpus / f"control{position}"
        joint.control(
            model, corpus, position, "none", 0, 0, [], planned, out, out / "scratch", None, start
        )
        model = out / "model"
    whole = load_subject(corpus / "start")
    untie(whole)
    metrics = joint.train_control(
        whole, corpus, planned, distill_from(start, distill), corpus / "scratch", None, "control"
    )
    assert sum(phase["steps"] for phase in metrics.values()) == schedule().plan.total
    kept, trained = load_subject(model).state_dict(), whole.state_dict()
    assert all(torch.equal(kept[name], trained[name].cpu()) for name in kept)


@pytest.mark.parametrize("distill", [0.0, 1.0])
def test_a_run_whose_labels_weigh_nothing_is_its_freeze_only_run(
    corpus: Path, distill: float
) -> None:
    """What stands beside the tax differs from the run in labels alone, whatever else the loss is
    made of."""
    align = dataclasses.replace(ALIGN, weight=0.0, start="node", distill=distill)
    unlabelled = dataclasses.replace(schedule(), align=align)
    run, comparison, start = corpus / "run", corpus / "start", corpus / "start"
    joint.run(start, corpus, targets(corpus, *NODES), unlabelled, run, corpus / "s", None, start)
    for position, (layer, (nodes, _)) in enumerate(NODES.items()):
        above, out = (
            targets(corpus, *(each for each in NODES if each > layer)),
            corpus / f"settle{layer}",
        )
        joint.settle(
            run / "model",
            corpus,
            layer,
            nodes,
            above,
            position,
            unlabelled,
            out,
            corpus / f"s{layer}",
            None,
            start,
        )
        held = corpus / f"held{layer}"
        joint.control(
            comparison / "model" if position else start,
            corpus,
            position,
            "freeze_only",
            0,
            layer,
            nodes,
            unlabelled,
            held,
            corpus / f"c{layer}",
            None,
            start,
        )
        run, comparison = out, held
    kept, trained = (load_subject(each / "model").state_dict() for each in (run, comparison))
    assert all(torch.equal(kept[name], trained[name]) for name in kept)


def _hybrid_run(root: Path, out: Path) -> Path:
    """Two turns: align what is not frozen yet, freeze the lowest of it, continue; returns the final
    model's directory."""
    model, previous = root / "start", None
    for layer, (nodes, _) in NODES.items():
        rest, scratch = targets(root, *(each for each in NODES if each >= layer)), out / f"s{layer}"
        joint.turn(model, root, rest, ALIGN, CPU, 0, 0, previous, out / f"turn{layer}", scratch)
        model = out / f"turn{layer}/model"
        labels = labelled(out / f"labels{layer}", nodes)
        compute(Freeze(given(root), given(model.parent), labels, layer), out / f"freeze{layer}")
        continue_training.run(
            model, root, layer, nodes, CONTINUE, CPU, 0, out / f"continue{layer}", scratch
        )
        model, previous = out / f"continue{layer}/model", (layer, nodes)
    return model


LOCAL_0, JOINT_0, JOINT_1 = data_seed(0, 0, LOCAL), data_seed(0, 0, JOINT), data_seed(0, 1, JOINT)


@pytest.mark.parametrize(
    ("run", "owner", "name", "kills", "firsts"),
    [
        # Once in the joint phase, once while the lower layer settles. What a batch is read by is
        # its step, last of the arguments.
        (_joint_run, MixedStream, "at", [(5,), (13,)], [(0,)]),
        # Once in the joint phase of either turn; a turn and its phases tell themselves apart by the
        # seed, first of the arguments.
        (
            _hybrid_run,
            fitting,
            "batch_indices",
            [(JOINT_0, 2), (JOINT_1, 2)],
            [(LOCAL_0, 0), (JOINT_0, 0), (JOINT_1, 0)],
        ),
    ],
    ids=["joint", "hybrid"],
)
def test_training_of_layers_together_that_is_killed_goes_on_to_the_same_weights(
    run: Callable[[Path, Path], Path],
    owner: Any,
    name: str,
    kills: list[tuple[int, ...]],
    firsts: list[tuple[int, ...]],
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = load_subject(run(corpus, corpus / "whole")).state_dict()
    original, read = getattr(owner, name), []

    def killed(*arguments: Any) -> Any:
        read.append(tuple(each for each in (arguments[0], arguments[-1]) if isinstance(each, int)))
        if read[-1] in kills and read.count(read[-1]) == 1:
            raise _Killed
        return original(*arguments)

    monkeypatch.setattr(owner, name, killed)
    for _ in kills:
        with pytest.raises(_Killed):
            run(corpus, corpus / "parts")
    again = load_subject(run(corpus, corpus / "parts")).state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert all(read.count(first) == 1 for first in firsts), "a phase began anew"


def test_knobs_of_alignment_hold_for_layers_aligned_together(corpus: Path) -> None:
    """Each changes what is trained; a control says for every layer how far it learned its
    targets."""
    weights = []
    knobs: list[dict[str, Any]] = [
        {},
        {"objective": "mse"},
        {"schedule": "ramp"},
        {"distill": 1.0},
        {"ablate_free": 0.5},
        {"target": "shuffled"},
    ]
    for i, knob in enumerate(knobs):
        changed, out = (
            dataclasses.replace(schedule(), align=dataclasses.replace(ALIGN, **knob)),
            corpus / str(i),
        )
        metrics = joint.run(
            corpus / "start",
            corpus,
            targets(corpus, 0, 1),
            changed,
            out,
            out / "scratch",
            None,
            corpus / "start",
        )
        assert set(metrics.get("targets", {})) == ({"0", "1"} if "target" in knob else set())
        weights.append(load_subject(out / "model").model.layers[2].mlp.up_proj.weight)
    assert not any(torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


QUICK = (
    "scores.enabled=false",
    "label.select_tokens=0",
    "evaluate.n_bootstrap=20",
    "evaluate.max_truth_tokens=640",
    "simulate.reliability_tokens=0",
    "simulate.n_fit_tokens=64",
    "simulate.n_score_tokens=64",
    "trainer.checkpoint_seconds=60",
)


@pytest.fixture(scope="module")
def root(server: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of each schedule, and the loop's first, in one store."""
    root = tmp_path_factory.mktemp("schedules")
    for name, layers in (("sequential", "1"), ("joint", "[1,2]"), ("hybrid", "[1,2]")):
        pipeline.run(
            config(server, root, *QUICK, f"schedule={name}", f"run={name}", f"layer={layers}")
        )
    return root


def run_of(root: Path, name: str) -> RunDirectory:
    return RunDirectory(root / "runs" / name)


@pytest.mark.parametrize("name", ["joint", "hybrid"])
def test_the_invariants_and_the_contract_hold(root: Path, name: str) -> None:
    run = run_of(root, name)
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
    show_result(run)


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
        sum(phase["steps"] for phase in each.metrics["phases"].values()) == 18
        for each in made
        if each is not None
    )
    show_status(run)
    show_result(run)


def test_schedules_share_what_has_the_same_parents(root: Path) -> None:
    one, joint_, hybrid = (
        run_of(root, name).state["layers"] for name in ("sequential", "joint", "hybrid")
    )
    for stage in ("collect", "label", "simulate"):
        assert one["1"][stage] == joint_["1"][stage] == hybrid["1"][stage]
        assert joint_["2"][stage] == hybrid["2"][stage]
    # The turns of the hybrid schedule read what the loop's turns read.
    assert (
        one["1"]["control"] == hybrid["1"]["control"]
        and one["1"]["freeze_only"] == hybrid["1"]["freeze_only"]
    )
    assert joint_["1"]["align"] == joint_["2"]["align"]


def test_all_schedules_and_their_controls_take_the_same_number_of_steps(root: Path) -> None:
    store = Store(root / "store")

    def steps(run: RunDirectory, stages: tuple[str, ...]) -> int:
        made = {(stage, links[stage]) for links in run.state["layers"].values() for stage in stages}
        metrics = [store.get(*each).metrics for each in made]  # type: ignore[union-attr]
        return sum(
            phase["steps"]
            for each in metrics
            for phase in (each, *each.values())
            if "steps" in _dict(phase)
        )

    for name, n_layers in (("sequential", 1), ("joint", 2), ("hybrid", 2)):
        run = run_of(root, name)
        taken = [
            steps(run, stages) for stages in (("align", "continue"), ("control",), ("freeze_only",))
        ]
        assert taken == [n_layers * 9] * 3


@pytest.mark.parametrize(("name", "n_turns"), [("sequential", 1), ("joint", 1), ("hybrid", 2)])
def test_the_report_draws_run_and_controls_on_the_same_steps(
    root: Path, name: str, n_turns: int
) -> None:
    """With an alignment loss for every layer that is aligned, whatever the schedule."""
    store, run = Store(root / "store"), run_of(root, name)
    facts = RunFacts(run, run.summary or {}, {}, store)
    turns = curves.turns(facts)
    assert len(turns) == n_turns
    for i, layers in enumerate(turns):
        language, alignment = curves.lines(facts, layers)
        # The local phase of the loop, three steps, has no LM loss.
        taken = {
            line.name: [step for step, _ in line.points if step > 3 or name != "sequential"]
            for line in language
        }
        assert (
            set(taken) == {"this run", "control", "freeze-only"}
            and len({tuple(steps) for steps in taken.values()}) == 1
        )
        assert max(taken["this run"]) == 9 * len(layers)
        above = layers if name != "hybrid" else facts.layers[i:]
        assert [line.name for line in alignment] == [f"layer {layer}" for layer in above]
        assert all(0 < loss < 2 for line in alignment for _, loss in line.points)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


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
    import json

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


def test_layers_aligned_together_are_one_result(server: FakeServer, root: Path) -> None:
    """Other layers are refused under the same name; a single layer is a set too."""
    before = store_hashes(root)
    with pytest.raises(ConfigError, match=r"aligned the layers \[1, 2\] together.*layer=\[1,2,3\]"):
        pipeline.run(config(server, root, *QUICK, "schedule=joint", "run=joint", "layer=3"))
    again = pipeline.run(config(server, root, *QUICK, "schedule=joint", "run=joint", "layer=1"))
    assert [layer["layer"] for layer in (again.summary or {})["layers"]] == [1, 2]
    assert store_hashes(root) == before
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
    with pytest.raises(ConfigError, match="schedule=both: give one of sequential, joint, hybrid"):
        compose(["schedule=both"])
    with pytest.raises(ConfigError, match=r"align.schedule=ramp: every turn"):
        compose(["schedule=hybrid", "align.schedule=ramp"])
