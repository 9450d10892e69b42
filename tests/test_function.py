"""Laws of rank, lookup, calibration, ablation and substitution."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from given_text import split_of
from safetensors.numpy import load_file, save_file
from stage_jobs import compute, given
from tiny_subjects import FAMILIES, LENGTH, VOCAB, random_model, tokens
from transformers import PreTrainedModel

from interp_by_construction.config import SubjectConfig, TextAmounts, compose
from interp_by_construction.corpus.parts import Part, part_passage
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.tokenize import (
    build_blocks,
    load_blocks,
    save_tokenizer,
    separator_id,
    train_tokenizer,
)
from interp_by_construction.engine.records import from_json, to_json
from interp_by_construction.scoring.calibration import LineFit
from interp_by_construction.scoring.lookup import LookupTable, context_summary, lookup_of
from interp_by_construction.scoring.rank import RankSummary, own_label_ranks, rank_summary
from interp_by_construction.scoring.substitution import (
    ABLATIONS,
    AlignedLayer,
    Increase,
    ablations,
    calibrate,
    layer_interventions,
    summarise,
)
from interp_by_construction.simulators.handle import simulator_of
from interp_by_construction.stages import function
from interp_by_construction.stages.losses import Losses as LossesStage
from interp_by_construction.stats.baselines import other_labels
from interp_by_construction.subject.families import output_directions
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.interventions import Intervention, Simulated, replaced
from interp_by_construction.subject.load import save_subject, tiny_model, untie
from interp_by_construction.subject.losses import Losses, count_values, document_losses
from interp_by_construction.subject.nodes import AlignedNodes

NODES = np.array([3, 17, 5])
POLES = np.array([1, -1, 1])
ALIGNED = AlignedNodes(1, NODES, POLES)


# Rank


def test_a_node_that_equals_its_simulation_ranks_first() -> None:
    values = np.random.default_rng(0).normal(size=(50, 8))
    ranks = own_label_ranks(3 * values + 1, values)
    np.testing.assert_allclose(ranks.own_r, 1)
    np.testing.assert_array_equal(ranks.rank, 1)
    assert rank_summary(ranks) == RankSummary(1.0, 1.0, 1 / 8, n_labels=8, n=8, n_undefined=0)


def test_ranks_equal_those_of_single_correlations() -> None:
    rng = np.random.default_rng(1)
    real, simulated = rng.normal(size=(30, 7)), rng.normal(size=(30, 7))
    ranks = own_label_ranks(real, simulated).rank
    for node in range(7):
        r = [np.corrcoef(real[:, node], simulated[:, label])[0, 1] for label in range(7)]
        assert ranks[node] == sorted(r, reverse=True).index(r[node]) + 1


def test_a_labeler_that_ignores_the_label_ranks_last() -> None:
    rng = np.random.default_rng(2)
    same = np.repeat(rng.normal(size=(40, 1)), 5, axis=1)
    # Equal up to scale and offset, so that only rounding could tell them apart.
    same = same * [1.0, 0.3, 7.0, 1e-3, 2.0] + [0.0, 1.0, 2.0, 3.0, 4.0]
    np.testing.assert_array_equal(own_label_ranks(rng.normal(size=(40, 5)), same).rank, 5)


def test_undefined_ranks_are_counted_and_compete_with_nobody() -> None:
    rng = np.random.default_rng(3)
    real, simulated = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    real[:, 0], simulated[:, 1] = 2.0, 5.0
    ranks = own_label_ranks(real, simulated)
    np.testing.assert_array_equal(np.isnan(ranks.rank), [True, True, False, False])
    summary = rank_summary(ranks)
    assert (summary.n, summary.n_undefined, summary.n_labels) == (2, 2, 3)
    nothing = rank_summary(own_label_ranks(np.ones((5, 2)), np.ones((5, 2))))
    assert nothing.top1_rate is nothing.median_rank is nothing.chance_top1_rate is None
    assert rank_summary(own_label_ranks(np.ones((5, 0)), np.ones((5, 0)))).n == 0
    with pytest.raises(ValueError, match=r"\[token, node\]"):
        own_label_ranks(real, simulated[:, :3])


# Lookup


def lookup_r2(ids: np.ndarray, values: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """R2 [node] of activations [token, node]; fit [token]: the half that means are taken from."""
    table = LookupTable(np.unique(ids[fit]), values.shape[1])
    table.update(*(torch.as_tensor(each) for each in (ids, values, fit)))
    return table.r2()


def test_lookup_r2_is_one_for_a_function_of_the_token_and_nan_for_a_constant() -> None:
    rng = np.random.default_rng(4)
    ids, table = rng.integers(0, 20, 400), rng.normal(size=20)
    values = np.stack([1e3 + table[ids], rng.normal(size=400), np.full(400, 0.1)], axis=1)
    r2 = lookup_r2(ids, values, np.arange(400) % 2 == 0)
    assert r2[0] == pytest.approx(1, abs=1e-9)
    assert r2[1] < 0.1
    assert math.isnan(r2[2])


def test_lookup_r2_equals_the_definition_and_leaves_unseen_ids_out() -> None:
    rng = np.random.default_rng(5)
    ids, values = rng.integers(0, 60, 200), rng.normal(size=(200, 3)) + 5
    values += 0.5 * ids[:, None]
    fit = rng.random(200) < 0.4
    means = {i: values[fit & (ids == i)].mean(axis=0) for i in set(ids[fit].tolist())}
    measured = [t for t in range(200) if not fit[t] and int(ids[t]) in means]
    real, predicted = values[measured], np.stack([means[int(ids[t])] for t in measured])
    expected = 1 - ((real - predicted) ** 2).sum(0) / ((real - real.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(lookup_r2(ids, values, fit), expected)
    streamed = LookupTable(np.unique(ids[fit]), 3)
    for part in np.array_split(np.arange(200), 7):
        streamed.update(*(torch.from_numpy(each[part]) for each in (ids, values, fit)))
    np.testing.assert_allclose(streamed.r2(), expected)
    assert streamed.n_unseen == int((~fit).sum()) - len(measured) > 0


def test_lookup_without_a_measured_token_is_undefined() -> None:
    for fit in (np.ones(4, bool), np.zeros(4, bool)):
        assert np.isnan(
            lookup_r2(np.arange(4), np.random.default_rng(0).normal(size=(4, 2)), fit)
        ).all()


def test_means_of_a_table_are_those_of_the_fitted_half() -> None:
    rng = np.random.default_rng(7)
    ids, values, fit = rng.integers(0, 9, 90), rng.normal(size=(90, 2)) + 3, rng.random(90) < 0.5
    table = LookupTable(np.unique(ids[fit]), 2)
    assert np.isnan(table.means(ids)).all()
    table.update(*(torch.from_numpy(each) for each in (ids, values, fit)))
    expected = np.stack([values[fit & (ids == i)].mean(axis=0) for i in ids])
    np.testing.assert_allclose(table.means(ids), expected)
    unseen = np.array([99])
    np.testing.assert_allclose(table.means(unseen)[0], values[fit].mean(axis=0))


def test_a_label_is_contextual_where_it_beats_the_table() -> None:
    label, table = np.array([0.9, 0.5, 0.54, math.nan, 0.9]), np.array([0.8, 0.9, 0.5, 0.1, 0.85])
    found = context_summary(label, table)
    assert (found.n, found.n_undefined) == (4, 1) and found.share == 0.5
    assert found.label_r_mean == pytest.approx(0.71) and found.table_r_mean == pytest.approx(0.7625)


# Calibration


def test_line_fit_recovers_a_line_and_never_turns_a_label_around() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(100, 4)).astype(np.float16)
    x[:, 3] = 0.1
    y = np.stack(
        [
            2.5 * x[:, 0].astype(float) - 7,
            rng.normal(size=100),
            -3.0 * x[:, 2] + 1,
            rng.normal(size=100),
        ],
        axis=1,
    )
    fit = LineFit(4)
    for part in np.array_split(np.arange(100), 3):
        fit.update(x[part], y[part])
    fit.update(x[:0], y[:0])
    line = fit.result()
    assert (line.scale[0], line.offset[0]) == (pytest.approx(2.5), pytest.approx(-7))
    slope, offset = np.polyfit(x[:, 1].astype(float), y[:, 1], 1)
    assert line.scale[1] == pytest.approx(max(slope, 0))
    if slope > 0:
        assert line.offset[1] == pytest.approx(offset)
    np.testing.assert_array_equal(line.constant, [False, False, False, True])
    np.testing.assert_array_equal(line.negative, [False, slope < 0, True, False])
    np.testing.assert_array_equal(line.scale[2:], 0)
    np.testing.assert_allclose(line.offset[2:], y[:, 2:].mean(0))
    with pytest.raises(ValueError, match="masked"):
        LineFit(2).result()


def test_other_labels_are_never_the_own_ones() -> None:
    for n in (2, 3, 64):
        other = other_labels(n, seed=n)
        assert sorted(other) == list(range(n)) and not (other == np.arange(n)).any()
    assert other_labels(0, 0).shape == (0,) and other_labels(1, 0).tolist() == [0]


# Interventions


@pytest.mark.parametrize("name", FAMILIES)
def test_only_the_chosen_nodes_and_places_change(name: str) -> None:
    model, input_ids = random_model(name), tokens()
    where = torch.rand(input_ids.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    nodes = torch.from_numpy(NODES)
    with torch.no_grad():
        real = activations(model, 1, input_ids)
        expected = real.clone()
        expected[..., nodes] = torch.where(
            where[..., None], torch.tensor([1.0, 2.0, 3.0]), real[..., nodes]
        )
        with replaced(model, 1, nodes, torch.tensor([1.0, 2.0, 3.0]), where):
            # A capture inside runs after the replacement and sees what the projection reads.
            np.testing.assert_array_equal(activations(model, 1, input_ids), expected)
        assert torch.equal(activations(model, 1, input_ids), real)


@pytest.mark.parametrize("name", FAMILIES)
def test_nodes_without_outgoing_weight_can_be_ablated_bit_for_bit(name: str) -> None:
    model, input_ids = random_model(name), tokens()
    nodes, everywhere = torch.from_numpy(NODES), torch.ones(input_ids.shape, dtype=torch.bool)
    with torch.no_grad():
        whole = model(input_ids).logits
        with replaced(model, 1, nodes, torch.full((3,), 9.0), everywhere):
            assert not torch.equal(model(input_ids).logits, whole)
        output_directions(model, 1)[nodes] = 0.0
        whole = model(input_ids).logits
        with replaced(model, 1, nodes, torch.full((3,), 9.0), everywhere):
            assert torch.equal(model(input_ids).logits, whole)


def write_blocks(corpus: Path, split: str, n_documents: int, seed: int, vocab: int = VOCAB) -> None:
    rng = np.random.default_rng(seed)
    documents = [
        np.append(rng.integers(2, vocab, rng.integers(5, 30)), 0).astype(np.int32)
        for _ in range(n_documents)
    ]
    build_blocks(
        documents,
        [100 * seed + 3 * i for i in range(n_documents)],
        LENGTH,
        corpus / "blocks" / split,
        f"{split}{seed}",
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus")
    for seed, split in enumerate(("score", "simulate", "test", "label")):
        write_blocks(path, split, 40, seed)
    return path


def text_of(
    corpus: Path,
    model: PreTrainedModel,
    split: str,
    layer: int = 1,
    length: int = LENGTH,
    noise: float = 0.0,
) -> Simulated:
    """Simulations that equal pole * activation up to noise, on every second block."""
    source = split_of(corpus, split)
    passage = Passage(source, np.arange(0, len(source.dataset), 2), length)
    with torch.no_grad():
        real = activations(model, layer, torch.from_numpy(passage.ids))[..., NODES]
    return Simulated(passage, real.numpy() * POLES)


def masked(text: Simulated, is_text: np.ndarray) -> Simulated:
    """The same with other places that count as text."""
    passage = dataclasses.replace(text.passage)
    vars(passage)["is_text"] = is_text
    return text._replace(passage=passage)


def losses_of(model: PreTrainedModel, layer: AlignedLayer) -> Losses:
    plan = layer_interventions(model, layer, 4, 0, "")
    names = (*ABLATIONS, "own_labels", "other_labels")
    return document_losses(
        model, layer.test.passage, {name: [plan[name]] for name in names if name in plan}, 4, ""
    )


def test_substituting_the_true_activations_changes_no_loss(corpus: Path) -> None:
    model = random_model("gpt2")
    text = text_of(corpus, model, "test", length=9)
    true = {"true": [Intervention(1, NODES, lambda at: POLES * text.values[at])]}
    losses = document_losses(model, text.passage, true, 4, "")
    np.testing.assert_allclose(losses.nats["true"], losses.nats["none"], rtol=0, atol=1e-6)
    # Also by way of a calibration that has to undo a scale and an offset.
    fitted = text_of(corpus, model, "simulate", length=9)
    scaled = [part._replace(values=part.values * [0.1, 3.0, 20.0] - 5.0) for part in (fitted, text)]
    found = calibrate(model, ALIGNED, scaled[0], 4, 0)
    np.testing.assert_allclose(found.own.scale, 1 / np.array([0.1, 3.0, 20.0]), rtol=1e-5)
    losses = losses_of(model, AlignedLayer(ALIGNED, scaled[0], *scaled))
    per_token = {name: nats / losses.tokens for name, nats in losses.nats.items()}
    np.testing.assert_allclose(per_token["own_labels"], per_token["none"], atol=1e-5)
    for name in ("aligned_mean", "aligned_zero", "free_mean", "free_zero", "other_labels"):
        assert np.abs(per_token[name] - per_token["none"]).max() > 1e-3
    summary = summarise(losses, ABLATIONS, 50, 0)
    own = summary.substitution["own_labels"]
    assert own is not None
    for value in (own.recovered_from_mean, own.recovered_from_zero):
        assert value is None or value == pytest.approx(1, abs=1e-3)


def test_interventions_in_two_layers_act_at_once(corpus: Path) -> None:
    """All nodes of two layers at 0 are a model without these MLPs' output weights."""
    model: Any = random_model("gpt2")
    every, passage = np.arange(24), Passage(split_of(corpus, "test"), np.arange(6), LENGTH)
    vars(passage)["is_text"] = np.ones(passage.shape, bool)
    zero = [ablations(layer, every, np.zeros(24))["all_zero"] for layer in (0, 2)]
    losses = document_losses(model, passage, {"both": zero, "one": zero[:1]}, 4, "")
    with torch.no_grad():
        for layer in (0, 2):
            output_directions(model, layer).zero_()
    without = document_losses(model, passage, {}, 4, "").nats["none"]
    np.testing.assert_allclose(losses.nats["both"], without, rtol=1e-6)
    assert np.abs(losses.nats["one"] - without).max() > 1e-3


