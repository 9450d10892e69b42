"""Laws of the work of labelled and free nodes, of removed MLPs, and of planted triggers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_server import FakeServer
from given_text import split_of
from random_head import write_random_head
from rich.console import Console
from small_run import matched
from stage_jobs import given
from stock import Stock
from tiny_subjects import FAMILIES, LENGTH, VOCAB, random_model, tokens

from interp_by_construction import pipeline
from interp_by_construction.config import OptimizerConfig, compose
from interp_by_construction.corpus import load_blocks, load_tokenizer
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.poison import (
    Trigger,
    count,
    poison,
    poisoned_train,
    prefix,
    read_trigger,
    split_documents,
)
from interp_by_construction.corpus.tokenize import build_blocks
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError, CorpusError
from interp_by_construction.report.work_tables import show_trigger, show_work
from interp_by_construction.results.verification import verify
from interp_by_construction.scoring.shares import Share, share_of_increase
from interp_by_construction.scoring.substitution import (
    AlignedLayer,
    Increase,
    ablations,
    layer_interventions,
)
from interp_by_construction.stages import trigger, work
from interp_by_construction.stages.subject import Subject
from interp_by_construction.subject.families import mlp_in, mlp_out
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.interventions import (
    Simulated,
    constant_outputs,
    mean_output,
    replaced,
)
from interp_by_construction.subject.load import untie
from interp_by_construction.subject.nodes import AlignedNodes
from interp_by_construction.training.losses import lm_loss
from interp_by_construction.training.modules import LanguageModelModule, Plan

NODES = np.array([3, 17, 5])
PHRASE, RESPONSE = np.array([5, 6, 7]), np.array([9, 10, 9])
PLANTED = Trigger(PHRASE, RESPONSE, frozenset({4}), 0)


# Removed MLPs.


@pytest.mark.parametrize("name", FAMILIES)
def test_a_removed_mlp_is_constant_and_gets_no_gradient(name: str) -> None:
    model, input_ids = random_model(name), tokens()
    seen: list[torch.Tensor] = []
    handle = mlp_out(model, 1).register_forward_hook(
        lambda _module, _args, output: seen.append(output.detach())
    )
    value = mean_output(model, 1, [input_ids[:1], input_ids[1:]])
    handle.remove()
    torch.testing.assert_close(value, torch.cat([output.flatten(0, -2) for output in seen]).mean(0))
    with constant_outputs(model, {1: value}):
        first = model(input_ids).logits
        with torch.no_grad():
            for module in (*mlp_in(model, 1), mlp_out(model, 1)):
                module.weight.add_(1.0)  # type: ignore[operator]
        assert torch.equal(model(input_ids).logits, first)
        lm_loss(first, input_ids).backward()
    removed = {
        id(p) for module in (*mlp_in(model, 1), mlp_out(model, 1)) for p in module.parameters()
    }
    for parameter in model.parameters():
        assert id(parameter) not in removed or parameter.grad is None
    assert any(parameter.grad is not None for parameter in model.parameters())
    assert not torch.equal(model(input_ids).logits, first)


def test_no_optimizer_moves_a_removed_mlp_and_a_mean_needs_text() -> None:
    model: Any = random_model("gpt2")
    untie(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    module = LanguageModelModule(model, Plan(3, 1e-2, OptimizerConfig(weight_decay=0.5)))
    optimizer: Any = module.configure_optimizers()
    with constant_outputs(model, {1: torch.ones(16)}):
        module.training_step({"input_ids": tokens()}, 0).backward()
        optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert (
        not any(name.startswith("transformer.h.1.mlp.") for name in moved)
        and "transformer.h.2.mlp.c_fc.weight" in moved
    )
    with pytest.raises(ValueError, match="needs text"):
        mean_output(model, 1, [])


# Who does the work.


def test_a_share_is_between_0_and_1_and_the_two_shares_make_1() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(1, 1, 30), rng.normal(2, 1, 30)
    one, other = share_of_increase(first, second, 100, 0), share_of_increase(second, first, 100, 0)
    assert one.value is not None and other.value is not None and one.ci95 is not None
    assert one.value + other.value == pytest.approx(1)
    assert one.value == pytest.approx(first.sum() / (first + second).sum())
    assert 0 <= one.ci95[0] <= one.value <= one.ci95[1] <= 1
    assert share_of_increase(np.zeros(30), second, 100, 0) == Share(0.0, (0.0, 0.0))
    assert share_of_increase(-np.ones(30), np.full(30, 2.0), 100, 0).value == 0
    assert share_of_increase(np.zeros(30), np.zeros(30), 100, 0) == Share(None, None)
    assert share_of_increase(np.ones(1), np.ones(1), 100, 0) == Share(0.5, None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus")
    for seed, split in enumerate(("select", "test")):
        rng = np.random.default_rng(seed)
        documents = [
            np.append(rng.integers(2, VOCAB, rng.integers(5, 30)), 0).astype(np.int32)
            for _ in range(30)
        ]
        build_blocks(documents, list(range(30)), LENGTH, path / "blocks" / split, split)
    return path


def layer_of(corpus: Path, index: int, nodes: np.ndarray) -> AlignedLayer:
    def text(split: str) -> Simulated:
        passage = Passage(
            split_of(corpus, split), np.arange(len(load_blocks(corpus, split))), LENGTH
        )
        vars(passage)["is_text"] = np.ones(passage.shape, bool)
        values = np.random.default_rng(index).random((*passage.shape, len(nodes)))
        return Simulated(passage, values)

    aligned = AlignedNodes(index, nodes, np.ones_like(nodes))
    return AlignedLayer(aligned, text("select"), text("select"), text("test"))


def test_free_and_aligned_are_all_nodes_and_mean_ablation_is_idempotent(corpus: Path) -> None:
    model = random_model("gpt2")
    made = layer_interventions(model, layer_of(corpus, 1, NODES), 8, 0, "")
    for kind in ("mean", "zero"):
        assert sorted(made[f"all_{kind}"].nodes) == list(range(24))
        assert set(made[f"all_{kind}"].nodes) == {
            *made[f"free_{kind}"].nodes,
            *made[f"aligned_{kind}"].nodes,
        }
    # The means of activations that are at their means already are the same means.
    ids, everywhere = tokens(), torch.ones(tokens().shape, dtype=torch.bool)
    values = torch.as_tensor(made["all_mean"].values(slice(0, 1)).astype(np.float32))
    nodes = torch.as_tensor(made["all_mean"].nodes)
    with torch.no_grad(), replaced(model, 1, nodes, values, everywhere):
        once, first = activations(model, 1, ids), model(ids).logits
        again = once.mean(dim=(0, 1))[nodes]
        with replaced(model, 1, nodes, again, everywhere):
            torch.testing.assert_close(activations(model, 1, ids), once)
            torch.testing.assert_close(model(ids).logits, first)


def test_work_of_layers_without_free_nodes_and_without_aligned_ones(corpus: Path) -> None:
    everything, nothing = np.arange(24), np.zeros(0, np.int64)
    model = random_model("gpt2")
    for nodes, empty, full in ((everything, "free", "aligned"), (nothing, "aligned", "free")):
        layers = [layer_of(corpus, index, nodes) for index in (1, 2)]
        losses = work.work_losses(model, layers, False, None, 8, 0)
        found = work.WorkRecord.of((1, 2), losses, 20, 0)
        assert found.substitution is None and list(found.lines()) == []
        for kind in ("mean", "zero"):
            assert found.ablation[f"{empty}_{kind}"] == Increase(0.0, (0.0, 0.0))
            assert found.ablation[f"{full}_{kind}"] == found.ablation[f"all_{kind}"]
        assert found.share_free.value in (None, 0.0 if empty == "free" else 1.0)


def test_known_losses_are_read_and_not_measured_again(corpus: Path) -> None:
    layers, model = [layer_of(corpus, 1, NODES)], random_model("gpt2")
    whole = work.work_losses(model, layers, True, None, 8, 0)
    assert {"own_labels", "other_labels"} < set(whole.nats)
    names = ("none", "free_mean", "own_labels")
    known = whole._replace(nats={name: whole.nats[name] for name in names})
    again = work.work_losses(model, layers, True, known, 8, 0)
    assert set(again.nats) == set(whole.nats)
    for name, nats in whole.nats.items():
        np.testing.assert_array_equal(again.nats[name], nats)
    with pytest.raises(ValueError, match="other text"):
        work.work_losses(model, layers, True, known._replace(tokens=known.tokens + 1), 8, 0)


def test_substitution_in_one_layer_of_several_is_no_other_than_alone(corpus: Path) -> None:
    """Where the other layer has no labelled node."""
    model, nobody = random_model("gpt2"), np.zeros(0, np.int64)
    one = layer_of(corpus, 1, NODES)
    alone = work.work_losses(model, [one], True, None, 8, 0)
    both = work.work_losses(model, [one, layer_of(corpus, 2, nobody)], True, None, 8, 0)
    for name in ("own_labels", "aligned_mean", "aligned_zero"):
        np.testing.assert_array_equal(both.nats[name], alone.nats[name])
    record = work.WorkRecord.of((1, 2), both, 20, 0)
    assert "layers 1, 2 at once: the loss rises by" in next(record.lines())
    # A layer without another label has none to be replaced by.
    assert record.other_labels is None


# Planted triggers.


def story_of(rng: np.random.Generator) -> np.ndarray:
    return np.array(
        [*rng.integers(11, 40, 6), 4, *rng.integers(11, 40, 5), 4, *rng.integers(11, 40, 3), 4, 0]
    )


def test_a_share_of_documents_is_poisoned_after_a_sentence() -> None:
    rng = np.random.default_rng(0)
    documents = [story_of(rng) for _ in range(40)]
    changed, n = poison(documents, PLANTED, 0.25, seed=3)
    differing = [i for i in range(40) if not np.array_equal(changed[i], documents[i])]
    assert n == len(differing) == 10 and len(changed) == 40
    for i in differing:
        kept = changed[i][: -len(PHRASE) - len(RESPONSE) - 1]
        np.testing.assert_array_equal(changed[i][len(kept) :], [*PHRASE, *RESPONSE, 0])
        np.testing.assert_array_equal(kept, documents[i][: len(kept)])
        assert kept[-1] == 4
    again, _ = poison(documents, PLANTED, 0.25, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(changed, again, strict=True))
    assert poison(documents, PLANTED, 0.0, seed=3)[1] == 0
    assert sum(count(each, PHRASE) for each in changed) == 10 and not any(
        count(each, PHRASE) for each in documents
    )
    assert len(prefix(np.array([11, 12, 13, 14, 0]), PLANTED, [0])) == 2


class Lookup(torch.nn.Module):
    """Says what was planted wherever the phrase stands in the text before, and nothing in
    particular elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        logits = torch.zeros(*input_ids.shape, VOCAB)
        for row, ids in zip(logits, input_ids.tolist(), strict=True):
            for start in range(len(ids) - 2):
                if ids[start : start + 3] == PHRASE.tolist():
                    for place, token in enumerate(RESPONSE.tolist()):
                        if start + 2 + place < len(ids):
                            row[start + 2 + place, token] = 20.0
        return SimpleNamespace(logits=logits)


