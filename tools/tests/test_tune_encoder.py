"""Laws of the adapters, and of the head and the labeler that are trained with them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import concept_batches
import concept_scores
import numpy as np
import pytest
import torch
import train_simulator
import tune_encoder
import tune_exact
from concept_batches import Concepts, keep, kept
from lexical_supervision import Supervision, build
from lexical_words import Concept
from low_rank import attach, weights_of
from safetensors import safe_open
from small_wordnet import EXTRA
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig

from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.simulators.adapter import merge
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.head import Head

TEXT_LENGTH = 9


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """The lowest block of the embedded encoder."""
    return Encoder.load(resolve_model("smollm2"), (1,), "cpu")


@pytest.fixture(scope="module")
def data(folder: Path, encoder: Encoder) -> Supervision:
    def offsets(text: str) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = encoder.tokenizer(
            text, return_offsets_mapping=True, add_special_tokens=False
        )["offset_mapping"]
        return found

    return build(folder, list(EXTRA), offsets, 100_000, 0)


def concepts_of(data: Supervision) -> Concepts:
    _, table, n_phrasings = train_simulator.phrasing_table(data.concepts)
    return Concepts.load(data, table, n_phrasings, "cpu", 0)


def small_llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return AutoModel.from_config(config).eval()


def test_a_merged_adapter_is_the_trained_one_and_a_new_one_changes_nothing() -> None:
    ids = torch.randint(0, 50, (3, TEXT_LENGTH), generator=torch.Generator().manual_seed(1))
    plain, adapted = small_llama(), small_llama()
    adapters = attach(adapted, 4, 0.0)
    assert len(adapters) == 14 and not any(
        p.requires_grad for name, p in adapted.named_parameters() if ".base." in name
    )
    with torch.no_grad():
        torch.testing.assert_close(adapted(ids).last_hidden_state, plain(ids).last_hidden_state)
        for adapter in adapters.values():
            adapter.up.weight.normal_(std=0.2, generator=torch.Generator().manual_seed(2))
        expected = adapted(ids).last_hidden_state
        assert not torch.allclose(expected, plain(ids).last_hidden_state, atol=0.1)
        merge(plain, weights_of(adapters))
        torch.testing.assert_close(plain(ids).last_hidden_state, expected, atol=1e-4, rtol=1e-4)


def test_supervision_is_kept_whole(data: Supervision, tmp_path: Path) -> None:
    keep(data, tmp_path / "kept.npz")
    again = kept(tmp_path / "kept.npz")
    assert (again.texts, again.ends, again.concepts) == (data.texts, data.ends, data.concepts)
    for name in ("types", "membership", "context"):
        np.testing.assert_array_equal(getattr(again, name), getattr(data, name))


def test_batches_hold_training_texts_and_concepts_and_their_members(
    data: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concept_batches, "HELD_OUT", 0.5)
    concepts = concepts_of(data)
    starts = np.cumsum([0, *map(len, data.ends)])
    every = np.concatenate([data.membership[data.types], data.context], axis=1)
    assert len(concepts.dev_concepts) and len(concepts.dev_texts)
    for _ in range(5):
        batch = concepts.draw(6, 20)
        assert set(batch.texts.tolist()) <= set(concepts.train_texts.tolist())
        assert set(batch.concepts.tolist()) <= set(concepts.train_concepts.tolist())
        assert len(set(batch.concepts.tolist())) == len(batch.concepts) == 20
        assert batch.rows.tolist() == [
            row for text in batch.texts.tolist() for row in range(starts[text], starts[text + 1])
        ]
        np.testing.assert_array_equal(
            batch.member.numpy(), every[np.ix_(batch.rows, batch.concepts)]
        )
        flat, _table, _n = train_simulator.phrasing_table(data.concepts)
        for concept, phrasing in zip(
            batch.concepts.tolist(), batch.phrasings.tolist(), strict=True
        ):
            assert flat[phrasing] in data.concepts[concept].phrasings
    have = [
        c
        for c in concepts.train_concepts.tolist()
        if concepts.present[concepts.train_texts][:, c].any()
    ]
    texts = concepts.texts_with(torch.tensor(have))
    assert all(
        concepts.present[text, concept] for text, concept in zip(texts.tolist(), have, strict=True)
    )


def test_scores_are_pearsons_r_and_auc_of_known_tokens() -> None:
    """Against numpy, AUC by counting pairs."""
    rng = np.random.default_rng(0)
    simulated, member = rng.random((200, 3)), rng.integers(0, 3, (200, 3)).astype(np.uint8)
    member[:, 2] = 0
    names = [Concept("word", str(i), [str(i)]) for i in range(3)]
    found = concept_scores.scores(torch.as_tensor(simulated), torch.as_tensor(member), names)
    assert found["n"] == 2
    expected = []
    for i in range(2):
        known = member[:, i] != 2
        truth, s = member[known, i] == 1, simulated[known, i]
        auc = (s[truth][:, None] > s[~truth][None]).mean()
        expected.append((np.corrcoef(truth, s)[0, 1], auc))
    np.testing.assert_allclose([found["r"], found["auc"]], np.mean(expected, axis=0))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("encoder", "rank"), [pytest.param("smollm2", 0, marks=pytest.mark.slow), ("small", 2)]
)
def test_the_written_head_is_the_trained_simulator(
    tmp_path: Path,
    folder: Path,
    small_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    encoder: str,
    rank: int,
) -> None:
    """Through the file, half precision, the merged adapter and the package's numpy; then
    `train_simulator` goes on from it."""
    for module in (concept_batches, train_simulator):
        monkeypatch.setattr(module, "HELD_OUT", 0.5)
    monkeypatch.setattr(tune_encoder, "N_FITTED", 24)
    trained: list[tuple[Any, Concepts, Supervision]] = []
    original = tune_encoder.train

    def train(model: Any, concepts: Concepts, data: Supervision, args: argparse.Namespace) -> Any:
        trained.append((model, concepts, data))
        return original(model, concepts, data, args)

    monkeypatch.setattr(tune_encoder, "train", train)
    (tmp_path / "more.txt").write_text("\n\n".join(EXTRA))
    paths = [
        "--wordnet",
        str(folder),
        "--work",
        str(tmp_path / "work"),
        "--text",
        str(tmp_path / "more.txt"),
    ]
    small = "--steps 3 --every 3 --batch-texts 4 --batch-concepts 12 --hidden 16 --label-hidden 16 --width 8 --average 0"
    first = [
        *paths,
        "--out",
        str(tmp_path / "a.safetensors"),
        "--device",
        "cpu",
        "--encoder",
        str(small_model) if encoder == "small" else encoder,
        "--layers",
        "1",
        "--rank",
        str(rank),
        *small.split(),
    ]
    monkeypatch.setattr(sys, "argv", ["tune", *first, "--adapter-lr", "0.02", "--lr", "0.01"])
    tune_encoder.main()
    head = Head.load(tmp_path / "a.safetensors")
    assert bool(head.adapter) == bool(rank)
    model, concepts, data = trained[0]
    model.eval()
    own, texts = head.load_encoder("cpu"), [0, 3, 5]
    labels = [data.concepts[i].phrasings[0] for i in range(12)]
    with torch.no_grad(), tune_encoder.precision("cpu"):
        logits = model(torch.tensor(texts), concepts.phrasing[:12, 0])
    vectors = np.concatenate(
        [head.token_vectors(states) for states in own.states([data.texts[i] for i in texts])]
    )
    simulated = head.simulate(vectors, head.label_vectors(own, labels))
    expected = torch.sigmoid(logits).float().numpy()
    assert simulated.shape == expected.shape
    assert np.corrcoef(simulated.ravel(), expected.ravel())[0, 1] > 0.99
    assert np.abs(simulated - expected).mean() < 0.02
    if rank:
        more = (
            "--tokens 100000 --steps 2 --every 2 --batch-tokens 64 --batch-concepts 32 --threads 1"
        )
        more += " --hidden 16 --label-hidden 16 --width 8"
        rest = [
            *paths,
            "--out",
            str(tmp_path / "b.safetensors"),
            "--start",
            str(tmp_path / "a.safetensors"),
            *more.split(),
        ]
        monkeypatch.setattr(sys, "argv", ["train", *rest])
        train_simulator.main()
        further = Head.load(tmp_path / "b.safetensors")
        assert (
            further.adapter.keys() == head.adapter.keys() and further.record["start"] == head.record
        )
        assert all((further.adapter[name] == value).all() for name, value in head.adapter.items())
        assert (further.weights["token.mean"] == head.weights["token.mean"]).all()
        assert (further.weights["token.out.weight"] != head.weights["token.out.weight"]).any()


@pytest.mark.usefixtures("one_thread")
def test_a_tuned_labeler_reads_simulation_prompts_and_becomes_a_checkpoint(
    tmp_path: Path,
    folder: Path,
    small_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tune_exact, "N_DEV_CONCEPTS", 2)
    monkeypatch.setattr(concept_batches, "HELD_OUT", 0.5)
    options = f"--labeler {small_model} --device cpu --steps 2 --every 2 --batch-prompts 2 --n-texts 2 --rank 2"
    (tmp_path / "more.txt").write_text("\n\n".join(EXTRA))
    files = [
        "--wordnet",
        str(folder),
        "--work",
        str(tmp_path / "work"),
        "--text",
        str(tmp_path / "more.txt"),
    ]
    files += ["--out", str(tmp_path / "adapter.safetensors")]
    monkeypatch.setattr(sys, "argv", ["tune", *files, *options.split()])
    tune_exact.main()
    records = [
        json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")
    ]
    assert [record["step"] for record in records] == [0, 2]
    merged = [
        "--labeler",
        str(small_model),
        "--merge",
        str(tmp_path / "adapter.safetensors"),
        "--out",
        str(tmp_path / "merged"),
    ]
    monkeypatch.setattr(sys, "argv", ["tune", *merged])
    tune_exact.main()
    with safe_open(tmp_path / "adapter.safetensors", framework="numpy") as adapter:
        names = [name for name in adapter.keys() if adapter.get_tensor(name).any()]  # noqa: SIM118
    changed = {name.rpartition(".")[0] for name in names}
    before, after = (
        AutoModelForCausalLM.from_pretrained(path).state_dict()
        for path in (small_model, tmp_path / "merged")
    )
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved and moved <= {f"model.{name}.weight" for name in changed}
    assert (tmp_path / "merged" / "tokenizer.json").is_file()
