"""The simulate stage: reliability, fidelity and cost beside the targets, in memory that does not
grow with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import FakeServer
from numpy.typing import NDArray
from random_head import write_random_head
from safetensors.numpy import load_file
from small_run import config
from stage_jobs import compute, given

from interp_by_construction.config import Config
from interp_by_construction.corpus import build_corpus, passage
from interp_by_construction.corpus.parts import part_passage
from interp_by_construction.engine.disk import write_json
from interp_by_construction.engine.records import to_json
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.engine.runtime import fast_dtype
from interp_by_construction.engine.store import METRICS
from interp_by_construction.engine.tensors import create_safetensors
from interp_by_construction.errors import ConfigError
from interp_by_construction.labelling.labels import Label
from interp_by_construction.llm.client import make_labeler
from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.simulators import SIMULATORS, check, create
from interp_by_construction.simulators.base import Models, Simulation, Simulator
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.exact import (
    REFERENCE_LABELS,
    contrasted,
    plan,
    simulate_packed,
)
from interp_by_construction.stages.encode import Encode
from interp_by_construction.stages.simulate import Simulate

LAYERS = "simulate.encoder_layers=[1,2]"
LABELS = [
    Label(
        node=node,
        text=text,
        pole=pole,
        status="aligned" if text else "failed",
        attempts=1,
        reason=None,
    )
    for node, text, pole in ((3, "animals", 1), (5, None, 1), (8, "food", -1))
]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture(scope="module")
def corpus(server: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    build_corpus(config(server, out).data, None, out)
    return out


@pytest.fixture(scope="module")
def encoded(server: FakeServer, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("encoded") / "encoded"
    stage = Encode.of_parts(config(server, out, LAYERS), given(corpus))
    assert stage is not None
    write_json(out / METRICS, to_json(compute(stage, out)))
    return out


def run(
    server: FakeServer, corpus: Path, encoded: Path | None, out: Path, *more: str
) -> tuple[dict[str, Any], Config]:
    cfg, labels = config(server, out, LAYERS, *more), out / "labels"
    labels.mkdir(parents=True)
    write_rows(labels / "labels.jsonl", [asdict(label) for label in LABELS])
    parent = None if encoded is None else given(encoded)
    stage = Simulate.of(cfg, given(corpus), parent, given(labels), 1)
    return to_json(compute(stage, out)), cfg


LABEL, NEWLINE = 17213, 198
"""Tokens of the embedded tokenizer."""


def label_and_word(prompt: list[int]) -> np.ndarray:
    """float32 [pos, 10] that depend on the token and on the last line `Label: ...` before it, not
    on what stands above."""
    rows, line, heading = [], [], 0
    for token in prompt:
        if token == NEWLINE:
            heading, line = (sum(line) if line[:1] == [LABEL] else heading), []
        else:
            line.append(token)
        rows.append(np.random.default_rng([heading, token]).normal(size=10))
    return np.stack(rows).astype(np.float32) * 2


def test_reliability_of_a_noiseless_simulator_is_one(
    corpus: Path, encoded: Path, tmp_path: Path
) -> None:
    """A labeler that does not look at the examples agrees with itself whatever they are."""
    with FakeServer() as noiseless:
        noiseless.logits_of = label_and_word
        metrics, _ = run(noiseless, corpus, encoded, tmp_path / "a")
    for name in ("reliability", "reliability_order"):
        assert metrics[name] == pytest.approx(1.0, abs=1e-6) and metrics[f"n_{name}_undefined"] == 0
    assert metrics["fidelity_over_reliability"] == pytest.approx(metrics["fidelity"])


def test_a_labeler_that_follows_the_examples_alone_has_none(
    server: FakeServer, corpus: Path, encoded: Path, tmp_path: Path
) -> None:
    """The fake's logits depend on all that stands before: other examples give other numbers."""
    metrics, _ = run(server, corpus, encoded, tmp_path / "a")
    assert abs(metrics["reliability"]) < 0.3
    assert metrics["n_reliability_tokens"] > 100
    none, _ = run(server, corpus, encoded, tmp_path / "b", "simulate.reliability_tokens=0")
    assert (
        none["reliability"] is None
        and none["reliability_order"] is None
        and none["n_reliability_tokens"] == 0
    )
    assert none["fidelity_over_reliability"] is None
    assert none["fidelity"] == metrics["fidelity"]