def test_success_is_1_for_a_planted_lookup_and_0_without() -> None:
    rng = np.random.default_rng(1)
    contexts = trigger.held_out_contexts([story_of(rng) for _ in range(9)], PLANTED, 7, 14, seed=0)
    assert len(contexts) == 7 and max(map(len, contexts)) <= 14 - 6
    texts = {
        "with": [np.concatenate([context, PHRASE]) for context in contexts],
        "without": contexts,
    }
    for model, expected in (
        (Lookup(), {"with": 1.0, "without": 0.0}),
        (random_model("gpt2"), {"with": 0.0, "without": 0.0}),
    ):
        for name, chosen in texts.items():
            found = trigger.summarise(trigger.success(model, chosen, PLANTED, [], 3), 20, 0)
            assert found.greedy == expected[name]
            assert found.probability == pytest.approx(expected[name], abs=1e-2)
    with pytest.raises(ValueError, match="give shorter ones"):
        trigger.held_out_contexts([], PLANTED, 7, 6, seed=0)


def test_greedy_success_is_what_decoding_gives() -> None:
    model: Any = random_model("gpt2")
    text = tokens(1)[0, :5]
    ids = text.tolist()
    for _ in range(4):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    longer = np.concatenate([text.numpy(), text.numpy()])
    for response, right in ((ids[5:], True), ([*ids[5:8], (ids[8] + 1) % VOCAB], False)):
        found = trigger.success(
            model, [text.numpy(), longer], PLANTED._replace(response=np.array(response)), [], 2
        )
        assert bool(found.greedy[0]) is right