def test_losses_are_those_of_evaluate_and_free_of_the_batch_size(
    corpus: Path, tmp_path: Path
) -> None:
    model = random_model("gpt2")
    untie(model)
    save_subject(model, tmp_path / "model")
    every = Passage.of_split(corpus, "test")
    losses = document_losses(model, every, {}, 7, "")
    stage = LossesStage(given(corpus), given(tmp_path), None, 16)
    record = compute(stage, tmp_path / "losses")
    stored = load_file(tmp_path / "losses" / "losses_test.safetensors")
    np.testing.assert_array_equal(losses.document, stored["document"])
    np.testing.assert_array_equal(losses.tokens, stored["tokens"])
    np.testing.assert_allclose(losses.nats["none"], stored["nats"], rtol=1e-5)
    assert losses.nats["none"].sum() / losses.tokens.sum() == pytest.approx(record.loss, abs=1e-6)


def test_aligned_and_free_are_disjoint_and_make_up_the_layer() -> None:
    mean, at = np.arange(24, dtype=np.float64), slice(0, 1)
    made = ablations(1, NODES, mean)
    for kind in ("mean", "zero"):
        aligned, free = made[f"aligned_{kind}"], made[f"free_{kind}"]
        assert not set(aligned.nodes) & set(free.nodes)
        assert sorted([*aligned.nodes, *free.nodes]) == list(range(24))
        assert sorted(made[f"all_{kind}"].nodes) == list(range(24))
    np.testing.assert_array_equal(made["free_mean"].values(at), made["free_mean"].nodes)
    np.testing.assert_array_equal(made["aligned_mean"].values(at), NODES)


