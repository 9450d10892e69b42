"""Laws of the losses, of the schedule, and of a phase that is killed and started again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stage_jobs import compute, given
from tiny_subjects import VOCAB, ArrayBlocks, random_model, tokens
from training_jobs import aligned, place, plan, write_corpus

from interp_by_construction.config import (
    CollectConfig,
    Config,
    SelectionConfig,
    SubjectConfig,
    TrainerConfig,
)
from interp_by_construction.corpus import passage
from interp_by_construction.engine.runtime import resolve_device
from interp_by_construction.errors import ConfigError
from interp_by_construction.export import export_checkpoint
from interp_by_construction.stages import subject as pretrain
from interp_by_construction.stages.collect import Collect, CollectRecord
from interp_by_construction.subject.activation_statistics import FirstPass, SecondPass
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.load import load_subject, save_subject, untie
from interp_by_construction.subject.nodes import read_nodes, read_opposites
from interp_by_construction.training.batches import (
    TargetBlocks,
    TokenBlocks,
    batch_indices,
    by_step,
)
from interp_by_construction.training.checkpoints import Checkpoints
from interp_by_construction.training.fit import PhaseRecord, fit
from interp_by_construction.training.losses import correlation_loss, lm_loss, pearson_columns
from interp_by_construction.training.modules import AlignmentModule, LanguageModelModule, lr_factor

NODES, POLES = [1, 4, 17], [1, -1, 1]
LAYER = aligned(1, NODES, POLES)


def _module(model: Any, steps: int, local: bool = False) -> AlignmentModule:
    return AlignmentModule(model, plan(steps), [LAYER], 1.0, "correlation", local)


def test_lm_loss_is_the_models_own() -> None:
    model, input_ids = random_model("gpt2"), tokens()
    output = model(input_ids, labels=input_ids)
    torch.testing.assert_close(lm_loss(output.logits, input_ids), output.loss)


def test_correlation_is_numpys_and_scale_free() -> None:
    x, y = torch.randn(3, 7, 4), torch.randn(3, 7, 4)
    mask = torch.rand(3, 7) > 0.3
    expected = [np.corrcoef(x[mask][:, i], y[mask][:, i])[0, 1] for i in range(4)]
    result = correlation_loss(x, y, mask)
    torch.testing.assert_close(
        result.r, torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        result.loss,
        correlation_loss(x * 1e-3 + 2e-3, y * 50.0 - 7.0, mask).loss,
        atol=1e-4,
        rtol=1e-4,
    )
    torch.testing.assert_close(
        pearson_columns(x[mask], y[mask]), torch.tensor(expected, dtype=torch.float64)
    )


def test_constant_columns_are_counted_and_give_no_nan_gradient() -> None:
    x = torch.randn(2, 6, 3)
    x[..., 1] = 0.0
    y = torch.randn(2, 6, 3)
    y[..., 2] = 1.0
    x.requires_grad_()
    result = correlation_loss(x, y)
    result.loss.backward()
    assert result.n_constant_targets == 1 and result.n_constant_activations == 1
    assert result.r.isnan().tolist() == [False, True, True]
    assert x.grad is not None and bool(x.grad.isfinite().all()) and not x.grad[..., 2].any()
    assert pearson_columns(x[0].detach(), y[0]).isnan().tolist() == [False, True, True]


def test_an_epoch_reads_every_block_once_and_order_depends_on_seed_and_step_alone() -> None:
    seen = np.concatenate([batch_indices(7, 10, 4, step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert np.array_equal(batch_indices(7, 10, 4, 3), seen[12:16])
    assert not np.array_equal(seen[:10], seen[10:]) and not np.array_equal(
        batch_indices(8, 10, 4, 0), seen[:4]
    )
    assert len(batch_indices(0, 3, 8, 1)) == 8


def test_learning_rate_ramps_up_and_decays() -> None:
    factors = [lr_factor(step, 100, 0.05) for step in range(100)]
    assert factors[4] == 1.0 == max(factors) and factors[:5] == sorted(factors[:5])
    assert factors[5:] == sorted(factors[5:], reverse=True) and 0 < factors[-1] < 0.02
    assert lr_factor(0, 1, 0.05) == 1.0


class _Killed(Exception):
    pass


class _DyingBlocks(TargetBlocks):
    """Raises at the given step, as a kill would stop it."""

    def __init__(self, alive_for: int) -> None:
        super().__init__(ArrayBlocks(), [LAYER])
        self.left = alive_for

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        self.left -= 1
        if self.left < 0:
            raise _Killed
        return super().batch(indices)


@pytest.mark.parametrize("local", [True, False])
def test_killed_and_resumed_equals_uninterrupted_to_the_bit(local: bool, tmp_path: Path) -> None:
    def phase(model: Any, alive_for: int, scratch: Path) -> PhaseRecord:
        # Saves after every step, so that the kill comes right behind a checkpoint.
        module = _module(model, 30, local)
        return fit(module, by_step(_DyingBlocks(alive_for), 3, 4), place(scratch))

    whole = random_model("gpt2")
    expected = phase(whole, 1000, tmp_path / "whole")
    for alive_for in (9, 14):
        with pytest.raises(_Killed):
            phase(random_model("gpt2"), alive_for, tmp_path / "killed")
        assert Checkpoints(tmp_path / "killed" / "train").newest() is not None
    resumed = random_model("gpt2", seed=0)
    # 9 + 14 batches are behind it: a phase that began anew would need 30.
    assert phase(resumed, 11, tmp_path / "killed") == expected
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )
    start = random_model("gpt2")
    assert any(
        not torch.equal(a, b) for a, b in zip(whole.parameters(), start.parameters(), strict=True)
    )


def test_a_finished_phase_is_not_trained_again(tmp_path: Path) -> None:
    first, second = random_model("gpt2"), random_model("gpt2")
    record = fit(_module(first, 3), by_step(_DyingBlocks(1000), 0, 4), place(tmp_path))
    assert fit(_module(second, 3), by_step(_DyingBlocks(0), 0, 4), place(tmp_path)) == record
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert Checkpoints(tmp_path / "train").newest() is None


def test_alignment_raises_correlation_with_signed_targets(tmp_path: Path) -> None:
    model = random_model("llama")
    untie(model)
    before = _mean_r(model)
    blocks = TargetBlocks(ArrayBlocks(), [LAYER])
    fit(_module(model, 60, local=True), by_step(blocks, 0, 10), place(tmp_path))
    assert _mean_r(model) > before + 0.3


def _mean_r(model: Any) -> float:
    ids = torch.from_numpy(ArrayBlocks().input_ids)
    real = activations(model, 1, ids)[..., NODES] * torch.tensor(POLES)
    return float(pearson_columns(real[LAYER.mask].detach(), LAYER.values[LAYER.mask]).mean())


def test_targets_must_cover_the_blocks_that_the_control_reads() -> None:
    with pytest.raises(ValueError, match="cover the 4 blocks"):
        TargetBlocks(ArrayBlocks(), [LAYER], limit=4)


def test_divergence_is_an_error_not_a_result(tmp_path: Path) -> None:
    model = random_model("gpt2")
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    module = LanguageModelModule(model, plan(2))
    with pytest.raises(ConfigError, match="nan"):
        fit(module, by_step(TokenBlocks(ArrayBlocks()), 0, 2), place(tmp_path))


@pytest.mark.parametrize("n_gpus", [0, 2])
def test_a_gpu_that_is_not_there_is_named(n_gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    assert resolve_device("cpu") == "cpu"
    if not n_gpus:
        assert resolve_device("auto") == "cpu"
        for device in ("cuda", "cuda:1"):
            with pytest.raises(ConfigError, match=rf"trainer.device={device}, .* no CUDA"):
                resolve_device(device)
        return
    assert [resolve_device(each) for each in ("auto", "cuda:1")] == ["cuda", "cuda:1"]
    with pytest.raises(ConfigError, match=r"trainer.device=cuda:2, .* 2 GPUs; give cuda:0 to"):
        resolve_device("cuda:2")


class _Tokenizer:
    eos_token_id = 0

    def __len__(self) -> int:
        return VOCAB

    def get_vocab(self) -> dict[str, int]:
        return {}

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [1]

    def decode(self, ids: list[int], clean_up_tokenization_spaces: bool) -> str:
        return "".join(f" t{token}" for token in ids)


@pytest.fixture
def stage_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every stage reads small random splits."""
    for reader in (passage, pretrain):
        monkeypatch.setattr(reader, "load_tokenizer", lambda _path: _Tokenizer())
    write_corpus(tmp_path)
    model = random_model("llama")
    untie(model)
    save_subject(model, tmp_path / "start/model")
    return tmp_path


