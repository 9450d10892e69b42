"""Laws of the subject's knobs: free.count, nodes.fraction, model.activation, model.bias_init,
subject.adapt_steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fake_server import FakeServer
from small_run import config
from stage_jobs import given
from stock import Stock
from tiny_subjects import tokens
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from interp_by_construction import pipeline
from interp_by_construction.config import (
    ModelConfig,
    NodesConfig,
    SubjectConfig,
    compose,
)
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError
from interp_by_construction.export import export_checkpoint
from interp_by_construction.export.run import export_run
from interp_by_construction.labelling.evidence import choose_nodes
from interp_by_construction.results.verification import verify
from interp_by_construction.stages.subject import Subject
from interp_by_construction.subject import families
from interp_by_construction.subject.freeze import frozen_for_continue, upstream
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject, save_subject, tiny_model, untie
from interp_by_construction.subject.widen import pad, widen, widths

SHAPE = SubjectConfig(n_layers=2, d_model=16, d_mlp=24, n_heads=2)
NODES = [1, 4, 17]


def subject(activation: str = "solu", **more: float) -> PreTrainedModel:
    model = tiny_model(SHAPE, 48, 64, 0, 0, ModelConfig(activation=activation, **more))  # type: ignore[arg-type]
    untie(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.1
                * torch.randn(
                    parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())
                )
            )
    return model


# Adaptation.


def test_adaptation_is_in_the_fingerprint_of_a_pretrained_subject_alone(tmp_path: Path) -> None:
    def fingerprint(*overrides: str) -> str:
        return Subject.of(compose(list(overrides)), given(tmp_path)).fingerprint

    pretrained = "subject=smollm2", "trainer.warmup=0.2"
    # What is not trained depends on no seed and on no optimizer.
    plain = fingerprint("subject=smollm2")
    assert plain == fingerprint(*pretrained, "seed=3")
    adapted = {
        fingerprint("subject=smollm2", "subject.adapt_steps=7", *more)
        for more in ((), ("seed=3",), ("trainer.warmup=0.2",), ("subject.adapt_lr=1",))
    }
    assert len(adapted) == 4 and plain not in adapted
    scratch = Subject.of(compose([]), given(tmp_path))
    assert scratch.adaptation is None and scratch.fingerprint != fingerprint("seed=3")


# Activation and bias.


def test_solu_is_its_formula() -> None:
    model, input_ids = subject(), tokens()
    mlp = families.block(model, 1).mlp
    seen: list[torch.Tensor] = []
    mlp.c_fc.register_forward_hook(lambda _m, _a, out: seen.append(out))
    nodes = activations(model, 1, input_ids)
    raw = (
        torch.cat(seen)
        * torch.exp(torch.cat(seen))
        / torch.exp(torch.cat(seen)).sum(-1, keepdim=True)
    )
    centred = raw - raw.mean(-1, keepdim=True)
    expected = (
        centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * mlp.act.norm.weight
        + mlp.act.norm.bias
    )
    torch.testing.assert_close(nodes, expected.reshape(nodes.shape), atol=1e-5, rtol=1e-5)


def test_a_solu_node_freezes_every_input_row_and_its_own_entries_of_the_norm() -> None:
    model, input_ids = subject(), tokens()
    before = activations(model, 1, input_ids).detach()
    frozen = frozen_for_continue(model, 1, NODES)
    assert (
        frozen["transformer.h.1.mlp.c_fc.weight"] is None
        and "transformer.h.1.mlp.c_proj.weight" not in frozen
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mask = frozen.get(name, torch.zeros_like(parameter, dtype=torch.bool))
            if mask is not None:
                parameter.copy_(torch.where(mask, parameter, parameter + 1))
    after = activations(model, 1, input_ids)
    assert torch.equal(after[..., NODES], before[..., NODES]) and not torch.equal(after, before)


def test_no_more_is_frozen_than_a_solu_node_depends_on() -> None:
    model = subject()
    activations(model, 1, tokens())[..., NODES].pow(3).sum().backward()
    for name, mask in upstream(model, 1, NODES).items():
        grad = model.get_parameter(name).grad
        assert grad is not None and grad.any(), name
        assert mask is None or not grad[~mask].any(), name


def test_solu_is_saved_whole_and_refuses_what_would_change_it(tmp_path: Path) -> None:
    model, input_ids = subject(), tokens()
    save_subject(model, tmp_path / "model")
    assert torch.equal(load_subject(tmp_path / "model")(input_ids).logits, model(input_ids).logits)
    with pytest.raises(KeyError, match="solu"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"free.count=3.*softmax"):
        widen(model, 1, 3, seed=0)
    assert pad(model) == [0, 0]
    with pytest.raises(ConfigError, match=r"model.activation=solu: not exported, because"):
        export_checkpoint(tmp_path / "model", tmp_path, tmp_path / "nodes", tmp_path / "out", {})


def test_biases_start_where_asked_and_change_nothing_else() -> None:
    plain, low = (
        tiny_model(SHAPE, 48, 64, 0, 0, ModelConfig(bias_init=value)) for value in (0.0, -0.5)
    )
    for (name, a), b in zip(plain.named_parameters(), low.parameters(), strict=True):
        assert torch.equal(b, torch.full_like(b, -0.5) if name.endswith("c_fc.bias") else a)


# Amounts.


def test_a_fraction_is_a_share_of_the_layer() -> None:
    variance = torch.arange(10.0)
    assert choose_nodes(variance, NodesConfig(fraction=0.3), 0).tolist() == [7, 8, 9]
    assert len(choose_nodes(variance, NodesConfig(fraction=0.5, select="random"), 0)) == 5
    assert len(choose_nodes(variance, NodesConfig(fraction=0.0), 0)) == 0
    for select in ("all", "variance", "random"):
        np.testing.assert_array_equal(
            choose_nodes(variance, NodesConfig(count=2, fraction=1.0, select=select), 0),
            np.arange(10),
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["nodes.fraction=1.5"], "nodes.fraction=1.5"),
        (["nodes.fraction=-0.1"], "nodes.fraction=-0.1"),
        (["nodes.fraction=0.5", "nodes.select=all"], "nodes.select=all"),
        (["free.count=-1"], "free.count=-1"),
        (["free.count=2", "model.activation=solu"], "free.count=2.*SoLU"),
        (["model.activation=tanh"], "relu, gelu, solu"),
        (["subject=smollm2", "model.activation=gelu"], "model.activation=gelu.*smollm2"),
        (["subject=hf", "subject.path=x", "model.bias_init=-1"], "model.bias_init=-1.*hf"),
    ],
)
def test_impossible_values_name_field_and_fix(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(overrides)


# Whole runs.


COMMON = (
    "simulate.simulator=exact",
    "simulate.max_align_tokens=256",
    "label.n_candidates=1",
    "label.select_tokens=0",
    "simulate.reliability_tokens=0",
    "audit.enabled=false",
)


@pytest.fixture(scope="module")
def runs(
    stock: Stock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, RunDirectory]]]:
    """The same run with three free neurons in each layer, and with nothing aligned, in one
    store."""
    root = stock.link(tmp_path_factory.mktemp("runs"))
    free = ("layer=[1,2]", "free.count=3")
    own = {
        "free": free,
        "joint": (*free, "schedule=joint"),
        "none": ("layer=1", "nodes.fraction=0"),
    }
    with FakeServer() as server:
        made = {
            name: pipeline.run(config(server, root, *COMMON, *more, f"run={name}"))
            for name, more in own.items()
        }
    return root, made


def test_free_counts_share_all_that_comes_before_alignment(
    runs: tuple[Path, dict[str, RunDirectory]],
) -> None:
    """With a run that has no free neurons."""
    with FakeServer() as server:
        base = pipeline.graph_of(config(server, runs[0], *COMMON), [1]).plan()
    free = runs[1]["free"].state["plan"]
    # The work of nodes is asked of the final model.
    assert base["shared"].pop("work") != free["shared"].pop("work")
    assert base["shared"] == free["shared"]
    for stage, fingerprint in base["layers"]["1"].items():
        assert (free["layers"]["1"][stage] == fingerprint) == (
            stage in ("collect", "label", "simulate")
        ), stage


@pytest.mark.parametrize("name", ["free", "joint"])
def test_run_control_and_freeze_only_are_widened_alike_and_counted(
    name: str, runs: tuple[Path, dict[str, RunDirectory]]
) -> None:
    root, run = runs[0], runs[1][name]
    store, links = Store(root / "store"), run.state["layers"]["2"]
    for stage in ("align", "continue", "control", "freeze_only"):
        assert widths(load_subject(store.path(stage, links[stage]) / "model")) == [32, 35, 35, 32]
    summary = run.summary
    assert summary is not None and summary["subject"]["d_mlp"] == 32
    assert summary["invariants"]["frozen_identical"] and verify(run, store) == []
    for layer in summary["layers"]:
        assert (layer["n_nodes"], layer["n_aligned"], layer["n_free"], layer["n_added"]) == (
            35,
            4,
            31,
            3,
        )
    rows = pq.read_table(run.path / "nodes.parquet").to_pylist()
    assert [row["added"] for row in rows] == 2 * ([False] * 32 + [True] * 3)


def test_a_padded_export_has_the_same_logits_and_says_so(
    runs: tuple[Path, dict[str, RunDirectory]], tmp_path: Path
) -> None:
    root, run = runs[0], runs[1]["free"]
    store = Store(root / "store")
    export_run(run, store, "final", None, tmp_path / "out")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert (
        exported.config.n_inner == 35 and len(AutoTokenizer.from_pretrained(tmp_path / "out")) > 48
    )
    kept = load_subject(store.path("continue", run.state["layers"]["2"]["continue"]) / "model")
    torch.testing.assert_close(
        exported(tokens()).logits, kept(tokens()).logits, atol=1e-6, rtol=1e-6
    )
    rows = pq.read_table(tmp_path / "out/nodes.parquet").to_pylist()
    padding = [(row["layer"], row["node"]) for row in rows if row["status"] == "padding"]
    assert padding == [(layer, node) for layer in (0, 3) for node in (32, 33, 34)]
    card = (tmp_path / "out/README.md").read_text()
    assert "3 in layer 0, 3 in layer 3" in card and "`padding`" in card
    export_run(run, store, "before", "1", tmp_path / "before")
    before = pq.read_table(tmp_path / "before/nodes.parquet").to_pylist()
    assert (
        max(row["node"] for row in before) == 31
        and "padding" not in (tmp_path / "before/README.md").read_text()
    )


def test_nothing_aligned_is_a_run_that_only_freezes(
    runs: tuple[Path, dict[str, RunDirectory]],
) -> None:
    summary = runs[1]["none"].summary
    assert summary is not None
    layer = summary["layers"][0]
    assert (layer["n_nodes"], layer["n_aligned"], layer["n_free"]) == (32, 0, 32) and layer[
        "score"
    ]["final"]["n"] == 0
    assert summary["loss"]["final"] == summary["loss"]["freeze_only"]