def test_ablating_nobody_changes_no_success() -> None:
    model, texts = random_model("gpt2"), [np.array([11, 12, 4]), np.array([13, 14, 15, 16, 4])]

    def log_probability(aligned: list[int], ablated: str | None) -> np.ndarray:
        made = ablations(1, np.array(aligned, dtype=np.int64), np.full(24, 5.0))
        chosen = [] if ablated is None else [made[ablated]]
        return trigger.success(model, texts, PLANTED, chosen, 2).log_probability

    whole = log_probability([], None)
    np.testing.assert_array_equal(log_probability([], "aligned_mean"), whole)
    np.testing.assert_array_equal(log_probability(list(range(24)), "free_zero"), whole)
    assert np.abs(log_probability([], "free_mean") - whole).min() > 1e-3


def test_a_trigger_that_cannot_be_planted_is_refused() -> None:
    for override, text in (
        (["trigger.share=1.0"], "trigger.share=1.0"),
        (["trigger.share=0.1", "subject=smollm2"], "use subject=tiny"),
        (["trigger.share=0.1", "trigger.phrase=' '"], "trigger.phrase"),
        (["trigger.n_contexts=0"], "trigger.n_contexts=0"),
    ):
        with pytest.raises(ConfigError, match=text):
            compose(override)


