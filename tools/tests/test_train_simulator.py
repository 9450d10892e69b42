"""Laws of how a head is trained on hidden states of a frozen encoder, and exported."""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import lexical_supervision
import numpy as np
import pytest
import torch
import train_simulator
from lexical_supervision import Supervision
from lexical_words import IGNORE, Concept
from small_wordnet import EXTRA, halves

from interp_by_construction.simulators import head as head_module
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.head import Head


def test_states_are_kept_as_their_principal_components(tmp_path: Path) -> None:
    """All components without whitening are a rotation: inner products stay, up to one factor."""
    encoder = FakeEncoder("any")
    texts = ["one two three", "four five"] * 50
    n = FakeEncoder.n_features
    states = np.concatenate(list(encoder.states(texts)))
    args = argparse.Namespace(components=n, whiten=0.0)
    kept, projection = train_simulator.encode_texts(
        cast(Encoder, encoder), texts, len(states), tmp_path / "x.npy", args, None
    )
    x = np.clip((states - projection.mean) / projection.scale, -6, 6)
    gram, expected = kept.astype(np.float64) @ kept.T.astype(np.float64), x.astype(np.float64) @ x.T
    np.testing.assert_allclose(gram / np.trace(gram), expected / np.trace(expected), atol=1e-4)
    fewer = train_simulator.fit(states, 4, 0.5)
    spread = fewer(states).astype(np.float64)
    np.testing.assert_allclose(spread.T @ spread / len(spread), np.eye(4), atol=2e-2)
    again, _ = train_simulator.encode_texts(
        cast(Encoder, None), texts, len(states), tmp_path / "x.npy", args, None
    )
    np.testing.assert_array_equal(again, kept)


def test_a_batch_has_members_of_every_rare_concept(data: Supervision) -> None:
    args = argparse.Namespace(
        seed=0, batch_concepts=20, batch_tokens=30, positives=2, mixed=1.0, general=0.3
    )
    columns = np.arange(len(data.concepts))
    batches = train_simulator.Batches(data, np.arange(len(data.types)), columns, args)
    labels = torch.arange(float(batches.phrasing.max() + 1))[:, None]
    batch, chosen, features = batches.draw(labels)
    member = train_simulator.membership(data, batch, chosen) == 1
    possible = np.array([len(batches.members[c]) > 0 for c in chosen])
    assert (member.any(axis=0) == possible).all() and possible.any()
    # Few concepts are of a general kind, and they have their share.
    assert len(chosen) == len(set(chosen)) == 20
    assert sum(data.concepts[c].kind in train_simulator.GENERAL for c in chosen) == 6
    # A mixture lies between phrasings of its own concept.
    own = batches.phrasing[chosen]
    assert (features[:, 0].numpy() >= own.min(axis=1) - 1e-3).all() and (
        features[:, 0].numpy() <= own.max(axis=1) + 1e-3
    ).all()


