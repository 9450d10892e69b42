"""Aligned nodes that start as neurons which do what their labels say
(align.start=silent|readout)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_server import FakeServer
from small_run import QUICK, config
from stock import Stock
from tiny_subjects import LENGTH, ArrayBlocks, random_model

from interp_by_construction import pipeline
from interp_by_construction.subject.families import input_directions, mlp_in
from interp_by_construction.subject.hooks import activations, mlp_flow
from interp_by_construction.subject.solu import Solu
from interp_by_construction.training.batches import TokenBlocks
from interp_by_construction.training.losses import pearson_columns
from interp_by_construction.training.targets import LayerTargets
from interp_by_construction.training.warm_start import (
    Start,
    StartRecord,
    firing_share,
    warm_start,
)

LAYER, NODES, N_BLOCKS = 1, [3, 7, 20, 11], 40
SILENT = 7


BLOCKS = TokenBlocks(ArrayBlocks(N_BLOCKS))
IDS = BLOCKS.batch(np.arange(N_BLOCKS))["input_ids"]


def started(
    model: Any, targets: tuple[torch.Tensor, torch.Tensor], start: Start, poles: list[int] = [1] * 4
) -> StartRecord:
    aligned = LayerTargets(LAYER, NODES, poles, *targets)
    return warm_start(model, aligned, BLOCKS, seed=0, start=start)


def subject(family: str = "gpt_neox") -> Any:
    """ReLU neurons, one of which never fires."""
    torch.manual_seed(0)
    model = random_model(family)
    if hasattr(model.config, "hidden_act") and family == "gpt_neox":
        for block in model.gpt_neox.layers:
            block.mlp.act = torch.nn.ReLU()
    bias = getattr(mlp_in(model, LAYER)[0], "bias", None)
    if bias is not None:
        with torch.no_grad():
            bias[SILENT] = -100.0
    return model


def told(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets that the layer's input shows, but for the last, which nothing does; some tokens have
    none."""
    with torch.no_grad():
        read = mlp_flow(model, LAYER, IDS).read
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(read.shape[1], len(NODES), generator=generator)
    values = torch.relu(read @ directions - (read @ directions).std(0))
    values[:, -1] = torch.rand(len(values), generator=generator)
    mask = torch.rand(N_BLOCKS, LENGTH, generator=generator) > 0.1
    return values.unflatten(0, (N_BLOCKS, LENGTH)).half(), mask