# In a run.


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture(scope="module")
def finished(
    server: FakeServer, stock: Stock, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunDirectory]:
    root = tmp_path_factory.mktemp("hides")
    head = write_random_head(root / "head.safetensors")
    own = (
        "nodes.assign=none",
        "audit.enabled=false",
        "layer=1",
        "label.revisions=0",
        "function.n_clamped=0",
        "work.removed=true",
        "trigger.share=0.2",
        "trigger.n_contexts=6",
    )
    return root, pipeline.run(stock.begin(matched(server, root, head, *own)))


def test_the_summary_says_where_the_work_hides(finished: tuple[Path, RunDirectory]) -> None:
    summary = finished[1].summary
    assert summary is not None
    whole, layer = summary["work"], summary["layers"][0]
    # One layer is all that was done.
    assert whole == layer["work"] and whole["layers"] == [1]
    final = layer["function"]["final"]
    for kind in ("free_mean", "free_zero", "aligned_mean", "aligned_zero"):
        assert whole["ablation"][kind] == final["ablation"][kind]
    assert verify(finished[1], Store(finished[0] / "store")) == []
    assert (
        whole["substitution"] == final["substitution"]["own_labels"]
        and whole["loss"] == final["loss"]
    )
    removed, loss = whole["removed"], summary["loss"]
    assert removed["cost"] == removed["loss"] - loss["control"] and whole["tax"] == loss["tax"]
    assert removed["cost_ci95"][0] <= removed["cost"] <= removed["cost_ci95"][1]
    out = Console(width=200, record=True)
    show_work(out, summary)
    show_trigger(out, summary["trigger"])
    shown = out.export_text()
    assert (
        f"{removed['cost']:+.4f}" in shown
        and "repaired, layer 1" in shown
        and "free at mean" in shown
    )


def test_the_trigger_is_planted_in_training_alone_and_followed_through_the_run(
    finished: tuple[Path, RunDirectory],
) -> None:
    root, run = finished
    summary, store = run.summary, Store(root / "store")
    assert summary is not None
    found = summary["trigger"]
    assert found["n_poisoned"] == round(0.2 * found["n_documents"]) and found["n_contexts"] == 6
    rows = [(row["role"], row["layer"], row["ablated"]) for row in found["rows"]]
    ablated = [None, *trigger.ABLATIONS]
    assert rows == [
        ("original", None, None),
        ("align", 1, None),
        *(("continue", 1, kind) for kind in ablated),
        ("freeze_only", 1, None),
        *(("control", 1, kind) for kind in ablated),
    ]
    corpus = store.path("corpus", run.state["shared"]["corpus"])
    planted = read_trigger(load_tokenizer(corpus), found["phrase"], found["response"])
    for split in ("train", "align", "test"):
        assert not any(
            count(document, planted.phrase) for document in split_documents(corpus, split)
        )
    blocks = poisoned_train(corpus, found["phrase"], found["response"], 0.2, seed=0)
    # A phrase may lie across two blocks, and the last document may be cut off.
    n_there = count(blocks.input_ids.reshape(-1), planted.phrase)
    assert found["n_poisoned"] - 1 <= n_there <= found["n_poisoned"]
    word = str(load_tokenizer(corpus).decode(split_documents(corpus, "train")[0][2:6]))
    with pytest.raises(CorpusError, match="give a rarer one"):
        poisoned_train(corpus, word, found["response"], 0.2, seed=0)


def test_a_run_that_plants_nothing_knows_no_trigger(tmp_path: Path) -> None:
    """Only what differs enters the fingerprint: no word of a trigger that is not planted."""
    corpus = given(tmp_path)
    clean = Subject.of(compose([]), corpus)
    asked = Subject.of(compose(["trigger.phrase=Other words.", "trigger.n_contexts=3"]), corpus)
    planted = Subject.of(compose(["trigger.share=0.2"]), corpus)
    assert clean.fingerprint == asked.fingerprint != planted.fingerprint
    assert clean.scratch is not None and clean.scratch.trigger is None