def test_cost_counts_tokens_and_products(
    server: FakeServer, corpus: Path, encoded: Path, tmp_path: Path
) -> None:
    metrics, cfg = run(server, corpus, encoded, tmp_path / "a")
    size = json.loads((encoded / METRICS).read_text())
    text = part_passage(corpus, "score", cfg.simulate)
    n_tokens = text.is_text.size
    asked = {tuple(body["input"]) for path, body in server.requests if path == "/pooling"}
    with make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler:
        prompts = list(plan(labeler, ["animals", "food", *REFERENCE_LABELS], text.tokens).prompts())
    assert {tuple(prompt.ids) for prompt in prompts} <= asked, (
        "the cost must be of prompts that were really sent"
    )
    exact, dense = metrics["cost"]["exact"], metrics["cost"]["dense"]
    assert exact["labeler_tokens"] == round(
        1e6 * sum(len(prompt.ids) for prompt in prompts) / (n_tokens * 2)
    )
    # SmolLM2-135M: 30 blocks of 576 x (576 + 2 * 192 + 576) + 3 * 576 * 1536 weights and two norms.
    block = 576 * (2 * 576 + 2 * 192) + 3 * 576 * 1536 + 2 * 576
    assert exact["multiply_adds"] == pytest.approx(exact["labeler_tokens"] * 30 * block, rel=1e-5)
    assert size["multiply_adds_per_token"] == 2 * block
    assert dense["encoder_tokens"] == round(1e6 * size["tokens_per_subject_token"] / 2)
    assert dense["multiply_adds"] == pytest.approx(
        dense["encoder_tokens"] * 2 * block + 1e6 * 2 * 576, rel=1e-5
    )
    assert metrics["cost"]["exact_over_dense"] == pytest.approx(
        exact["multiply_adds"] / dense["multiply_adds"], rel=1e-5
    )