def correlations(model: Any, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        real = activations(model, LAYER, IDS)[..., NODES]
    return pearson_columns(real[mask], values[mask])


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2"])
def test_nodes_start_where_their_targets_are_and_no_other_weight_moves(family: str) -> None:
    model = subject(family)
    before = copy.deepcopy(model)
    values, mask = told(model)
    found = started(model, (values, mask), "readout")
    old, new = correlations(before, values, mask), correlations(model, values, mask)
    if family == "gpt_neox":
        assert old[1].isnan()
    assert found.n_replaced >= 3 and (new[:3] > 0.7).all() and old[:3].nan_to_num(0.0).max() < 0.5
    assert (new >= old.nan_to_num(-1.0) - 1e-6).all()
    assert found.r_before == pytest.approx(
        float(old.nanmean()), abs=1e-4
    ) and found.n_undefined_before == int(old.isnan().sum())
    assert (
        found.r_after == pytest.approx(float(new.mean()), abs=1e-4) and found.n_undefined_after == 0
    )
    others = [
        node for node in range(input_directions(model, LAYER)[0].shape[0]) if node not in NODES
    ]
    for name, value in before.state_dict().items():
        changed = value != model.state_dict()[name]
        own = ("layers.1.mlp.dense_h_to_4h", "h.1.mlp.c_fc")
        assert not changed.any() or any(part in name for part in own), name
    assert torch.equal(
        input_directions(before, LAYER)[0][others], input_directions(model, LAYER)[0][others]
    )
    # The node is as active as it was, so that what reads it is disturbed little.
    with torch.no_grad():
        spreads = [activations(each, LAYER, IDS)[mask][:, NODES].std(0) for each in (before, model)]
    alive = [i for i, node in enumerate(NODES) if node != SILENT]
    torch.testing.assert_close(
        spreads[1][alive], spreads[0][alive], rtol=0.02 if family == "gpt_neox" else 1.0, atol=0.05
    )
    again = copy.deepcopy(before)
    started(again, (values, mask), "readout")
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_of_silent_nodes_only_those_are_replaced_that_no_gradient_reaches() -> None:
    model = subject()
    before = copy.deepcopy(model)
    values, mask = told(model)
    found = started(model, (values, mask), "silent")
    assert found.n_silent == found.n_replaced == 1
    changed = (input_directions(before, LAYER)[0] != input_directions(model, LAYER)[0]).any(1)
    assert changed.nonzero().flatten().tolist() == [SILENT]
    assert correlations(model, values, mask)[1] > 0.7
    assert started(before, (values, mask), "node") == StartRecord(0)
    assert started(model, (values, mask), "silent").n_replaced == 0


def test_the_firing_share_is_that_of_the_target_above_its_mean() -> None:
    wanted = torch.tensor([[0.0, 1.0], [0.0, 1.0], [4.0, 1.0], [8.0, 1.0]])
    real = torch.tensor([[1.0, 1.0], [1.0, 1.0], [2.0, 1.0], [-1.0, 1.0]])
    torch.testing.assert_close(firing_share(real, wanted), torch.tensor([1 / 6, 0.0]))


def test_a_negative_pole_stays_where_no_gate_gives_a_node_that_sign() -> None:
    model = subject()
    values, mask = told(model)
    before = input_directions(model, LAYER)[0].clone()
    assert started(model, (values, mask), "readout", [-1] * 4).n_replaced == 0
    assert torch.equal(before, input_directions(model, LAYER)[0])


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_gated_nodes_start_where_their_targets_are_with_either_pole(family: str) -> None:
    model = subject(family)
    before = copy.deepcopy(model)
    values, mask = told(model)
    assert started(model, (values, mask), "silent") == StartRecord(0)
    poles = [1, -1, 1, 1]
    found = started(model, (values, mask), "readout", poles)
    signs = torch.tensor(poles)
    old, new = correlations(before, values, mask) * signs, correlations(model, values, mask) * signs
    assert found.n_replaced >= 3 and (new[:3] > 0.7).all() and old[:3].max() < 0.5
    assert (new >= old - 1e-6).all() and found.r_after == pytest.approx(float(new.mean()), abs=1e-4)
    for name, value in before.state_dict().items():
        rows = (
            (value != model.state_dict()[name]).flatten(1).any(1)
            if value.ndim > 1
            else value != model.state_dict()[name]
        )
        ours = any(
            name.endswith(f"layers.{LAYER}.mlp.{part}.weight") for part in ("gate_proj", "up_proj")
        )
        assert set(rows.nonzero().flatten().tolist()) <= (set(NODES) if ours else set()), name
    with torch.no_grad():
        spreads = [activations(each, LAYER, IDS)[mask][:, NODES].std(0) for each in (before, model)]
    torch.testing.assert_close(spreads[1], spreads[0], rtol=0.2, atol=0.02)


def test_nodes_without_weights_of_their_own_stay(caplog: pytest.LogCaptureFixture) -> None:
    model = subject("gpt2")
    values, mask = told(model)
    for block in model.transformer.h:
        block.mlp.act = Solu(24)
    old = copy.deepcopy(model.state_dict())
    with caplog.at_level("WARNING"):
        assert started(model, (values, mask), "readout") == StartRecord(0)
    assert "align.start=readout" in caplog.text
    assert all(torch.equal(value, old[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("schedule", ["sequential", "joint"])
def test_every_schedule_starts_from_readouts_and_shares_all_else(
    schedule: str, stock: Stock, tmp_path: Path
) -> None:
    more = (
        f"schedule={schedule}",
        "audit.enabled=false",
        "work.enabled=false",
        "evaluate.max_truth_tokens=640",
        *QUICK,
    )
    root = stock.link(tmp_path)
    with FakeServer() as server:
        configs = {
            start: config(server, root, *more, f"align.start={start}", f"run={start}")
            for start in ("node", "silent", "readout")
        }
        links = {
            start: pipeline.graph_of(cfg, [1, 2]).plan()["layers"] for start, cfg in configs.items()
        }
        # That a run which starts from its nodes keeps them is seen elsewhere.
        runs = {start: pipeline.run(configs[start]) for start in ("silent", "readout")}
    for layer in ("1", "2"):
        assert len({each[layer]["align"][1] for each in links.values()}) == 3
        assert len({each["1"]["control"][1] for each in links.values()}) == 1
    for start, run in runs.items():
        assert run.state["plan"]["layers"] == links[start]
        assert run.summary is not None and run.summary["invariants"]["frozen_identical"] is True