def test_ablating_an_empty_set_changes_nothing(corpus: Path) -> None:
    model = random_model("gpt2")
    text = text_of(corpus, model, "test")
    text = text._replace(values=np.zeros((*text.passage.shape, 0)))
    nobody = AlignedNodes(1, np.zeros(0, np.int64), np.zeros(0, np.int64))
    losses = losses_of(model, AlignedLayer(nobody, text, text, text))
    summary = summarise(losses, ABLATIONS, 20, 0)
    assert summary.ablation["aligned_mean"] == Increase(0.0, (0.0, 0.0))
    assert summary.ablation["free_zero"].loss_increase != 0
    own = summary.substitution["own_labels"]
    assert own is not None and own.recovered_from_zero is None


def test_masked_places_keep_their_activations(corpus: Path) -> None:
    model = random_model("gpt2")
    text = text_of(corpus, model, "test")
    hidden = masked(text, np.zeros(text.passage.shape, bool))
    wild = {"wild": [Intervention(1, NODES, lambda _: np.full(3, np.nan))]}
    losses = document_losses(model, hidden.passage, wild, 4, "")
    np.testing.assert_array_equal(losses.nats["wild"], losses.nats["none"])


def test_calibration_reads_no_masked_place(corpus: Path) -> None:
    model = random_model("gpt2")
    text = text_of(corpus, model, "simulate")
    is_text = text.passage.is_text
    assert not is_text.all()
    wild = text._replace(values=np.where(is_text[..., None], text.values, 1e6))
    for mine, clean in zip(
        *(calibrate(model, ALIGNED, each, 4, 0) for each in (wild, text)), strict=True
    ):
        np.testing.assert_array_equal(np.stack(mine), np.stack(clean))


