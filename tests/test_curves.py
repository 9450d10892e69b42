"""Curves of training: what is kept beside the loss, that keeping it changes nothing, and what the
report draws of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_subjects import LENGTH, ArrayBlocks, random_model

from interp_by_construction.config import TrainerConfig
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Recipe, Store
from interp_by_construction.report import curves
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.training.fit import TokenBlocks, batch_indices, fit, fit_stream
from interp_by_construction.training.joint import (
    AlignedNodes,
    JointModule,
    LayeredBlocks,
    MixedStream,
)
from interp_by_construction.training.modules import AlignmentModule, LanguageModelModule

N_BLOCKS = 10


def trainer(every: float = 60.0) -> TrainerConfig:
    return TrainerConfig(device="cpu", threads=1, weight_decay=0.1, checkpoint_seconds=every)


def aligned(layer: int, n: int) -> AlignedNodes:
    generator = torch.Generator().manual_seed(layer)
    values = torch.rand(N_BLOCKS, LENGTH, n, generator=generator).half()
    return AlignedNodes(
        layer,
        list(range(n)),
        [1] * n,
        values,
        torch.rand(N_BLOCKS, LENGTH, generator=generator) > 0.2,
    )


class Killed(Exception):
    pass


def joint_phase(
    scratch: Path, weight: float, n_align: int, alive_for: int = 1000
) -> tuple[Any, dict[str, Any]]:
    """50 steps, of which `n_align` read text with targets; a checkpoint after each."""
    model, layers = random_model("gpt2"), [aligned(0, 2), aligned(1, 3)]
    blocks = LayeredBlocks(ArrayBlocks(N_BLOCKS), layers, N_BLOCKS)
    stream = MixedStream(
        blocks, TokenBlocks(ArrayBlocks(N_BLOCKS, seed=9)), n_align, 50, 4, 4, (0, 1)
    )
    module = JointModule(model, layers, weight=weight, steps=50, lr=1e-2, trainer_cfg=trainer(0.0))
    left = [alive_for]

    def at(step: int) -> dict[str, torch.Tensor]:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return stream.at(step)

    return model, fit_stream(module, at, scratch=scratch)


@pytest.mark.parametrize("n_align", [50, 25])
def test_the_terms_add_up_to_the_loss(n_align: int, tmp_path: Path) -> None:
    """At every point of the curve, also where only every second batch has targets."""
    _, metrics = joint_phase(tmp_path, 0.3, n_align)
    terms = metrics["terms"]
    assert set(terms) == {"lm", "alignment_0", "alignment_1"}
    steps, total = np.array(metrics["curve"]).T
    assert steps.tolist() == [20, 40, 50] and all(
        np.array(curve)[:, 0].tolist() == steps.tolist() for curve in terms.values()
    )
    alignment = sum(np.array(terms[f"alignment_{layer}"])[:, 1] for layer in (0, 1))
    np.testing.assert_allclose(
        total, np.array(terms["lm"])[:, 1] + 0.3 * n_align / 50 * alignment, atol=3e-6
    )


def test_a_local_phase_has_its_alignment_alone_and_an_lm_phase_no_terms(tmp_path: Path) -> None:
    layer = aligned(1, 2)
    blocks = LayeredBlocks(ArrayBlocks(N_BLOCKS), [layer], N_BLOCKS)

    def batch(step: int) -> dict[str, torch.Tensor]:
        read = blocks.batch(batch_indices(0, N_BLOCKS, 4, step))
        return {
            "input_ids": read["input_ids"],
            "targets": read["targets_1"],
            "mask": read["mask_1"],
        }

    def module(nodes: list[int], local: bool) -> AlignmentModule:
        return AlignmentModule(
            random_model("gpt2"),
            layer=1,
            node_ids=nodes,
            poles=[1] * len(nodes),
            weight=1.0,
            local=local,
            steps=5,
            lr=1e-2,
            trainer_cfg=trainer(),
        )

    local = fit_stream(module(layer.nodes, True), batch, scratch=tmp_path / "local")
    assert local["terms"] == {"alignment_1": local["curve"]}
    # A layer without a label trains on the LM loss alone: no alignment loss of 0 is claimed.
    none = {"targets": torch.zeros(4, LENGTH, 0)}
    free = fit_stream(module([], False), lambda step: batch(step) | none, scratch=tmp_path / "free")
    assert free["terms"] == {"lm": free["curve"]}
    plain = LanguageModelModule(random_model("gpt2"), steps=5, lr=1e-2, trainer_cfg=trainer())
    assert "terms" not in fit(
        plain, TokenBlocks(ArrayBlocks(N_BLOCKS)), seed=0, batch_size=4, scratch=tmp_path / "lm"
    )


def test_a_killed_phase_ends_with_the_same_terms(tmp_path: Path) -> None:
    whole, expected = joint_phase(tmp_path / "whole", 0.3, 25)
    for alive_for in (13, 17):
        with pytest.raises(Killed):
            joint_phase(tmp_path / "killed", 0.3, 25, alive_for)
    resumed, metrics = joint_phase(tmp_path / "killed", 0.3, 25, 26)
    assert metrics == expected
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


def test_a_checkpoint_of_an_older_version_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """It lacks the terms of the steps that it has behind it, and nothing else."""
    whole, expected = joint_phase(tmp_path / "whole", 0.3, 25)
    with pytest.raises(Killed):
        joint_phase(tmp_path / "old", 0.3, 25, 30)
    saved = torch.load(tmp_path / "old/last.ckpt", weights_only=True)
    (state,) = (state for state in saved["callbacks"].values() if "curve" in state)
    for name in ("terms", "recent_terms"):
        del state[name]
    torch.save(saved, tmp_path / "old/last.ckpt")
    resumed, metrics = joint_phase(tmp_path / "old", 0.3, 25, 26)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )
    assert metrics["curve"] == expected["curve"] and [
        step for step, _ in metrics["terms"]["lm"]
    ] == [40, 50]


def record(steps: int, loss: float, **terms: float) -> dict[str, Any]:
    kept = {name: [[steps, value]] for name, value in terms.items()}
    return {"steps": steps, "loss": loss, "curve": [[steps, loss]]} | (
        {"terms": kept} if terms else {}
    )


def report_of(
    root: Path, schedule: str, layers: list[dict[str, Any]], n_aligned: int = 4
) -> RunFacts:
    """Facts of a run whose layers have these metrics by stage; equal ones are one artifact."""
    store = Store(root)

    def link(stage: str, metrics: dict[str, Any]) -> str:
        return store.build(Recipe(stage, 1, metrics, {}, {}), lambda out: metrics).fingerprint

    records = [
        {
            "layer": i,
            "n_aligned": n_aligned,
            "artifacts": {stage: link(stage, metrics) for stage, metrics in layer.items()},
        }
        for i, layer in enumerate(layers)
    ]
    return RunFacts(
        RunDirectory(Path("/runs/x")), {"schedule": schedule, "layers": records}, {}, store
    )


def joint_layers(**terms: float) -> list[dict[str, Any]]:
    """Layers 0 and 1 aligned at once for 100 steps, then 10 steps after each freeze."""
    align = {"n_aligned": {"0": 4, "1": 4}, "joint": record(100, 9.0, **terms)}
    above = {name: value for name, value in terms.items() if name != "alignment_0"}
    return [
        {
            "align": align,
            "continue": record(10, 8.0, **above),
            "control": {"joint": record(100, 1.0), "settle": record(10, 0.9)},
        },
        {"align": align, "continue": record(10, 0.7), "control": {"settle": record(10, 0.8)}},
    ]


def drawn(facts: RunFacts) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Of each turn: name -> points of its LM loss, and of its alignment loss."""
    found = [curves.lines(facts, layers) for layers in curves.turns(facts)]
    return [tuple({line.name: line.points for line in some} for some in pair) for pair in found]  # type: ignore[misc]


