"""Curves of training: what is kept beside the loss, that keeping it changes nothing, and what the
report draws of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_subjects import ArrayBlocks, random_model
from training_jobs import aligned, place, plan, write_corpus

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Recipe, Store
from interp_by_construction.report import curves
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.training.batches import Stream, TargetBlocks, by_step
from interp_by_construction.training.fit import PhaseRecord, fit
from interp_by_construction.training.modules import AlignmentModule
from interp_by_construction.training.phases import Phase, Reading


class Killed(Exception):
    pass


def joint_phase(
    root: Path, name: str, weight: float, n_align: int, alive_for: int = 1000
) -> tuple[Any, PhaseRecord]:
    """50 steps, of which `n_align` read text with targets; a checkpoint after each if it may be
    killed."""
    if not (root / "blocks").exists():
        write_corpus(root)
    model, layers = random_model("gpt2"), [aligned(0, [0, 1]), aligned(1, [0, 1, 2])]
    reads = Reading("align", n_align, 4, 0), Reading("train", 50 - n_align, 4, 1)
    stream = Stream(Phase(name, reads, 0, 50, 1e-2), root, layers)
    module = AlignmentModule(model, plan(50), layers, weight, "correlation")
    left = [alive_for]

    def at(step: int) -> dict[str, torch.Tensor]:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return stream.at(step)

    seconds = 0.0 if alive_for < 1000 else 3600.0
    return model, fit(module, at, place(root / name, seconds))


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, PhaseRecord]:
    """A phase in which only every second batch has targets."""
    return joint_phase(tmp_path_factory.mktemp("half"), "whole", 0.3, 25)


@pytest.mark.parametrize("n_align", [50, 25])
def test_the_terms_add_up_to_the_loss(
    n_align: int, half: tuple[Any, PhaseRecord], tmp_path: Path
) -> None:
    """At every point of the curve."""
    _, record = half if n_align == 25 else joint_phase(tmp_path, "whole", 0.3, n_align)
    terms = record.terms
    assert set(terms) == {"lm", "alignment_0", "alignment_1"}
    steps, total = np.array(record.curve).T
    assert steps.tolist() == [20, 40, 50] and all(
        np.array(curve)[:, 0].tolist() == steps.tolist() for curve in terms.values()
    )
    alignment = sum(np.array(terms[f"alignment_{layer}"])[:, 1] for layer in (0, 1))
    np.testing.assert_allclose(
        total, np.array(terms["lm"])[:, 1] + 0.3 * n_align / 50 * alignment, atol=3e-6
    )


def test_a_local_phase_has_its_alignment_alone_and_an_lm_phase_no_terms(tmp_path: Path) -> None:
    def phase(nodes: list[int], local: bool, name: str) -> PhaseRecord:
        layers = [aligned(1, nodes)]
        module = AlignmentModule(random_model("gpt2"), plan(5), layers, 1.0, "correlation", local)
        at = by_step(TargetBlocks(ArrayBlocks(), layers), 0, 4)
        return fit(module, at, place(tmp_path / name))

    local = phase([0, 1], True, "local")
    assert local.terms == {"alignment_1": local.curve}
    # A layer without a label trains on the LM loss alone: no alignment loss of 0 is claimed.
    assert phase([], False, "free").terms == {}


def test_a_killed_phase_ends_with_the_same_terms(
    half: tuple[Any, PhaseRecord], tmp_path: Path
) -> None:
    whole, expected = half
    for alive_for in (13, 17):
        with pytest.raises(Killed):
            joint_phase(tmp_path, "killed", 0.3, 25, alive_for)
    resumed, record = joint_phase(tmp_path, "killed", 0.3, 25, 26)
    assert record == expected
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


def record(steps: int, loss: float, **terms: float) -> dict[str, Any]:
    kept = {name: [[steps, value]] for name, value in terms.items()}
    return {"steps": steps, "loss": loss, "curve": [[steps, loss]], "terms": kept}


def trained(n_aligned: dict[str, int] | None = None, **phases: dict[str, Any]) -> dict[str, Any]:
    """Metrics of a stage that trains."""
    named = [{"name": name} | phase for name, phase in phases.items()]
    return {"phases": named} | ({} if n_aligned is None else {"n_aligned": n_aligned})


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
    return RunFacts(RunDirectory(Path("/runs/x")), {"schedule": schedule, "layers": records}, store)


def joint_layers(**terms: float) -> list[dict[str, Any]]:
    """Layers 0 and 1 aligned at once for 100 steps, then 10 steps after each freeze."""
    align = trained({"0": 4, "1": 4}, joint=record(100, 9.0, **terms))
    above = {name: value for name, value in terms.items() if name != "alignment_0"}
    return [
        {
            "align": align,
            "continue": trained(settle_0=record(10, 8.0, **above)),
            "control": trained(joint=record(100, 1.0), settle_0=record(10, 0.9)),
        },
        {
            "align": align,
            "continue": trained(settle_1=record(10, 0.7)),
            "control": trained(settle_1=record(10, 0.8)),
        },
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


def test_the_local_phase_is_an_alignment_loss_by_itself(tmp_path: Path) -> None:
    terms = {"lm": 1.5, "alignment_0": 0.4}
    local, joint = record(10, 0.5, alignment_0=0.5), record(10, 2.0, **terms)
    align = trained({"0": 4}, local=local, joint=joint)
    rest = trained(**{"continue": record(10, 1.2)})
    ((language, alignment),) = drawn(
        report_of(tmp_path, "sequential", [{"align": align, "continue": rest}])
    )
    assert language == {"this run": [(20, 1.5), (30, 1.2)]}
    assert alignment == {"layer 0": [(10, 0.5), (20, 0.4)]}


@pytest.mark.parametrize("terms", [{}, {"lm": 2.0}])
def test_a_run_without_aligned_nodes_has_no_alignment_loss(
    terms: dict[str, float], tmp_path: Path
) -> None:
    """With terms where it is distilled."""
    align = trained({"0": 0}, local=record(10, 2.0, **terms), joint=record(10, 2.0, **terms))
    rest = trained(**{"continue": record(10, 1.2)})
    facts = report_of(tmp_path, "sequential", [{"align": align, "continue": rest}], n_aligned=0)
    assert drawn(facts) == [({"this run": [(10, 2.0), (20, 2.0), (30, 1.2)]}, {})]
    assert [chart["title"] for chart in curves.charts(facts)] == ["Training loss, layer 0"]


def test_a_chart_has_no_more_lines_than_colours(tmp_path: Path) -> None:
    terms = {"lm": 1.0} | {f"alignment_{layer}": 0.5 for layer in range(8)}
    layers = [{"align": trained({}, joint=record(100, 9.0, **terms))}] * 8
    made = curves.charts(report_of(tmp_path, "joint", layers))
    assert [str(chart["svg"]).count("<polyline") for chart in made] == [1, 6, 2]