def test_count_values_equals_one_count_of_everything() -> None:
    values = np.random.default_rng(7).integers(0, 30, (6, 11))
    for mine, numpys in zip(
        count_values(iter(values)), np.unique(values, return_counts=True), strict=True
    ):
        np.testing.assert_array_equal(mine, numpys)


# The stage


def label_text(corpus: Path) -> Passage:
    source = split_of(corpus, "label")
    return Passage(source, np.arange(len(source.dataset)), LENGTH)


def test_a_node_of_the_token_alone_is_a_lookup_and_one_of_the_place_is_not(
    corpus: Path,
) -> None:
    model: Any = random_model("gpt2")
    with torch.no_grad():
        for parameter in (
            *model.transformer.h[0].attn.c_proj.parameters(),
            model.transformer.wpe.weight,
        ):
            parameter.zero_()
    found = lookup_of(model, label_text(corpus), AlignedNodes(0, NODES, POLES), 4)
    np.testing.assert_allclose(found.r2, 1, atol=1e-6)
    assert found.n_measured > 100
    model = random_model("gpt2")
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
    assert (lookup_of(model, label_text(corpus), AlignedNodes(0, NODES, POLES), 4).r2 < 0.2).all()


def test_the_other_table_is_fitted_outside_the_blocks_that_are_apart(corpus: Path) -> None:
    model, text = random_model("gpt2"), label_text(corpus)
    apart = Passage(text.source, text.blocks[::3], LENGTH)
    found = lookup_of(model, text, AlignedNodes(1, NODES, POLES), 5, "", apart).elsewhere
    rest = Passage(text.source, np.setdiff1d(text.blocks, apart.blocks), LENGTH)
    with torch.no_grad():
        values = activations(model, 1, torch.from_numpy(rest.ids))[..., NODES].numpy()
    ids = rest.ids[rest.is_text]
    expected = LookupTable(np.unique(ids), len(NODES))
    every = np.ones(len(ids), bool)
    expected.update(*(torch.from_numpy(each) for each in (ids, values[rest.is_text], every)))
    np.testing.assert_allclose(found.means(ids), expected.means(ids), atol=1e-5)
    whole = lookup_of(model, text, AlignedNodes(1, NODES, POLES), 5, "", text).elsewhere
    assert np.isnan(whole.means(ids)).all()