def test_layers_aligned_at_once_are_drawn_on_the_steps_of_their_stream(tmp_path: Path) -> None:
    """The settling of an upper layer stands beside its control's, not beside the joint phase; each
    layer has its alignment loss."""
    ((language, alignment),) = drawn(
        report_of(tmp_path, "joint", joint_layers(lm=1.5, alignment_0=0.4, alignment_1=0.6))
    )
    assert language == {
        "this run": [(100, 1.5), (110, 1.5), (120, 0.7)],
        "control": [(100, 1.0), (110, 0.9), (120, 0.8)],
    }
    assert alignment == {"layer 0": [(100, 0.4)], "layer 1": [(100, 0.6), (110, 0.6)]}
    made = curves.charts(
        report_of(tmp_path, "joint", joint_layers(lm=1.5, alignment_0=0.4, alignment_1=0.6))
    )
    assert [chart["title"] for chart in made] == [
        "Training loss, layers 0, 1",
        "Alignment loss, layers 0, 1",
    ]


def test_what_an_older_version_trained_is_named_for_what_it_is(tmp_path: Path) -> None:
    """Without terms a sum is called one, and no alignment loss is made up."""
    ((language, alignment),) = drawn(report_of(tmp_path, "joint", joint_layers()))
    assert language["this run, sum of its losses"] == [(100, 9.0), (110, 8.0)] and not alignment
    assert language["this run"] == [(120, 0.7)]


