"""Laws of the knobs of alignment (objective, distillation) and of the runs that are
controls (target, no nodes)."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_server import FakeServer
from safetensors.numpy import load_file as load_numpy
from small_run import QUICK, config
from stock import Stock
from tiny_subjects import LENGTH, VOCAB, ArrayBlocks, random_model, tokens
from training_jobs import aligned, place, plan

from interp_by_construction import pipeline
from interp_by_construction.config import compose
from interp_by_construction.corpus.parts import part_passage
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.errors import ConfigError
from interp_by_construction.simulators.exact import contrasted
from interp_by_construction.stats.baselines import other_labels
from interp_by_construction.stats.correlation import columnwise_correlation
from interp_by_construction.subject.families import layer_family, mlp_in
from interp_by_construction.subject.hooks import activations, capture, others_at_mean
from interp_by_construction.subject.interventions import replaced
from interp_by_construction.subject.load import load_subject
from interp_by_construction.training.batches import TargetBlocks, by_step
from interp_by_construction.training.fit import PhaseRecord, fit
from interp_by_construction.training.losses import (
    Objective,
    alignment_loss,
    correlation_loss,
    distill_loss,
    lm_loss,
)
from interp_by_construction.training.modules import (
    AlignmentModule,
    Distill,
    FreeAblation,
    free_ablation,
)
from interp_by_construction.training.targets import (
    MARGIN,
    LayerTargets,
    other_nodes,
    resemblance,
    shifted,
)

NODES = [1, 4, 17]


def _batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(4, 25, 3, generator=generator)
    x = 0.4 * y + torch.randn(4, 25, 3, generator=generator) * 2 + 5
    return x, y, torch.rand(4, 25, generator=generator) > 0.3


def test_mse_is_that_of_a_reference_and_knows_no_scale() -> None:
    x, y, mask = _batch()
    expected, gradients = [], np.zeros(x.shape)
    for node in range(3):
        real, target = x[mask][:, node].double().numpy(), y[mask][:, node].double().numpy()
        calibrated = real.mean() + real.std() / target.std() * (target - target.mean())
        expected.append(np.mean((real - calibrated) ** 2) / (2 * real.var()))
        gradients[mask.numpy(), node] = (real - calibrated) / (len(real) * real.var()) / 3
    x.requires_grad_()
    result = alignment_loss("mse", x, y, mask)
    result.loss.backward()
    assert x.grad is not None
    np.testing.assert_allclose(float(result.loss.detach()), np.mean(expected), rtol=1e-5)
    np.testing.assert_allclose(x.grad, gradients, rtol=1e-4, atol=1e-7)
    for scaled in (
        alignment_loss("mse", x, 30 * y - 4, mask),
        alignment_loss("mse", 0.01 * x + 3, y, mask),
    ):
        torch.testing.assert_close(scaled.loss, result.loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.loss, correlation_loss(x, y, mask).loss, rtol=1e-5, atol=1e-6)


def test_mse_counts_what_is_constant_as_correlation_does() -> None:
    x, y, _ = _batch()
    x[..., 1], y[..., 2] = 0.0, 1.0
    x.requires_grad_()
    result, other = alignment_loss("mse", x, y), alignment_loss("correlation", x, y)
    result.loss.backward()
    torch.testing.assert_close(result.loss, other.loss)
    assert result.n_constant_targets == 1 == result.n_constant_activations
    torch.testing.assert_close(result.r, other.r, equal_nan=True)
    assert x.grad is not None and bool(x.grad.isfinite().all()) and not x.grad[..., 1:].any()


@pytest.mark.parametrize("start", [0.0, -0.6])
def test_mse_does_not_collapse_where_node_and_target_do_not_agree_yet(start: float) -> None:
    """Least squares' slope would be 0 or negative here: the node would die, or be trained to do the
    opposite."""
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(8, 50, 1, generator=generator)
    x = (start * y + torch.randn(8, 50, 1, generator=generator)).requires_grad_()
    before = float(x.detach().std())
    optimizer = torch.optim.SGD([x], lr=40.0)
    for _ in range(100):
        optimizer.zero_grad()
        alignment_loss("mse", x, y).loss.backward()
        optimizer.step()
    result = alignment_loss("mse", x, y)
    assert float(result.r) > 0.99 and float(x.detach().std()) > 0.2 * before


def test_distillation_is_kl_and_nothing_for_the_same_model() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, original = (
        torch.randn(2, 5, 11, generator=generator),
        torch.randn(2, 5, 11, generator=generator),
    )
    p, q = original.double().softmax(-1), ours.double().softmax(-1)
    expected = (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(
        distill_loss(ours, original).double(), expected, rtol=1e-5, atol=1e-7
    )
    same = original.clone().requires_grad_()
    loss = distill_loss(same, original)
    loss.backward()
    assert same.grad is not None
    assert abs(float(loss.detach())) < 1e-6 and float(same.grad.abs().max()) < 1e-7
    original.requires_grad_()
    distill_loss(ours.requires_grad_(), original).backward()
    assert original.grad is None


LAYER = aligned(1, NODES, [1, -1, 1])


def _module(model: Any, objective: Objective = "correlation", **more: Any) -> AlignmentModule:
    return AlignmentModule(model, plan(16, **more), [LAYER], 1.0, objective)


class _Killed(Exception):
    pass


class _DyingBlocks(TargetBlocks):
    """Raises after some batches, as a kill would stop it."""

    left = 1000

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        self.left -= 1
        if self.left < 0:
            raise _Killed
        return super().batch(indices)


def test_a_killed_phase_with_every_knob_ends_in_the_same_bits(tmp_path: Path) -> None:
    def phase(model: Any, alive_for: int, scratch: Path) -> PhaseRecord:
        original = random_model("gpt2").requires_grad_(False)
        blocks = _DyingBlocks(ArrayBlocks(), [LAYER])
        blocks.left = alive_for
        knobs = {"distill": Distill(original, 0.5), "ablation": FreeAblation(0.5, [(1, NODES)])}
        record = fit(_module(model, "mse", **knobs), by_step(blocks, 3, 4), place(scratch))
        assert all(
            torch.equal(a, b)
            for a, b in zip(original.parameters(), random_model("gpt2").parameters(), strict=True)
        )
        return record

    whole, resumed = random_model("gpt2"), random_model("gpt2")
    expected = phase(whole, 1000, tmp_path / "whole")
    with pytest.raises(_Killed):
        phase(random_model("gpt2"), 6, tmp_path / "killed")
    # A phase that began anew would need 16 batches.
    assert phase(resumed, 12, tmp_path / "killed") == expected
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


def test_the_original_is_no_part_of_a_checkpoint_and_holds_the_model_back() -> None:
    model = random_model("gpt2")
    plain, held = (
        _module(copy.deepcopy(model)),
        _module(model, distill=Distill(random_model("gpt2", seed=1), 2.0)),
    )
    assert plain.state_dict().keys() == held.state_dict().keys()
    logits, input_ids = torch.randn(3, LENGTH, VOCAB), tokens()
    language, parts = held._language(logits, input_ids)
    with torch.no_grad():
        original = random_model("gpt2", seed=1)(input_ids).logits
    torch.testing.assert_close(language, parts["lm_loss"] + 2.0 * distill_loss(logits, original))
    assert torch.equal(plain._language(logits, input_ids)[0], parts["lm_loss"])


def test_free_nodes_are_ablated_on_their_share_of_steps_one_layer_at_a_time() -> None:
    layers = [(0, [1, 2]), (2, [0])]
    for share, expected in (
        (0.5, [None, 0, None, 2, None, 0, None, 2]),
        (1.0, [0, 2] * 4),
        (0.25, [None] * 3 + [0] + [None] * 3 + [2]),
    ):
        ablated = [FreeAblation(share, layers).at(step) for step in range(8)]
        assert [None if each is None else each[0] for each in ablated] == expected
        assert all(each is None or each in layers for each in ablated)
    assert free_ablation(0.0, layers) is None
    # A layer without aligned nodes has nothing that its work could flow through.
    assert free_ablation(1.0, [(0, []), (2, [0])]) == FreeAblation(1.0, [(2, [0])])
    assert FreeAblation(1.0, []).at(0) is None


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "gpt_neox"])
def test_an_ablated_step_is_mean_ablation_and_trains_what_is_left(name: str) -> None:
    """The same loss as the measurement of `work` takes with these means; free nodes get no
    gradient, aligned ones do."""
    model, ids = random_model(name), tokens()
    own = activations(model, 1, ids).detach()
    free = torch.tensor([node for node in range(own.shape[-1]) if node not in NODES])
    with (
        torch.no_grad(),
        replaced(
            model, 1, free, own[..., free].mean((0, 1)), torch.ones(ids.shape, dtype=torch.bool)
        ),
    ):
        expected = lm_loss(model(ids).logits, ids)
    module = _module(model, ablation=FreeAblation(1.0, [(1, NODES)]))
    with others_at_mean(model, 1, NODES), capture(model, 1) as captured:
        loss = lm_loss(module._logits(ids), ids)
    torch.testing.assert_close(loss, expected)
    kept = captured.of(ids)
    assert torch.equal(kept[..., NODES], own[..., NODES]) and not torch.equal(kept, own)
    loss.backward()
    for projection in mlp_in(model, 1):
        gradient = (
            projection.weight.grad.T if layer_family(model, 1).conv1d else projection.weight.grad
        )
        assert not gradient[free].any() and gradient[NODES].any(dim=1).all()
    with torch.no_grad():
        torch.testing.assert_close(_module(model)._logits(ids), model(ids).logits)


def test_shuffled_targets_are_those_of_other_nodes() -> None:
    for n in (2, 3, 10, 64):
        other = other_nodes(n, seed=n, layer=1)
        assert sorted(other) == list(range(n)) and not (other == np.arange(n)).any()
        assert np.array_equal(other, other_nodes(n, seed=n, layer=1))
    # The substitution by other nodes' labels must not test the very labels that were trained
    # towards.
    assert not np.array_equal(other_nodes(64, 0, 1), other_labels(64, 0))
    assert not np.array_equal(other_nodes(64, 0, 1), other_nodes(64, 0, 2))
    assert other_nodes(0, 0, 1).shape == (0,)
    with pytest.raises(ConfigError, match=r"align.target=shuffled.*layer 3.*align.target=random"):
        other_nodes(1, 0, 3)
    shuffled = LAYER.towards("shuffled", 0).values
    assert torch.equal(shuffled, LAYER.values[..., other_nodes(3, 0, 1)])
    assert LAYER.towards("label", 0) is LAYER


def _sparse_text(
    n_blocks: int = 80, length: int = 64, n_nodes: int = 12
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rectified first-order autoregressive noise: mostly zero, in bursts; and where it is
    defined."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(n_blocks * length, n_nodes))
    for i in range(1, len(noise)):
        noise[i] += 0.8 * noise[i - 1]
    values = np.maximum(noise - 1.5, 0).reshape(n_blocks, length, n_nodes)
    return torch.from_numpy(values).half(), torch.from_numpy(rng.random((n_blocks, length)) > 0.05)


def test_random_targets_have_all_of_a_targets_statistics_but_its_relation_to_text() -> None:
    values, mask = _sparse_text()
    moved = shifted(values, mask, seed=0, layer=1)
    trained = LayerTargets(1, list(range(12)), [1] * 12, values, mask).towards("random", 0)
    assert torch.equal(moved, trained.values) and torch.equal(moved[~mask], values[~mask])
    real, surrogate = values[mask].double().numpy(), moved[mask].double().numpy()
    # Mean, variance and sparsity, exactly: the same values.
    assert (
        np.array_equal(np.sort(real, axis=0), np.sort(surrogate, axis=0))
        and 0.2 < (real == 0).mean() < 0.9
    )
    for lag in (1, 2, 5, 20):
        circular, plain = (
            [_autocorrelation(x, lag, around) for x in (real, surrogate)]
            for around in (True, False)
        )
        np.testing.assert_allclose(*circular, atol=1e-9)
        np.testing.assert_allclose(*plain, atol=0.01)
    assert _autocorrelation(real, 1, True).min() > 0.5
    own = [np.corrcoef(real[:, i], surrogate[:, i])[0, 1] for i in range(12)]
    assert np.abs(own).max() < 0.1
    found = resemblance(values, moved, mask)
    assert found is not None and abs(found - np.mean(own)) < 1e-6
    for node in range(12):
        offset = _offset(real[:, node], surrogate[:, node])
        assert MARGIN * len(real) - 1 <= offset <= (1 - MARGIN) * len(real) + 1
        assert np.array_equal(np.roll(real[:, node], offset), surrogate[:, node])
    assert not torch.equal(moved, shifted(values, mask, seed=1, layer=1))


def _offset(real: np.ndarray, surrogate: np.ndarray) -> int:
    """Where their circular cross-correlation is highest."""
    return int(np.argmax(np.fft.ifft(np.fft.fft(surrogate) * np.conj(np.fft.fft(real))).real))


def _autocorrelation(x: np.ndarray, lag: int, around: bool) -> np.ndarray:
    centred = x - x.mean(axis=0)
    other = np.roll(centred, -lag, axis=0)
    kept = slice(None) if around else slice(0, len(x) - lag)
    return (centred * other)[kept].sum(axis=0) / (centred**2).sum(axis=0)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("align.objective=mae", "align.objective=mae"),
        ("align.target=other", "align.target=other"),
        ("align.distill=-1", "align.distill=-1"),
        ("align.ablate_free=1.5", "align.ablate_free=1.5"),
        ("nodes.count=1", "nodes.count=1"),
    ],
)
def test_bad_knobs_are_named(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        compose([override])


def test_the_whole_layer_cannot_be_no_nodes() -> None:
    with pytest.raises(ConfigError, match=r"nodes.select=all"):
        compose(["nodes.count=0", "nodes.select=all"])


JOBS = {
    "label": [],
    "shuffled": ["align.target=shuffled"],
    "random": [
        "align.target=random",
        "align.objective=mse",
        "align.ablate_free=0.5",
    ],
    "distilled": ["align.distill=0.5"],
    "none": ["nodes.count=0"],
}


@pytest.fixture(scope="module")
def runs(
    stock: Stock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, RunDirectory]]]:
    """One store; one run for each target, and one without nodes."""
    root = stock.link(tmp_path_factory.mktemp("knobs"))
    shared = ("layer=1", "run=knobs", "audit.enabled=false", "work.enabled=false", *QUICK)
    with FakeServer() as server:
        yield (
            root,
            {
                job: pipeline.run(config(server, root, *shared, *more), f"knobs/{job}")
                for job, more in JOBS.items()
            },
        )


def test_targets_share_all_but_what_is_trained(runs: tuple[Path, dict[str, RunDirectory]]) -> None:
    links = {job: run.state["layers"]["1"] for job, run in runs[1].items()}
    for stage in ("collect", "label", "simulate", "control", "freeze_only"):
        assert len({links[job][stage] for job in ("label", "shuffled", "random")}) == 1, stage
    for stage in ("collect", "label", "simulate"):
        assert links["distilled"][stage] == links["label"][stage]
    for stage in ("align", "continue", "evaluate"):
        assert len({link[stage] for link in links.values()}) == len(JOBS), stage


def test_a_distilled_run_has_distilled_comparisons(
    runs: tuple[Path, dict[str, RunDirectory]],
) -> None:
    run, plain, store = runs[1]["distilled"], runs[1]["label"], runs[0] / "store"
    for stage in ("continue", "control", "freeze_only"):
        fingerprint = run.state["layers"]["1"][stage]
        recipe = json.loads((store / stage / fingerprint / "manifest.json").read_text())
        assert (
            recipe["config"]["conditions"]["distill"] == 0.5
            and recipe["parents"]["original"] == run.state["shared"]["subject"]
        )
        weights, undistilled = (
            load_subject(store / stage / each / "model").state_dict()
            for each in (fingerprint, plain.state["layers"]["1"][stage])
        )
        assert any(not torch.equal(weights[name], undistilled[name]) for name in weights)


def test_summaries_say_which_runs_are_controls_and_what_scores_mean(
    runs: tuple[Path, dict[str, RunDirectory]],
) -> None:
    summaries = {job: run.summary or {} for job, run in runs[1].items()}
    assert {job: summary["align"]["control"] for job, summary in summaries.items()} == {
        "label": None,
        "shuffled": "shuffled",
        "random": "random",
        "distilled": None,
        "none": "no_alignment",
    }
    layers = {job: summary["layers"][0] for job, summary in summaries.items()}
    assert layers["label"]["target"] == {"kind": "label"}
    for job in ("shuffled", "random"):
        target = layers[job]["target"]
        assert (
            target["kind"] == job
            and abs(target["r_with_label"]) < 0.9
            and -1 <= target["r_in_sample"] <= 1
        )
        assert target["n"] + target["n_undefined"] == layers[job]["n_aligned"] == 4
    trained = layers["shuffled"]["score_more"]["trained"]
    assert (
        trained["n"] + trained["n_undefined"] == 4
        and "trained" not in layers["random"]["score_more"]
    )
    # Whatever was trained towards, what is scored before is the same node against the same label.
    assert (
        layers["shuffled"]["score"]["before"]
        == layers["label"]["score"]["before"]
        == layers["random"]["score"]["before"]
    )


def test_trained_scores_are_against_the_labels_that_training_saw(
    runs: tuple[Path, dict[str, RunDirectory]],
) -> None:
    """Each node with the simulation of the label that `other_nodes` gives it, read from the
    artifacts alone."""
    run, store = runs[1]["shuffled"], runs[0] / "store"
    links, cfg = run.state["layers"]["1"], run.config()
    corpus, simulated = (
        store / "corpus" / run.state["shared"]["corpus"],
        store / "simulate" / links["simulate"],
    )
    text, values = (
        part_passage(corpus, "score", cfg.simulate),
        load_numpy(simulated / "simulated.safetensors"),
    )
    targets, use = load_numpy(simulated / "targets.safetensors"), text.is_text.reshape(-1)
    ids = torch.tensor(text.ids)
    with torch.no_grad():
        real = (
            activations(load_subject(store / "continue" / links["continue"] / "model"), 1, ids)
            .flatten(0, 1)
            .numpy()
        )
    said = contrasted(values["score"], values["score_reference"], cfg.simulate.contrast)[
        :, other_nodes(4, cfg.seed, 1)
    ]
    expected = columnwise_correlation(real[use][:, targets["nodes"]] * targets["poles"], said[use])
    scores = load_numpy(store / "evaluate" / links["evaluate"] / "scores.safetensors")
    np.testing.assert_allclose(scores["trained"], expected, atol=1e-5)
    assert not np.allclose(scores["trained"], scores["final"], atol=1e-3)


def test_a_run_without_nodes_is_its_own_freeze_only_control(
    runs: tuple[Path, dict[str, RunDirectory]],
) -> None:
    summary = runs[1]["none"].summary or {}
    layer, loss = summary["layers"][0], summary["loss"]
    assert (
        layer["n_aligned"] == layer["n_failed_labels"] == layer["n_distinct_labels"] == 0
        and layer["n_free"] == layer["n_nodes"]
    )
    assert layer["score"].pop("second") is None
    for score in layer["score"].values():
        assert (
            score["mean"] is None
            and score["ci95"] is None
            and score["n"] == score["n_undefined"] == 0
        )
    assert (
        loss["final"] == loss["freeze_only"]
        and loss["tax"] == loss["freeze_cost"]
        and len(loss["tax_ci95"]) == 2
    )
    assert summary["complete"] and summary["invariants"]["frozen_identical"]