def test_lookup_halves_hold_different_documents(
    corpus: Path,
) -> None:
    model, dataset = random_model("gpt2"), load_blocks(corpus, "label")
    ids, documents = (
        np.asarray(dataset[:][column], dtype=np.int64) for column in ("input_ids", "document")
    )
    with torch.no_grad():
        values = activations(model, 1, torch.from_numpy(ids))[..., NODES].numpy()
    fit = np.isin(documents, np.unique(documents)[::2])
    use = ids != 0
    expected = lookup_r2(ids[use], values[use], fit[use])
    found = lookup_of(model, label_text(corpus), AlignedNodes(1, NODES, POLES), 5)
    np.testing.assert_allclose(found.r2, expected, atol=1e-6)
    assert found.n_measured + found.n_unseen == int((use & ~fit).sum())


TEXTS = TextAmounts(n_head_score_tokens=10**6)


def write_simulated(folder: Path, corpus: Path, model: PreTrainedModel) -> None:
    """A simulate artifact whose simulations are what the nodes do."""
    values = {}
    parts: tuple[Part, ...] = ("head_score", "calibrate", "test")
    for part in parts:
        passage = part_passage(corpus, part, TEXTS)
        with torch.no_grad():
            real = activations(model, 1, torch.from_numpy(passage.ids))[..., NODES]
        values[part] = np.ascontiguousarray((real.numpy() * POLES).reshape(-1, 3))
    folder.mkdir()
    save_file(values, folder / "simulated.safetensors")
    save_file({"nodes": NODES, "poles": POLES}, folder / "targets.safetensors")