def _collected(
    root: Path, layer: int, cfg: CollectConfig, out: Path, **nodes: Any
) -> CollectRecord:
    selection = SelectionConfig(**nodes)
    return compute(Collect(given(root), given(root / "start"), layer, cfg, selection, 0), out)


def test_collect_finds_what_a_full_pass_finds(stage_corpus: Path) -> None:
    root, cfg = (
        stage_corpus,
        CollectConfig(top_k=3, window=5, batch_size=4, n_bins=7, n_quantiles=2, per_quantile=2),
    )
    metrics = _collected(root, 1, cfg, root / "c", count=6)
    values = activations(
        load_subject(root / "start/model"), 1, torch.from_numpy(ArrayBlocks(10, seed=5).input_ids)
    ).detach()
    flat = values.flatten(0, 1).double()
    nodes = read_nodes(root / "c")
    assert metrics.n_nodes == 6 and metrics.n_tokens == len(flat)
    assert {node.node for node in nodes} == set(flat.var(0).topk(6).indices.tolist())
    for node in nodes:
        column = flat[:, node.node]
        np.testing.assert_allclose(
            [node.mean, node.variance],
            [column.mean(), column.var(correction=0)],
            rtol=1e-5,
            atol=1e-8,
        )
        assert sum(node.histogram) == len(flat) and len(node.bin_edges) == 8
        poled = values[..., node.node] * node.pole
        peaks = [excerpt.activations[excerpt.peak] for excerpt in node.top]
        np.testing.assert_allclose(peaks, poled.amax(1).topk(3).values, rtol=1e-4)
        assert all(
            len(excerpt.tokens) == len(excerpt.activations) <= 5
            for excerpt in [*node.top, *node.quantiles]
        )
        assert len(node.quantiles) == 4
        tops = {excerpt.tokens[excerpt.peak] for excerpt in node.top}
        assert len(node.random) == 5
        for excerpt in node.random:
            assert np.isclose(
                poled[excerpt.block].numpy(), excerpt.activations[excerpt.peak], rtol=1e-4
            ).any()
        for excerpt in node.near_misses:
            assert excerpt.tokens[excerpt.peak] in tops and excerpt.activations[excerpt.peak] < min(
                peaks
            )