@pytest.mark.parametrize("terms", [{}, {"lm": 1.5, "alignment_0": 0.4}])
@pytest.mark.parametrize("schedule", ["sequential", "hybrid"])
def test_only_the_loops_local_phase_is_an_alignment_loss_by_itself(
    schedule: str, terms: dict[str, float], tmp_path: Path
) -> None:
    loop = schedule == "sequential"
    local = {name: value for name, value in terms.items() if name != "lm" or not loop}
    align = {
        "n_aligned": 4 if loop else {"0": 4},
        "local": record(10, 0.5, **local),
        "joint": record(10, 2.0, **terms),
    }
    facts = report_of(tmp_path, schedule, [{"align": align, "continue": record(10, 1.2)}])
    ((language, alignment),) = drawn(facts)
    mixed = [] if terms else [*([] if loop else [(10, 0.5)]), (20, 2.0)]
    assert language.get("this run, sum of its losses", []) == mixed
    assert language["this run"] == [
        *([(10, 1.5)] if terms and not loop else []),
        *([(20, 1.5)] if terms else []),
        (30, 1.2),
    ]
    assert alignment.get("layer 0", []) == (
        [(10, 0.4), (20, 0.4)] if terms else [(10, 0.5)] if loop else []
    )


@pytest.mark.parametrize("terms", [{}, {"lm": 2.0}])
def test_a_run_without_aligned_nodes_has_no_alignment_loss(
    terms: dict[str, float], tmp_path: Path
) -> None:
    align = {"n_aligned": 0, "local": record(10, 2.0, **terms), "joint": record(10, 2.0, **terms)}
    facts = report_of(
        tmp_path, "sequential", [{"align": align, "continue": record(10, 1.2)}], n_aligned=0
    )
    assert drawn(facts) == [({"this run": [(10, 2.0), (20, 2.0), (30, 1.2)]}, {})]
    assert [chart["title"] for chart in curves.charts(facts)] == ["Training loss, layer 0"]


def test_a_chart_has_no_more_lines_than_colours(tmp_path: Path) -> None:
    terms = {"lm": 1.0} | {f"alignment_{layer}": 0.5 for layer in range(8)}
    layers = [{"align": {"n_aligned": {}, "joint": record(100, 9.0, **terms)}}] * 8
    made = curves.charts(report_of(tmp_path, "joint", layers))
    assert [str(chart["svg"]).count("<polyline") for chart in made] == [1, 6, 2]