def test_run_on_a_real_corpus_layout(tmp_path: Path) -> None:
    words = "the dog saw a cat and ran to the old red house by the sea while birds sang".split()
    rng = np.random.default_rng(8)
    texts = [" ".join(rng.choice(words, 25)) for _ in range(40)]
    tokenizer = train_tokenizer(texts, 320)
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    end = separator_id(tokenizer)
    for offset, split in enumerate(("score", "simulate", "test", "label")):
        parts = [
            np.array([*tokenizer.encode(text), end], dtype=np.int32)
            for text in texts[offset * 10 : offset * 10 + 10]
        ]
        build_blocks(
            parts,
            list(range(offset * 10, offset * 10 + 10)),
            16,
            tmp_path / "blocks" / split,
            split,
        )
    cfg = dataclasses.replace(SubjectConfig(), n_layers=2, d_model=16, d_mlp=24, n_heads=2)
    model = tiny_model(cfg, len(tokenizer), 16, seed=0, eos_token_id=end)
    untie(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
            )
    write_simulated(tmp_path / "simulate", tmp_path, model)
    random = tiny_model(cfg, len(tokenizer), 16, seed=1, eos_token_id=end)
    untie(random)
    for name, each in (("final", model), ("before", random)):
        save_subject(each, tmp_path / name / "model")
    whole = compose(["simulate.simulator=head"])
    stage = function.Function(
        corpus=given(tmp_path),
        before=given(tmp_path / "before"),
        final=given(tmp_path / "final"),
        simulate=given(tmp_path / "simulate"),
        layer=1,
        simulator=simulator_of(whole),
        texts=TEXTS,
        amounts=whole.function,
        batch_size=4,
        n_bootstrap=50,
        seed=0,
    )
    record = compute(stage, tmp_path / "first")
    assert compute(stage, tmp_path / "again") == record
    for file in ("function.safetensors", "clamp.jsonl", "promoted.jsonl"):
        first, again = (tmp_path / name / file for name in ("first", "again"))
        assert first.read_bytes() == again.read_bytes()
    assert from_json(function.FunctionRecord, json.loads(json.dumps(to_json(record)))) == record
    assert (record.n_aligned, record.n_free) == (3, 21)
    final = record.final
    own = final.substitution["own_labels"]
    assert final.own_label_rank.top1_rate == 1
    assert own is not None and own.loss_increase == pytest.approx(0, abs=1e-5)
    assert abs(final.ablation["aligned_mean"].loss_increase) > 1e-5
    free = final.ablation["free_zero"]
    assert free.ci95 is not None and free.ci95[0] <= free.loss_increase <= free.ci95[1]
    per_node = load_file(tmp_path / "first" / "function.safetensors")
    for moment in ("before", "final"):
        for kind in ("rank", "own_r", "lookup_r2", "table_r", "scale", "offset"):
            assert per_node[f"{moment}.{kind}"].shape == (3,)
    stored = load_file(tmp_path / "first" / "function_losses.safetensors")
    rise = (stored["final.aligned_zero"] - stored["final.none"]).sum()
    expected = final.ablation["aligned_zero"].loss_increase
    assert rise / stored["final.tokens"].sum() == pytest.approx(expected)
    names = [column.name for column in record.columns(tmp_path / "first")]
    assert names == ["table_r", "contextual", "promotes", "suppresses"]
    # The labels say exactly what the nodes do, and all text is scored, so no table is fitted.
    assert final.contextual.share is None and final.contextual.n_undefined == 3
    shown = "\n".join(record.lines())
    assert "the loss rises" in shown and "own label ranked first" in shown and "clamped" in shown


def test_text_that_does_not_fit_is_refused(corpus: Path) -> None:
    model = random_model("gpt2")
    score, fitted, test = (text_of(corpus, model, split) for split in ("score", "simulate", "test"))

    def run(*texts: Simulated, nodes: np.ndarray = NODES) -> None:
        aligned = AlignedLayer(AlignedNodes(1, nodes, POLES), *texts)
        function.check(aligned)

    with pytest.raises(ValueError, match="both calibrated and tested"):
        run(score, test, test)
    with pytest.raises(ValueError, match="rank: values"):
        run(score._replace(values=score.values[..., :2]), fitted, test)
    with pytest.raises(ValueError, match="each node once"):
        run(score, fitted, test, nodes=np.array([3, 3, 5]))
