"""Laws of dictionary nodes: a transcoder in the place of an MLP, its training, its files, what of
it is frozen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fake_server import FakeServer
from safetensors.torch import load_file, save_file
from small_run import config
from stage_jobs import compute, given
from stock import Stock
from tiny_subjects import FAMILIES, LENGTH, ArrayBlocks, random_model, tokens
from torch import Tensor, nn
from training_jobs import place, write_corpus
from transformers import AutoModelForCausalLM

from interp_by_construction import pipeline
from interp_by_construction.config import DictionaryConfig, OptimizerConfig, compose
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError
from interp_by_construction.export.plain import check_plain, write_model
from interp_by_construction.export.run import export_run
from interp_by_construction.report.run_tables import show_tables
from interp_by_construction.report.terminal import show_status
from interp_by_construction.results.verification import verify
from interp_by_construction.stages.dictionary import (
    Dictionary,
    DictionaryRecord,
    Learning,
    TranscoderFolder,
    wanted_shape,
)
from interp_by_construction.subject import families
from interp_by_construction.subject.dictionary import dictionaries, put_in_place
from interp_by_construction.subject.freeze import frozen_for_continue, upstream
from interp_by_construction.subject.hooks import activations, mlp_flow
from interp_by_construction.subject.load import load_subject, save_subject, untie
from interp_by_construction.subject.transcoder import (
    TopK,
    Transcoder,
    load_transcoder,
    save_transcoder,
)
from interp_by_construction.subject.transcoder_files import (
    Shape,
    check_free,
    check_width,
    find_transcoder,
    read_shape,
)
from interp_by_construction.training.batches import TokenBlocks, by_step
from interp_by_construction.training.fit import PhaseRecord, fit
from interp_by_construction.training.transcoder import (
    Scales,
    TranscoderModule,
    dead_features_loss,
    fvu,
    unscale,
)

SHAPES = {
    "relu": Shape(16, 40, None, False),
    "topk": Shape(16, 40, 5, False),
    "topk_skip": Shape(16, 40, 5, True),
}
NODES = [1, 4, 17]


def random_transcoder(shape: Shape, seed: int = 0) -> Transcoder:
    torch.manual_seed(seed)
    transcoder = Transcoder(shape)
    with torch.no_grad():
        for parameter in transcoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return transcoder


def with_dictionary(name: str, shape: Shape, layer: int = 1) -> Any:
    model = random_model(name)
    untie(model)
    put_in_place(model, layer, random_transcoder(shape))
    return model


def test_topk_keeps_the_k_largest_and_no_more() -> None:
    x = torch.randn(50, 30)
    kept = TopK(6)(x)
    assert torch.equal(kept, torch.where(x >= x.sort(dim=-1).values[:, -6:-5], x, 0.0).relu())
    assert ((kept > 0).sum(-1) <= 6).all()
    assert ((TopK(6)(x.abs() + 0.1) > 0).sum(-1) == 6).all(), "exactly k where enough are positive"


def test_fvu_is_one_minus_the_multivariate_r2_and_one_for_the_mean() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(3.0, 2.0, (200, 5))
    output = y + rng.normal(0.0, 1.0, y.shape)
    expected = np.mean(np.sum((y - output) ** 2, axis=1)) / np.trace(np.cov(y.T, bias=True))
    assert float(fvu(torch.from_numpy(y), torch.from_numpy(output))) == pytest.approx(expected)
    assert float(
        fvu(torch.from_numpy(y), torch.from_numpy(np.tile(y.mean(0), (200, 1))))
    ) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_transcoder_computes_what_sparsify_computes(kind: str, tmp_path: Path) -> None:
    """From the tensors on disk: sparsify's encoder, its sparse decoder (embedding_bag), its
    skip."""
    shape = SHAPES[kind]
    save_transcoder(random_transcoder(shape), tmp_path, {})
    w, x = load_file(tmp_path / "sae.safetensors"), torch.randn(7, 16)
    before = torch.relu(nn.functional.linear(x, w["encoder.weight"], w["encoder.bias"]))
    values, indices = before.topk(shape.k or shape.n_features, dim=-1, sorted=False)
    expected = (
        nn.functional.embedding_bag(indices, w["W_dec"], per_sample_weights=values, mode="sum")
        + w["b_dec"]
    )
    if shape.skip:
        expected = expected + x @ w["W_skip"].mT
    torch.testing.assert_close(load_transcoder(tmp_path)(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_files_hold_a_transcoder_to_the_bit(kind: str, tmp_path: Path) -> None:
    transcoder = random_transcoder(SHAPES[kind])
    save_transcoder(transcoder, tmp_path, {"layer": 1})
    loaded = load_transcoder(tmp_path)
    assert loaded.shape == SHAPES[kind]
    assert all(
        torch.equal(a, b) for a, b in zip(transcoder.parameters(), loaded.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_the_nodes_of_every_family_and_checkpoints_keep_them(
    name: str, tmp_path: Path
) -> None:
    model, input_ids = random_model(name), tokens()
    untie(model)
    flow, plain = mlp_flow(model, 1, input_ids), model(input_ids).logits
    transcoder = random_transcoder(SHAPES["topk_skip"])
    put_in_place(model, 1, transcoder)
    found = activations(model, 1, input_ids)
    assert (
        found.shape == (3, LENGTH, 40)
        and families.d_mlp(model, 1) == 40
        and families.d_mlp(model, 0) == 24
    )
    torch.testing.assert_close(
        found.flatten(0, 1), transcoder.activation(transcoder.encoder(flow.read))
    )
    assert torch.equal(families.output_directions(model, 1), transcoder.decoder.weight.T)
    assert (
        families.incoming_weights(model, 1, NODES, [0, 1]).shape
        == families.incoming_weights(model, 2, [0, 1, 2], [8, 39]).shape
    )
    logits = model(input_ids).logits
    assert not torch.allclose(logits, plain)
    save_subject(model, tmp_path)
    loaded = load_subject(tmp_path)
    assert torch.equal(loaded(input_ids).logits, logits)
    assert dictionaries(loaded) == dictionaries(json_config(tmp_path)) == {1: SHAPES["topk_skip"]}


def json_config(path: Path) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(**json.loads((path / "config.json").read_text()))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "gemma2", "opt"])
def test_mlp_flow_is_what_the_mlp_reads_and_writes(name: str) -> None:
    """As hooks on the whole MLP module see it, where there is one."""
    model, input_ids = random_model(name), tokens()
    flow = mlp_flow(model, 1, input_ids)
    assert flow.read.shape == flow.written.shape == (3 * LENGTH, 16)
    before = model(input_ids).logits
    family = families.family_of(model)
    handles = (
        []
        if name == "opt"
        else [
            families.block(model, 1)
            .get_submodule(family.mlp)
            .register_forward_hook(lambda _m, args, out: seen.append((args[0], out)))
        ]
    )
    seen: list[tuple[Tensor, Tensor]] = []
    assert torch.equal(model(input_ids).logits, before)
    for handle in handles:
        handle.remove()
    for read, written in seen:
        torch.testing.assert_close(read.flatten(0, 1), flow.read)
        torch.testing.assert_close(written.flatten(0, 1), flow.written)


def scramble(model: nn.Module, frozen: dict[str, Tensor | None]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mask = frozen.get(name, torch.zeros_like(parameter, dtype=torch.bool))
            if mask is not None:
                parameter.copy_(
                    torch.where(mask, parameter, parameter + torch.randn_like(parameter))
                )


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "opt"])
@pytest.mark.parametrize("kind", SHAPES)
def test_nothing_that_may_train_reaches_the_aligned_features(name: str, kind: str) -> None:
    """With TopK also none of the features that could push an aligned one out of the k largest."""
    model, input_ids = with_dictionary(name, SHAPES[kind]), tokens()
    before = activations(model, 1, input_ids)[..., NODES]
    frozen = frozen_for_continue(model, 1, NODES)
    scramble(model, frozen)
    assert torch.equal(activations(model, 1, input_ids)[..., NODES], before)
    free = {key: mask for key, mask in frozen.items() if "encoder" in key}
    assert len(free) == 2
    assert all((mask is None) == (kind != "relu") for mask in free.values())
    assert not any(
        key.endswith(("decoder.weight", "decoder.bias", "skip.weight")) for key in frozen
    )


def test_relu_features_freeze_one_by_one_as_neurons_do() -> None:
    frozen = upstream(with_dictionary("llama", SHAPES["relu"]), 1, NODES)
    mask = frozen["model.layers.1.mlp.encoder.weight"]
    assert mask is not None and mask.any(1).nonzero().flatten().tolist() == NODES
    assert "model.layers.1.mlp.decoder.weight" not in frozen


def test_unscaling_changes_units_and_no_feature() -> None:
    transcoder, x = random_transcoder(SHAPES["topk_skip"]), torch.randn(9, 16)
    features, output = transcoder.activation(transcoder.encoder(x / 4.0)), transcoder(x / 4.0)
    unscale(transcoder, Scales(4.0, 0.5, torch.zeros(16)))
    torch.testing.assert_close(transcoder.activation(transcoder.encoder(x)), features)
    torch.testing.assert_close(transcoder(x), output * 0.5)


def test_dead_features_are_trained_on_what_the_others_leave() -> None:
    transcoder, x, y = random_transcoder(SHAPES["topk"]), torch.randn(64, 16), torch.randn(64, 16)
    dead = torch.zeros(40, dtype=torch.bool)
    before = transcoder.encoder(x)
    error = y - transcoder.decode(transcoder.activation(before), x)
    assert dead_features_loss(before, error, transcoder, dead) == 0
    dead[[3, 30]] = True
    dead_features_loss(before, error, transcoder, dead).backward()
    assert transcoder.encoder.weight.grad is not None and transcoder.decoder.weight.grad is not None
    assert transcoder.encoder.weight.grad.any(1).nonzero().flatten().tolist() == [3, 30]
    assert transcoder.decoder.weight.grad.any(0).nonzero().flatten().tolist() == [3, 30]


class Killed(Exception):
    pass


class DyingBlocks(TokenBlocks):
    """Raises after the given number of batches, as a kill would stop it."""

    def __init__(self, alive_for: int) -> None:
        super().__init__(ArrayBlocks())
        self.left = alive_for

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().batch(indices)


def test_killed_and_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path) -> None:
    """What is remembered of dead features included: after 40 tokens without activity they have a
    loss of their own."""
    subject = random_model("gpt2")
    cfg = DictionaryConfig(k=2, steps=30, lr=1e-2, dead_tokens=40)
    scales = Scales(1.0, 1.0, torch.zeros(16))

    def phase(transcoder: Transcoder, alive_for: int, scratch: Path) -> PhaseRecord:
        module = TranscoderModule(transcoder, subject, 1, scales, cfg, OptimizerConfig())
        return fit(module, by_step(DyingBlocks(alive_for), 3, 4), place(scratch))

    whole, resumed = (random_transcoder(Shape(16, 40, 2, False)) for _ in range(2))
    expected = phase(whole, 1000, tmp_path / "whole")
    with pytest.raises(Killed):
        phase(random_transcoder(Shape(16, 40, 2, False)), 14, tmp_path / "killed")
    assert phase(resumed, 18, tmp_path / "killed") == expected
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


@pytest.fixture
def start(tmp_path: Path, few_checkpoints: None) -> Path:
    """A subject, and text in which each split has 40 blocks."""
    write_corpus(tmp_path, 40)
    model = random_model("llama")
    untie(model)
    save_subject(model, tmp_path / "start/model")
    return tmp_path


def swap(
    start: Path, cfg: DictionaryConfig, out: Path, source: Path | None = None
) -> DictionaryRecord:
    learning = None if source else Learning(cfg, OptimizerConfig(), 0)
    folder = TranscoderFolder(source) if source else None
    model = given(start / "start")
    stage = Dictionary(given(start), model, 1, cfg.n_eval_tokens, learning, folder, "subject-x")
    return compute(stage, out)


@pytest.mark.parametrize("activation", ["topk", "relu"])
def test_training_lowers_the_held_out_fvu_which_is_that_of_its_formula(
    activation: str, start: Path, tmp_path: Path
) -> None:
    def trained(steps: int) -> DictionaryRecord:
        cfg = DictionaryConfig(activation=activation, k=8, steps=steps, lr=1e-2, batch_size=20)  # type: ignore[arg-type]
        return swap(start, cfg, tmp_path / str(steps))

    few, many = trained(1), trained(150)
    assert many.fvu < 0.8 * few.fvu and many.fvu < 0.7
    model = load_subject(start / "start/model")
    flow = mlp_flow(model, 1, torch.from_numpy(ArrayBlocks(40, seed=len("test")).input_ids))
    swapped = load_subject(tmp_path / "150" / "model")
    transcoder = families.transcoder_of(swapped, 1)
    assert transcoder is not None
    y, output = flow.written.double().numpy(), transcoder(flow.read).detach().double().numpy()
    assert many.fvu == pytest.approx(
        ((y - output) ** 2).sum() / ((y - y.mean(0)) ** 2).sum(), rel=1e-5
    )
    features = transcoder.activation(transcoder.encoder(flow.read))
    assert many.l0 == pytest.approx(float((features > 0).sum(-1).float().mean()))
    assert many.n_dead == int((features == 0).all(0).sum()) and many.n_tokens == 40 * LENGTH
    assert many.n_features == features.shape[1] == 8 * 16
    if activation == "topk":
        assert many.l0 <= 8


def test_a_transcoder_from_disk_is_used_as_it_is(start: Path, tmp_path: Path) -> None:
    cfg = DictionaryConfig(k=8, steps=60, lr=1e-2, batch_size=20)
    made = swap(start, cfg, tmp_path / "made")
    loaded = swap(start, cfg, tmp_path / "loaded", tmp_path / "made" / "transcoder")
    assert loaded.source == "loaded" and loaded.fvu == made.fvu
    weights = [
        load_file(tmp_path / side / "model" / "model.safetensors") for side in ("made", "loaded")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_transcoder_of_another_model_or_width_is_refused_with_both_names(
    start: Path, tmp_path: Path
) -> None:
    wide, foreign = tmp_path / "training" / "layers.1.mlp", tmp_path / "foreign"
    save_transcoder(random_transcoder(Shape(20, 40, 5, False)), wide, {})
    (wide.parent / "config.json").write_text('{"model": "org/other-model"}')
    with pytest.raises(ConfigError, match=r"org/other-model.*d_model=20.*subject-x.*d_model=16"):
        swap(start, DictionaryConfig(), tmp_path / "out", find_transcoder(wide.parent, 1, 2))
    strange = random_transcoder(SHAPES["topk"])
    with torch.no_grad():
        strange.decoder.weight.mul_(30.0)
    save_transcoder(strange, foreign, {})
    with pytest.raises(ConfigError, match=r"another model.*layer 1 of subject-x.*unexplained"):
        swap(start, DictionaryConfig(), tmp_path / "out", foreign)
    assert not (tmp_path / "out" / "model").exists()


def test_what_is_no_transcoder_is_refused(tmp_path: Path) -> None:
    save_transcoder(random_transcoder(SHAPES["topk"]), tmp_path / "t", {})
    with pytest.raises(ConfigError, match="one per layer"):
        find_transcoder(tmp_path / "t", 1, 2)
    with pytest.raises(ConfigError, match=r"folder layers\.3\.mlp of layer 3; found no folder"):
        find_transcoder(tmp_path, 3, 1)
    config = json.loads((tmp_path / "t" / "cfg.json").read_text())
    for change, message in (
        ({"transcode": False}, "autoencoder"),
        ({"activation": "groupmax"}, "groupmax"),
        ({"k": None}, "cfg.json"),
        ({"num_latents": 41}, "shapes"),
        ({"skip_connection": True}, "W_skip"),
    ):
        (tmp_path / "t" / "cfg.json").write_text(json.dumps(config | change))
        with pytest.raises(ConfigError, match=message):
            load_transcoder(tmp_path / "t")
    save_file({"other": torch.zeros(1)}, tmp_path / "t" / "sae.safetensors")
    with pytest.raises(ConfigError, match="other"):
        load_transcoder(tmp_path / "t")
    check_width(tmp_path, SHAPES["topk"], 16, "subject")


def test_an_early_transcoder_of_sparsify_reads_its_input_minus_the_decoders_bias(
    tmp_path: Path,
) -> None:
    """Until 12 February 2025 the config.json of the training alone said that it is one."""
    transcoder, x = random_transcoder(SHAPES["topk_skip"]), torch.randn(7, 16)
    folder = tmp_path / "layers.1.mlp"
    save_transcoder(transcoder, folder, {})
    config = json.loads((folder / "cfg.json").read_text())
    del config["transcode"]
    (folder / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"autoencoder .*config.json of its training"):
        load_transcoder(folder)
    (tmp_path / "config.json").write_text('{"transcode": true}')
    assert transcoder.skip is not None
    features = transcoder.activation(transcoder.encoder(x - transcoder.decoder.bias))
    loaded = load_transcoder(find_transcoder(tmp_path, 1, 1))
    torch.testing.assert_close(loaded(x), transcoder.decode(features, x), atol=1e-5, rtol=1e-5)
    (tmp_path / "config.json").write_text('{"transcode": false}')
    with pytest.raises(ConfigError, match="autoencoder"):
        load_transcoder(folder)


def test_of_several_seeds_one_must_be_chosen(tmp_path: Path) -> None:
    layer = tmp_path / "layers.1.mlp"
    save_transcoder(random_transcoder(SHAPES["topk"]), layer / "seed0", {})
    assert find_transcoder(tmp_path, 1, 2) == layer / "seed0"
    save_transcoder(random_transcoder(SHAPES["topk"]), layer / "seed1", {})
    with pytest.raises(ConfigError, match=r"seeds seed0, seed1; give nodes.path=.*seed0"):
        find_transcoder(tmp_path, 1, 1)


def test_nodes_are_a_config_group_whose_fields_keep_their_names() -> None:
    default = compose(["nodes.count=32", "nodes.assign=none"])
    assert default.nodes.kind == "neurons" and default.nodes.count == 32
    chosen = compose(["nodes=transcoder", "nodes.count=32", "dictionary.k=4"])
    assert (
        chosen.nodes.kind == "transcoder" and chosen.nodes.count == 32 and chosen.dictionary.k == 4
    )
    with pytest.raises(ConfigError, match="nodes=transcoder"):
        compose(["nodes.path=somewhere"])
    with pytest.raises(ConfigError, match=r"dictionary.k=0"):
        compose(["nodes=transcoder", "dictionary.k=0"])
    with pytest.raises(ConfigError, match=r"dictionary.k=600.*512 features"):
        wanted_shape(DictionaryConfig(k=600), 64)


def exportable(name: str, activation: str, layers: list[int]) -> Any:
    model = random_model(name)
    untie(model)
    setattr(model.config, "hidden_act" if name == "gpt_neox" else "activation_function", activation)
    for module in model.modules():
        for field in ("act", "activation_fn"):
            if hasattr(module, field):
                setattr(module, field, nn.ReLU())
    for layer in layers:
        put_in_place(model, layer, random_transcoder(SHAPES["relu"], seed=layer))
    return model


@pytest.mark.parametrize("name", ["gpt2", "gpt_neo", "gpt_neox", "opt"])
@pytest.mark.parametrize(("activation", "layers"), [("relu", [1]), ("gelu", [0, 1, 2])])
def test_a_relu_transcoder_exports_as_a_wider_mlp(
    name: str, activation: str, layers: list[int], tmp_path: Path
) -> None:
    model, input_ids = exportable(name, activation, layers), tokens()
    expected = model(input_ids).logits
    save_subject(model, tmp_path / "own")
    check_plain(tmp_path / "own")
    (tmp_path / "plain").mkdir()
    assert write_model(tmp_path / "own", tmp_path / "plain") == [
        40 if layer in layers else 24 for layer in range(3)
    ]
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain").eval()
    torch.testing.assert_close(plain(input_ids).logits, expected, atol=1e-5, rtol=1e-5)
    assert families.d_mlp(plain, 0) == families.d_mlp(plain, 1) == 40 and not dictionaries(plain)


def test_export_refuses_with_every_reason(tmp_path: Path) -> None:
    for kind, name, reasons in (
        (
            "topk_skip",
            "gpt2",
            [
                r"layers \[1\] keep only the k largest",
                r"layers \[1\] have a skip",
                "one activation",
            ],
        ),
        ("relu", "gpt2", [r"layers \[1\] use relu and layers \[0, 2\] gelu_new"]),
        ("relu", "llama", ["llama is gated"]),
    ):
        save_subject(with_dictionary(name, SHAPES[kind]), tmp_path / f"{kind}-{name}")
        with pytest.raises(
            ConfigError, match=".*".join(["not exported", *reasons, "load_subject"])
        ):
            check_plain(tmp_path / f"{kind}-{name}")


def test_a_run_on_features_keeps_the_invariants_and_swaps_the_control_likewise(
    stock: Stock, tmp_path: Path
) -> None:
    small = [
        "nodes=transcoder",
        "dictionary.k=3",
        "dictionary.expansion=3",
        "dictionary.steps=3",
        "dictionary.batch_size=2",
    ]
    with FakeServer() as server:
        run = pipeline.run(config(server, stock.link(tmp_path), "layer=[1,2]", *small))
    store, state, summary = Store(tmp_path / "store"), run.state, run.summary or {}
    assert summary["complete"] and summary["invariants"] == {
        "frozen_identical": True,
        "splits_disjoint": True,
    }
    assert verify(run, store) == []
    for layer in summary["layers"]:
        found, links = layer["dictionary"], state["layers"][str(layer["layer"])]
        assert (
            found["kind"] == "topk"
            and found["n_features"] == layer["n_nodes"] == 48
            and found["l0"] <= 3
        )
        assert layer["n_aligned"] == 4 and layer["n_free"] == 44
        assert (
            found["loss"]
            == store_metrics(store, "losses", links["losses_dictionary"])["loss"]
            != found["loss_before"]
        )
        for stage in ("align", "continue", "control", "freeze_only"):
            model = load_subject(store.path(stage, links[stage]) / "model")
            assert dictionaries(model) == dict.fromkeys(
                range(1, layer["layer"] + 1), Shape(16, 48, 3, False)
            ), stage
    first, second = state["layers"]["1"], state["layers"]["2"]
    # The subject is the same at first; later each model has a dictionary of its own MLP.
    assert first["dictionary"] == first["dictionary_control"] == first["dictionary_freeze_only"]
    assert (
        len(
            {
                second[role]
                for role in ("dictionary", "dictionary_control", "dictionary_freeze_only")
            }
        )
        == 3
    )
    rows = pq.read_table(run.path / "nodes.parquet").to_pylist()
    assert len(rows) == 96 and sum(row["status"] == "aligned" for row in rows) == 8
    with pytest.raises(ConfigError, match=r"layers .*TopK"):
        export_run(run, store, "before", "2", tmp_path / "exported")
    show_tables(run)
    show_status(run)


def test_free_features_beside_a_loaded_topk_transcoder_are_refused_before_anything_is_labelled(
    tmp_path: Path,
) -> None:
    """As for one that is trained; only its folder says of which kind it is."""
    for kind in ("topk", "relu"):
        save_transcoder(random_transcoder(SHAPES[kind]), tmp_path / kind, {})
        check_free(tmp_path / kind, read_shape(tmp_path / kind), 0)
    check_free(tmp_path / "relu", read_shape(tmp_path / "relu"), 2)
    with FakeServer() as server:
        cfg = config(
            server,
            tmp_path,
            "layer=1",
            "nodes=transcoder",
            f"nodes.path={tmp_path / 'topk'}",
            "free.count=2",
        )
        with pytest.raises(
            ConfigError,
            match=r"free\.count=2: the transcoder in .*topk keeps the 5 largest.*set free\.count=0",
        ):
            pipeline.run(cfg)
        assert not server.requests
    assert not (tmp_path / "store").exists()


def store_metrics(store: Store, stage: str, fingerprint: str) -> dict[str, Any]:
    found = store.get(stage, fingerprint)
    assert found is not None
    return found.metrics