def test_targets_are_what_a_plain_file_would_hold(
    server: FakeServer, corpus: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """simulator=exact, in slices: the file equals the simulation of every slice, and the memory map
    writes a valid file."""
    monkeypatch.setattr(passage, "SLICE", 2)
    more = ("simulate.simulator=exact", "simulate.max_align_tokens=384")
    _, cfg = run(server, corpus, None, tmp_path / "a", *more)
    targets = load_file(tmp_path / "a" / "targets.safetensors")
    assert targets["nodes"].tolist() == [3, 8] and targets["poles"].tolist() == [1, -1]
    text = part_passage(corpus, "align", cfg.simulate)
    np.testing.assert_array_equal(targets["mask"], text.is_text)
    with make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler:
        raw = np.concatenate(
            [
                simulate_packed(
                    labeler,
                    ["animals", "food", *REFERENCE_LABELS],
                    text.tokens[start : start + 2],
                    "test",
                )
                for start in (0, 2)
            ]
        )
    expected = contrasted(raw[:, :2], raw[:, 2:].mean(axis=1)).astype(np.float16)
    np.testing.assert_array_equal(targets["values"].reshape(-1, 2), expected)


class WordSimulator(Simulator):
    """By a rule: a word is simulated as 1 where it starts with the label's first letter."""

    name = "words"
    any_text = True
    simulated_parts = ("head_score", "calibrate", "test")
    scored_part = "head_score"
    calibration_part = "calibrate"

    def open(self, models: Models) -> Callable[[Sequence[str]], Simulation]:
        return WordSimulation


class WordSimulation(Simulation):
    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels

    def __call__(self, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        words = [token.strip().lower() for text in texts for token in text]
        said = [[word[:1] == label[:1] for label in self._labels] for word in words]
        return np.array(said, np.float32).reshape(len(words), len(self._labels))


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> str:
    """Registered like any other: one line."""
    monkeypatch.setitem(SIMULATORS, "words", f"{__name__}:{WordSimulator.__name__}")
    return "simulate.simulator=words"


def test_a_simulator_without_a_language_model_is_one_class_and_one_line(
    server: FakeServer, corpus: Path, tmp_path: Path, words: str
) -> None:
    """It reads no encoded text; the labeler simulates the score split beside it as for any
    other."""
    metrics, cfg = run(server, corpus, None, tmp_path / "a", words)
    targets = load_file(tmp_path / "a" / "targets.safetensors")
    simulated = load_file(tmp_path / "a" / "simulated.safetensors")
    expected = WordSimulation(["animals", "food"])
    for part, values in (("align", targets["values"]), ("test", simulated["test"])):
        text = part_passage(corpus, part, cfg.simulate)
        np.testing.assert_array_equal(values.reshape(-1, 2), expected(text.tokens))
        assert values.max() == 1 and values.min() == 0
    assert set(simulated) == {
        *("score", "score_reference", "score_dense"),
        *WordSimulator.simulated_parts,
    }
    assert -1 <= metrics["fidelity"] <= 1 and metrics["cost"] is None
    check(config(server, tmp_path, words, "nodes.assign=match", "label.audit_rounds=1"))


def test_without_exact_simulation_nothing_is_asked_and_the_rest_is_the_same(
    server: FakeServer, corpus: Path, tmp_path: Path, words: str
) -> None:
    """simulate.n_score_tokens=0 leaves out the labeler's own simulation, and no more."""
    run(server, corpus, None, tmp_path / "with", words)
    asked = len(server.requests)
    metrics, _ = run(server, corpus, None, tmp_path / "without", words, "simulate.n_score_tokens=0")
    assert len(server.requests) == asked
    assert metrics["fidelity"] is None and metrics["n_fidelity_undefined"] == 2
    files = ("targets.safetensors", "simulated.safetensors")
    with_it, without = (
        {file: load_file(tmp_path / name / file) for file in files} for name in ("with", "without")
    )
    np.testing.assert_equal(without[files[0]], with_it[files[0]])
    exact = ("score", "score_reference", "score_dense")
    assert all(len(without[files[1]][name]) == 0 for name in exact)
    for name in set(with_it[files[1]]) - set(exact):
        np.testing.assert_array_equal(without[files[1]][name], with_it[files[1]][name])


@pytest.mark.parametrize("needs", ["simulate.simulator=ridge", "scores.enabled=true"])
def test_what_needs_exact_simulation_says_so(
    server: FakeServer, tmp_path: Path, needs: str
) -> None:
    given = ("simulate.simulator=head", "scores.enabled=false", "simulate.n_score_tokens=0")
    check(config(server, tmp_path, *given))
    with pytest.raises(ConfigError, match=r"simulate\.n_score_tokens=0: give at least one"):
        check(config(server, tmp_path, *given, needs))


def test_a_simulation_depends_on_label_and_text_alone(
    server: FakeServer, tmp_path: Path, words: str
) -> None:
    """Invariant 5, for every simulator that simulates any label: other labels beside it change
    nothing but the last bits."""
    texts = [["The", " dog", " ran"], ["Apples", " and", " food", "."]]
    head = write_random_head(tmp_path / "head.safetensors")
    for name in SIMULATORS:
        cfg = config(server, tmp_path, f"simulate.simulator={name}", f"simulate.head={head}")
        with make_labeler(cfg.labeler, tmp_path / "calls.sqlite", tmp_path) as labeler:
            simulator = create(cfg.simulate)
            models = Models(lambda own=labeler: own, lambda own=simulator: own.load_encoder("cpu"))
            if simulator.any_label:
                simulate = simulator.open(models)
                both, alone = simulate(["animals", "food"])(texts), simulate(["food"])(texts)
                np.testing.assert_allclose(alone[:, 0], both[:, 1], rtol=1e-5)
                assert both.shape == (7, 2) and simulate([])(texts).shape == (7, 0)


def test_every_simulator_says_what_the_stages_ask(server: FakeServer, tmp_path: Path) -> None:
    for name in SIMULATORS:
        simulator = create(config(server, tmp_path, f"simulate.simulator={name}").simulate)
        assert simulator.name == name
        assert simulator.scored_part in simulator.parts()
        assert simulator.calibration_part in simulator.parts()
        assert simulator.scored_part != simulator.calibration_part
        assert "head_score" in simulator.parts() or not simulator.any_text
    with pytest.raises(ConfigError, match=r"simulate.simulator=magic.*exact, ridge, head"):
        check(config(server, tmp_path, "simulate.simulator=magic"))


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_simulator_sees_no_setting_that_is_not_hashed(
    server: FakeServer, tmp_path: Path, name: str
) -> None:
    """Each field of `simulate` moves the fingerprint, or what is computed does not depend on it."""
    cfg = config(server, tmp_path, f"simulate.simulator={name}")
    other = {"encoder_layers": [3], "contrast": False}

    def stage(changed: Config) -> Simulate:
        return Simulate.of(changed, given(tmp_path), None, given(tmp_path), 1)

    plain = stage(cfg)
    for field in fields(cfg.simulate):
        if field.name in ("simulator", "head", "second_head", "encoder"):
            continue
        value = other.get(field.name, 7)
        changed = stage(replace(cfg, simulate=replace(cfg.simulate, **{field.name: value})))
        if changed.fingerprint == plain.fingerprint:
            assert changed.texts == plain.texts
            assert changed.contrast == plain.contrast
            assert changed.simulator.simulator.cfg == plain.simulator.simulator.cfg


def test_mapped_files_are_safetensors(tmp_path: Path) -> None:
    shapes = {
        "flags": (np.bool_, (3, 5)),
        "half": (np.float16, (7,)),
        "ids": (np.int64, (2,)),
        "none": (np.float32, (0, 4)),
    }
    tensors = create_safetensors(tmp_path / "x.safetensors", shapes)
    rng = np.random.default_rng(0)
    written = {
        name: rng.integers(0, 2, size=shape).astype(dtype)
        for name, (dtype, shape) in shapes.items()
    }
    for name, value in written.items():
        tensors[name][:] = value
    read = load_file(tmp_path / "x.safetensors")
    assert set(read) == set(shapes)
    for name, value in written.items():
        assert read[name].dtype == value.dtype
        np.testing.assert_array_equal(read[name], value)


def test_a_text_longer_than_the_encoders_context_is_refused() -> None:
    from interp_by_construction.errors import LabelerError

    encoder = Encoder.load(resolve_model("smollm2"), [1], "cpu")
    encoder.model.config.max_position_embeddings = 16
    with pytest.raises(LabelerError, match="longer than the encoder's context of 16"):
        list(encoder.encode([[" word"] * 17]))


def test_the_encoder_reads_no_layer_above_those_asked_for() -> None:
    from transformers import AutoModel

    texts = [["The", " dog", " ran", "."], [" A", " fox"]]
    lower = Encoder.load(resolve_model("smollm2"), [2], "cpu")
    assert len(lower.model.layers) == 2
    cut = list(lower.encode(texts))
    whole = Encoder.load(resolve_model("smollm2"), [2, 30], "cpu")
    for few, many in zip(cut, whole.encode(texts), strict=True):
        np.testing.assert_array_equal(few, many[:, :576])
    last = AutoModel.from_pretrained(resolve_model("smollm2"), dtype=fast_dtype("cpu")).eval()
    ids = whole.tokenizer("The dog ran.", return_tensors="pt", add_special_tokens=False)
    expected = last(**ids).last_hidden_state[0].float().detach().numpy()
    np.testing.assert_allclose(
        next(whole.encode(texts[:1]))[:, 576:].astype(np.float32), expected, rtol=0.02, atol=0.05
    )