def _pairs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and memberships, [token, concept]; the last concept is too rare for a correlation."""
    generator = torch.Generator().manual_seed(seed)
    member = torch.randint(0, 3, (40, 6), generator=generator).to(torch.uint8)
    member[:, -1] = 0
    member[0, -1] = 1
    return torch.randn(40, 6, generator=generator), member


def test_the_loss_ignores_what_is_not_known() -> None:
    logits, member = _pairs()
    logits.requires_grad_()
    loss = train_simulator.loss_of(logits, member, 0.5)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[member == IGNORE] == 0).all()
    assert (logits.grad[member != IGNORE] != 0).all()
    other = torch.where(member == IGNORE, torch.full_like(logits, 7.0), logits.detach())
    assert train_simulator.loss_of(other, member, 0.5).item() == pytest.approx(
        loss.item(), rel=1e-5
    )


def test_the_loss_is_least_where_membership_is_told() -> None:
    logits, member = _pairs()
    perfect = torch.where(member == 1, 8.0, -8.0)
    losses = [
        train_simulator.loss_of(guess, member, 0.5).item() for guess in (perfect, logits, -perfect)
    ]
    assert losses == sorted(losses) and 0 <= losses[0] < 0.01 * losses[1]
    # The correlation of each frequent concept, and its worst case: 1 - (-1).
    apart = train_simulator.loss_of(-perfect, member, 1.5).item() - losses[2]
    assert apart == pytest.approx(2.0, abs=1e-3)
    rare = torch.zeros_like(member)
    rare[0] = 1
    assert (
        train_simulator.loss_of(logits, rare, 0.0).item()
        == train_simulator.loss_of(logits, rare, 5.0).item()
    )


def test_the_exported_towers_are_the_trained_ones(
    tmp_path: Path, data: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch against the package's numpy, through the file and half precision."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    n, width = 24, 6
    args = argparse.Namespace(
        encoder="some-encoder",
        layers=[1, 3],
        text=[Path("more.txt")],
        out=tmp_path / "head.safetensors",
        lr=0.1,
        seed=0,
        whiten=0.25,
        label_components=7,
        hidden=16,
        label_hidden=12,
        width=width,
        dropout=0.5,
        label_dropout=0.5,
    )
    token = train_simulator.fit(
        rng.normal(size=(300, n)).astype(np.float32) * rng.uniform(0.1, 3, n), 10, args.whiten
    )
    # Some features lie far outside, where they are cut off.
    x, z = (rng.normal(size=shape).astype(np.float32) * 3 for shape in ((50, n), (90, 3 * n)))
    x[0], z[0] = 1000.0, -1000.0
    labels, label = train_simulator.project_labels(z, token, args, None)
    model = train_simulator.new_model(len(token.basis), len(label.basis), args).eval()
    train_simulator.save(
        args, train_simulator.exported(model.state_dict(), token, label), {"step": 5}, data
    )
    head = Head.load(args.out)
    assert (head.encoder, head.encoder_layers, head.width) == ("some-encoder", (1, 3), width)
    assert head.record["result"] == {"step": 5} and head.record["n_concepts"] == len(data.concepts)
    assert head.record["settings"]["layers"] == [1, 3] and "more.txt" in head.record["texts"]
    projected = torch.as_tensor(token(x)).float()
    with torch.inference_mode():
        expected = {
            "token": model.token(projected).numpy(),
            "label": model.label_vectors(labels.float()).numpy(),
        }
        simulated = torch.sigmoid(model(projected, labels.float())).numpy()
    monkeypatch.setattr(head_module, "label_features", lambda encoder, labels, suffix: z)
    vectors = {
        "token": head.token_vectors(x),
        "label": head.label_vectors(
            cast(Encoder, SimpleNamespace(layers=head.encoder_layers)), ["a"] * len(z)
        ),
    }
    assert head.label_suffix == train_simulator.LABEL_SUFFIX
    for name, value in expected.items():
        assert vectors[name].dtype == np.float32
        np.testing.assert_allclose(vectors[name], value, atol=2e-2)
    np.testing.assert_allclose(
        head.simulate(vectors["token"], vectors["label"]), simulated, atol=2e-2
    )


def test_phrasing_table_repeats_each_concepts_own_phrasings() -> None:
    concepts = [
        Concept("word", str(i), [f"{i} {j}" for j in range(n)]) for i, n in enumerate((2, 5, 1))
    ]
    flat, table, numbers = train_simulator.phrasing_table(concepts)
    assert flat == ["0 0", "0 1", "1 0", "1 1", "1 2", "1 3", "1 4", "2 0"]
    assert table.tolist() == [[0, 1, 0, 1, 0], [2, 3, 4, 5, 6], [7, 7, 7, 7, 7]]
    assert numbers.tolist() == [2, 5, 1]


def test_memberships_of_a_batch_join_words_and_context(data: Supervision) -> None:
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(data.types), 200, replace=False))
    columns = rng.permutation(len(data.concepts))
    every = np.concatenate([data.membership[data.types], data.context], axis=1)
    np.testing.assert_array_equal(
        train_simulator.membership(data, rows, columns), every[np.ix_(rows, columns)]
    )


def test_features_are_standardised_without_their_extremes() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, size=(4000, 3)).astype(np.float32)
    features[0] = 1e6
    features[:, 2] = 1.0
    mean, scale = train_simulator.standard(features)
    np.testing.assert_allclose(mean, [3, 3, 1], atol=0.2)
    np.testing.assert_allclose(scale, [2, 2, 1e-4], atol=0.2)
    assert scale.min() > 0


def test_more_texts_are_read_by_paragraph(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One\ntwo  three.\n\n\n\nFour.\n")
    (tmp_path / "b.txt").write_text("Five.")
    assert train_simulator.extra_sentences([tmp_path / "a.txt", tmp_path / "b.txt"]) == [
        "One two three.",
        "Four.",
        "Five.",
    ]


class FakeEncoder:
    """Gives every token a few numbers by its letters and the encoder; counts the texts it reads."""

    n_features = 16

    def __init__(self, name: str) -> None:
        self.name, self.n_read, self.tokenizer = name, 0, self

    def __call__(self, text: str, **_: bool) -> dict[str, list[tuple[int, int]]]:
        return {"offset_mapping": halves(text)}

    def encode(self, text: str, **_: bool) -> list[str]:
        return [text[start:end] for start, end in halves(text)]

    def states(self, texts: list[str], **_: int) -> Iterator[np.ndarray]:
        for text in texts:
            self.n_read += 1
            seeds = [zlib.crc32(f"{self.name} {token}".encode()) for token in self.encode(text)]
            yield np.stack(
                [np.random.default_rng(seed).normal(size=self.n_features) for seed in seeds]
            ).astype(np.float32)


@pytest.mark.slow
def test_the_script_trains_writes_a_head_and_reads_each_text_once(
    tmp_path: Path,
    folder: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    encoders: dict[str, FakeEncoder] = {}

    def load(path: str, layers: list[int], device: str, adapter: object) -> FakeEncoder:
        encoders[path] = FakeEncoder(path)
        return encoders[path]

    def run(encoder: str, out: str) -> Path:
        paths = {
            "--wordnet": folder,
            "--text": tmp_path / "more.txt",
            "--work": tmp_path / "work",
            "--out": tmp_path / out,
        }
        files = [str(part) for pair in paths.items() for part in pair]
        small = (
            "--layers 1 --steps 120 --every 60 --lr 0.02 --batch-tokens 512 --batch-concepts 64 --hidden 16 --width 16 --dropout 0 "
            "--label-dropout 0 --components 16 --label-components 16 --average 0.9 --general 0.7"
        )
        monkeypatch.setattr(
            sys, "argv", ["train", *files, *small.split(), "--encoder", encoder, "--threads", "1"]
        )
        train_simulator.main()
        return tmp_path / out

    (tmp_path / "more.txt").write_text("\n\n".join(EXTRA))
    monkeypatch.setattr(train_simulator.Encoder, "load", load)
    monkeypatch.setattr(train_simulator, "resolve_model", lambda name: name)
    for module in (train_simulator, lexical_supervision):
        monkeypatch.setattr(module, "HELD_OUT", 0.5)  # there are few
    first = Head.load(run("one", "a.safetensors"))
    assert encoders["one"].n_read > 100
    records = [
        json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")
    ]
    assert [record["step"] for record in records] == [60, 120]
    # Words are told apart, context is not: the fake encoder reads none.
    seen = records[-1]["seen_concepts"]
    assert seen["auc"] > 0.65 and seen["by_kind"]["word"] > 0.3 and seen["by_kind"]["mark"] > 0.6
    assert first.record["result"] == max(
        records, key=lambda record: record["held_out_concepts"]["r"]
    )
    # Again: the same head, without reading a text. Another encoder's states are not taken for this
    # one's.
    again = Head.load(run("one", "b.safetensors"))
    assert encoders["one"].n_read == 0
    assert all((again.weights[name] == value).all() for name, value in first.weights.items())
    run("two", "c.safetensors")
    assert encoders["two"].n_read > 100