def test_collect_shows_both_poles_of_nodes_that_take_both_signs(stage_corpus: Path) -> None:
    root, cfg = stage_corpus, CollectConfig(top_k=3, window=5, batch_size=4)
    metrics = _collected(root, 1, cfg, root / "both", count=6, poles="both")
    _collected(root, 1, cfg, root / "one", count=6)
    nodes, opposites = read_nodes(root / "both"), read_opposites(root / "both")
    assert nodes == read_nodes(root / "one") and read_opposites(root / "one") == []
    values = activations(
        load_subject(root / "start/model"), 1, torch.from_numpy(ArrayBlocks(10, seed=5).input_ids)
    ).detach()
    signed = [
        node for node in nodes if values[..., node.node].min() < 0 < values[..., node.node].max()
    ]
    assert [(node.node, -node.pole) for node in signed] == [
        (node.node, node.pole) for node in opposites
    ]
    assert metrics.n_opposite_poles == len(opposites) > 0
    for node, other in zip(signed, opposites, strict=True):
        poled = values[..., other.node] * other.pole
        peaks = [excerpt.activations[excerpt.peak] for excerpt in other.top]
        np.testing.assert_allclose(peaks, poled.amax(1).topk(3).values, rtol=1e-4)
        # The same random tokens, seen from the other side.
        assert [(e.block, e.peak, [-a for a in e.activations]) for e in node.random] == [
            (e.block, e.peak, e.activations) for e in other.random
        ]


def test_random_excerpts_are_a_seeded_uniform_sample(stage_corpus: Path) -> None:
    cfg = CollectConfig(n_random=4)
    values = torch.zeros(8, 16, 2)
    values[..., 0] = torch.arange(128.0).reshape(8, 16)

    def drawn(seed: int) -> list[tuple[int, int]]:
        first = FirstPass(2, 3, reservoir=256, seed=seed)
        first.update(torch.arange(8), torch.zeros(8, 16, dtype=torch.long), values)
        return first.picks(0, 1, cfg, seed)["random"]

    assert drawn(1) == drawn(1) and len(set(drawn(1))) == 4
    positions = np.array(
        [16 * block + position for seed in range(300) for block, position in drawn(seed)]
    )
    # 1,200 draws from 128 tokens: the mean of a uniform sample, and every eighth of the text about
    # as often as the others.
    assert abs(positions.mean() - 63.5) < 4 * 128 / np.sqrt(12 * 1200)
    assert np.ptp(np.bincount(positions // 16, minlength=8)) < 80


def test_near_misses_need_no_table_of_the_vocabulary() -> None:
    """Token ids of any size: a table of vocabulary x nodes would not fit into memory."""
    cfg, rng = CollectConfig(n_bins=4, n_near_misses=50), torch.Generator().manual_seed(0)
    ids = torch.randint(0, 9, (6, 16), generator=rng) * 2**40
    values = torch.randn((6, 16, 3), generator=rng)
    first = FirstPass(3, 2, reservoir=8, seed=0)
    first.update(torch.arange(6), ids, values)
    nodes = np.array([0, 2, 2])
    second = SecondPass(first, nodes, torch.tensor([1, 1, -1]), cfg)
    for part in (slice(0, 4), slice(4, 6)):
        second.update(torch.arange(6)[part], ids[part], values[part][..., nodes])
    n_found = 0
    for column, (node, pole) in enumerate(zip(nodes, (1, 1, -1), strict=True)):
        tops = [int(ids[at]) for at in first.top[pole].picks(int(node))]
        lowest = {
            block: min(
                (float(values[block, position, node]) * pole, position)
                for position in range(16)
                if int(ids[block, position]) in tops
            )
            for block in range(6)
            if any(int(each) in tops for each in ids[block])
        }
        low = {(block, at) for block, (value, at) in lowest.items() if value < second.limit[column]}
        assert set(second.near_misses(column)) == low
        n_found += len(low)
    assert n_found > 5


def test_collect_does_not_depend_on_the_batch_size(stage_corpus: Path) -> None:
    root = stage_corpus
    for size in (3, 10):
        cfg = CollectConfig(top_k=3, batch_size=size, n_quantiles=2)
        _collected(root, 0, cfg, root / f"c{size}", count=4, select="random")
    small, large = read_nodes(root / "c3"), read_nodes(root / "c10")
    for a, b in zip(small, large, strict=True):
        assert [(e.block, e.tokens) for e in a.top] == [(e.block, e.tokens) for e in b.top]
        peaks = [
            [excerpt.activations[excerpt.peak] for excerpt in node.quantiles] for node in (a, b)
        ]
        np.testing.assert_allclose(*peaks, rtol=1e-3, atol=1e-5)
    with pytest.raises(ConfigError, match=r"nodes.count=99"):
        _collected(root, 0, cfg, root / "x", count=99)


def _subjects(root: Path, *configs: SubjectConfig) -> list[pretrain.SubjectRecord]:
    """Artifacts 0, 1, ... in `root`."""
    trainer = TrainerConfig(weight_decay=0.1)
    made = [dataclasses.replace(Config(), subject=cfg, trainer=trainer) for cfg in configs]
    return [
        compute(pretrain.Subject.of(cfg, given(root)), root / str(i)) for i, cfg in enumerate(made)
    ]


def test_pretraining_learns_and_is_reproducible(stage_corpus: Path) -> None:
    shape = {"n_layers": 1, "d_model": 16, "d_mlp": 32, "n_heads": 2}
    cfg = SubjectConfig(**shape, pretrain_steps=40, pretrain_batch=4, pretrain_lr=1e-2)
    first, second = _subjects(stage_corpus, cfg, cfg)
    curve = first.phases[0].curve
    assert first == second and curve[-1][1] < curve[0][1]
    weights = [(stage_corpus / side / "model/model.safetensors").read_bytes() for side in "01"]
    assert weights[0] == weights[1]


def test_a_pretrained_subject_adapts_to_the_text_and_is_reproducible(stage_corpus: Path) -> None:
    save_subject(random_model("llama"), stage_corpus / "source")
    plain = SubjectConfig(kind="hf", path=str(stage_corpus / "source"))
    adapting = dataclasses.replace(plain, adapt_steps=40, adapt_lr=1e-2)
    as_is, first, second = _subjects(stage_corpus, plain, adapting, adapting)
    curve = first.phases[0].curve
    assert not as_is.phases and first == second and curve[-1][1] < curve[0][1]
    weights = [load_file(stage_corpus / side / "model/model.safetensors") for side in "012"]
    source = random_model("llama").state_dict()
    assert all(torch.equal(weights[0][name], source[name]) for name in source)
    assert all(torch.equal(weights[1][name], weights[2][name]) for name in source)
    assert not torch.equal(
        weights[0]["model.layers.0.mlp.up_proj.weight"],
        weights[1]["model.layers.0.mlp.up_proj.weight"],
    )


def test_export_loads_in_plain_transformers_and_refuses_a_full_directory(
    stage_corpus: Path,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from transformers import AutoModelForCausalLM

    root = stage_corpus
    (root / "tokenizer").mkdir()
    (root / "tokenizer/tokenizer.json").write_text("{}")
    pq.write_table(pa.table({"layer": [0, 1], "node": [0, 23]}), root / "nodes.parquet")
    parts = root / "start/model", root / "tokenizer", root / "nodes.parquet", root / "out"
    export_checkpoint(*parts, {"a|b": 1})
    exported, input_ids = AutoModelForCausalLM.from_pretrained(root / "out"), tokens()
    assert torch.equal(
        exported(input_ids).logits, load_subject(root / "start/model")(input_ids).logits
    )
    assert (root / "out/nodes.parquet").read_bytes() == (root / "nodes.parquet").read_bytes()
    assert "a\\|b" in (root / "out/README.md").read_text()
    with pytest.raises(ConfigError, match="output="):
        export_checkpoint(*parts, {})
    assert sorted(path.name for path in root.iterdir() if path.name.startswith(".out")) == []
