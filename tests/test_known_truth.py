"""The benchmark of hand-written neurons: what its file must be, and what its scores mean."""

from __future__ import annotations

import importlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from random_head import simulate_text

from interp_by_construction.corpus.words import normalised
from interp_by_construction.errors import CorpusError
from interp_by_construction.labelling.general import general_labels
from interp_by_construction.scoring import simulation_score
from interp_by_construction.scoring.known_truth import (
    KnownNeuron,
    Sentence,
    Simulate,
    evaluate_simulator,
    read_known_truth,
)
from interp_by_construction.simulators.head import Head

ROOT = Path(__file__).parent
NEURONS = read_known_truth(ROOT / "known_truth" / "neurons.jsonl")
TEXTS = [pytest.param(neuron, id=neuron.name) for neuron in NEURONS]
Requests = list[tuple[str, list[str]]]
Answers = list[list[float]]


def constant(requests: Requests) -> list[list[float]]:
    return [[0.5] * len(tokens) for _, tokens in requests]


def by_label(
    neurons: list[KnownNeuron], sign: float = 1.0, false: float = 0.0
) -> dict[tuple[str, str], list[float]]:
    """(label, text) -> `sign` times the truth for true labels, `false` times the truth for false
    ones."""
    values = {}
    for neuron in neurons:
        for tokens, activations in neuron.sentences:
            values[neuron.label, "".join(tokens)] = [sign * value for value in activations]
            values[neuron.false_label, "".join(tokens)] = [false * value for value in activations]
    return values


def lookup(values: dict[tuple[str, str], list[float]]) -> Simulate:
    return lambda requests: [values[label, "".join(tokens)] for label, tokens in requests]


def test_the_benchmark_is_large_and_mixed() -> None:
    kinds = Counter(neuron.kind for neuron in NEURONS)
    assert len(NEURONS) >= 30
    assert (
        kinds["lexical"] >= 24
        and kinds["contextual"] >= 10
        and set(kinds) == {"lexical", "contextual"}
    )


def test_names_labels_and_texts_are_distinct() -> None:
    assert len({neuron.name for neuron in NEURONS}) == len(NEURONS)
    # False labels included: otherwise one neuron's mistake would be another one's truth.
    labels = [
        normalised(label) for neuron in NEURONS for label in (neuron.label, neuron.false_label)
    ]
    repeated = {label for label, n in Counter(labels).items() if n > 1}
    assert len({normalised(neuron.label) for neuron in NEURONS}) == len(NEURONS)
    assert not repeated
    texts = ["".join(sentence.tokens) for neuron in NEURONS for sentence in neuron.sentences]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("neuron", TEXTS)
def test_shapes_and_ranges(neuron: KnownNeuron) -> None:
    assert len(neuron.sentences) == 5
    for tokens, activations in neuron.sentences:
        assert 10 <= len(tokens) == len(activations) <= 20
        assert all(type(value) is int and 0 <= value <= 10 for value in activations)
    values = [value for sentence in neuron.sentences for value in sentence.activations]
    assert max(values) >= 8, "no token is fully active"
    assert values.count(0) > len(values) / 2, "a concept neuron is silent on most tokens"


@pytest.mark.parametrize("neuron", TEXTS)
def test_joined_tokens_are_natural_text(neuron: KnownNeuron) -> None:
    for tokens, _ in neuron.sentences:
        text = "".join(tokens)
        assert text == text.strip() and "  " not in text and "{" not in text
        assert text[-1] in '.!?"' and not any(f" {mark}" in text for mark in ".,;:!?")
        # A word carries its leading space; what has none is punctuation or follows a quotation mark
        # or begins the text.
        for before, token in itertools.pairwise(tokens):
            assert token.startswith(" ") or not token[0].isalnum() or before.strip() == '"'
            assert (
                token.strip().replace("'", "").replace("-", "").isalnum() or len(token.strip()) == 1
            )


@pytest.mark.parametrize(
    "neuron", [n for n in NEURONS if n.kind == "lexical"], ids=lambda n: n.name
)
def test_lexical_activations_depend_on_the_token_alone(neuron: KnownNeuron) -> None:
    active: dict[str, set[bool]] = {}
    for tokens, activations in neuron.sentences:
        for token, value in zip(tokens, activations, strict=True):
            active.setdefault(token.strip().lower(), set()).add(value > 0)
    assert not [token for token, states in active.items() if len(states) > 1]


@pytest.mark.parametrize("neuron", TEXTS)
def test_activations_depend_on_what_was_read_so_far(neuron: KnownNeuron) -> None:
    """Two sentences that begin alike have the same activations as long as they are alike."""
    known: dict[str, int] = {}
    for tokens, activations in neuron.sentences:
        for end, value in enumerate(activations, start=1):
            assert known.setdefault("".join(tokens[:end]), value) == value


def test_contextual_neurons_differ_on_the_same_word() -> None:
    """The word decides nothing: most contextual neurons have a word that is active in one place and
    not in another."""
    split = 0
    for neuron in NEURONS:
        states: dict[str, set[bool]] = {}
        for tokens, activations in neuron.sentences:
            for token, value in zip(tokens, activations, strict=True):
                states.setdefault(token.strip().lower().removesuffix("s"), set()).add(value > 0)
        split += neuron.kind == "contextual" and any(len(each) > 1 for each in states.values())
    assert split >= 6


def test_a_perfect_simulator_scores_one() -> None:
    result = evaluate_simulator(NEURONS, lookup(by_label(NEURONS, false=-1.0)))
    for part in (result, *result["per_kind"].values()):
        assert part["r_true"] == pytest.approx(1.0) and part["r_false"] == pytest.approx(-1.0)
        assert (
            part["share_true_above_false"],
            part["n_undefined_true"],
            part["n_undefined_false"],
        ) == (1.0, 0, 0)
    assert sum(part["n"] for part in result["per_kind"].values()) == result["n"] == len(NEURONS)


def test_a_constant_simulator_is_undefined_and_counts_as_zero() -> None:
    result = evaluate_simulator(NEURONS, constant)
    assert (result["r_true"], result["r_false"], result["share_true_above_false"]) == (
        0.0,
        0.0,
        0.0,
    )
    assert result["n_undefined_true"] == result["n_undefined_false"] == len(NEURONS)
    assert all(score["r_true"] is None for score in result["per_neuron"].values())
    # null in JSON, never a NaN that other readers refuse.
    json.dumps(result, allow_nan=False)


def test_undefined_lowers_the_mean_and_is_counted_where_it_occurs() -> None:
    values = by_label(NEURONS, false=-1.0)
    flat = next(neuron for neuron in NEURONS if neuron.kind == "contextual")
    for tokens, _ in flat.sentences:
        values[flat.label, "".join(tokens)] = [3.0] * len(tokens)
    result = evaluate_simulator(NEURONS, lookup(values))
    assert (result["n_undefined_true"], result["n_undefined_false"]) == (1, 0)
    assert result["r_true"] == pytest.approx(1 - 1 / len(NEURONS))
    assert result["per_kind"]["lexical"]["n_undefined_true"] == 0
    assert result["per_kind"]["contextual"]["n_undefined_true"] == 1


def test_scores_are_signed() -> None:
    result = evaluate_simulator(NEURONS, lookup(by_label(NEURONS, sign=-1.0, false=1.0)))
    assert result["r_true"] == pytest.approx(-1.0)
    assert result["share_true_above_false"] == 0.0


def test_a_score_is_pooled_over_the_sentences_of_its_neuron() -> None:
    sentences = (Sentence(["a", " b"], [0, 10]), Sentence(["c", " d"], [0, 0]))
    neuron = KnownNeuron("x", "lexical", "right", "wrong", sentences)
    values = {
        ("right", "a b"): [0.0, 1.0],
        ("right", "c d"): [1.0, 0.0],
        ("wrong", "a b"): [1.0, 2.0],
        ("wrong", "c d"): [3.0, 4.0],
    }
    result = evaluate_simulator([neuron], lookup(values))
    assert result["r_true"] == pytest.approx(simulation_score([0, 10, 0, 0], [0, 1, 1, 0]))
    assert result["r_false"] == pytest.approx(simulation_score([0, 10, 0, 0], [1, 2, 3, 4]))
    assert set(result["per_kind"]) == {"lexical"}


def test_the_simulator_reads_labels_and_tokens_only_and_is_called_once() -> None:
    calls: list[Requests] = []

    def record(requests: Requests) -> list[list[float]]:
        calls.append(requests)
        return constant(requests)

    evaluate_simulator(NEURONS, record)
    (requests,) = calls
    assert len(requests) == 2 * sum(len(neuron.sentences) for neuron in NEURONS)
    assert {label for label, _ in requests} == {
        label for n in NEURONS for label in (n.label, n.false_label)
    }


@pytest.mark.parametrize(
    "broken", [lambda answers: answers[1:], lambda answers: [[1.0], *answers[1:]]]
)
def test_a_simulator_with_missing_values_is_refused(broken: Callable[[Answers], Answers]) -> None:
    with pytest.raises(ValueError, match="one value per token"):
        evaluate_simulator(NEURONS, lambda requests: broken(constant(requests)))
    with pytest.raises(ValueError, match="no neurons"):
        evaluate_simulator([], constant)


GOOD = {
    "name": "x",
    "kind": "lexical",
    "label": "a",
    "false_label": "b",
    "sentences": [{"tokens": ["a", " b"], "activations": [0, 9]}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "kind=other"),
        ({"label": " "}, "label must be a text"),
        ({"sentences": [{"tokens": ["a"], "activations": [0, 9]}]}, "1 tokens and 2 activations"),
        ({"sentences": [{"tokens": ["a", " b"], "activations": [0, 11]}]}, "from 0 to 10"),
        ({"sentences": [{"tokens": ["a", " b"], "activations": [0, True]}]}, "from 0 to 10"),
        ({"sentences": [{"tokens": ["a", " b"], "activations": [2, 2]}]}, "constant"),
        ({"sentences": [{"tokens": ["a", " b"]}]}, "activations"),
        ({"sentences": None}, "TypeError"),
    ],
)
def test_a_malformed_line_is_refused_by_its_number(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    file = tmp_path / "neurons.jsonl"
    file.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(GOOD | change) + "\n")
    with pytest.raises(CorpusError, match=f"line 3.*{message}"):
        read_known_truth(file)
    with pytest.raises(CorpusError, match="no such file"):
        read_known_truth(tmp_path / "missing.jsonl")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT.parent / "scripts"))
    return importlib.import_module("bench_known_truth")


def test_the_bench_prints_a_table_with_every_neuron(bench: ModuleType) -> None:
    assert read_known_truth(bench.NEURONS) == NEURONS
    perfect = evaluate_simulator(NEURONS, lookup(by_label(NEURONS, false=-1.0)))
    printed = bench.table({"head": perfect, "exact": evaluate_simulator(NEURONS, constant)})
    assert "1.00 (-1.00)            - (-)" in printed and "nan" not in printed
    assert all(
        any(line.startswith(neuron.name) for line in printed.splitlines()) for neuron in NEURONS
    )
    assert f"{len(NEURONS)} + {len(NEURONS)}" in printed


class LetterEncoder:
    """Stands in for a language model: a token's states are two numbers about its letters and how
    much text stands before it."""

    def __init__(self) -> None:
        self.tokenizer = self
        self.layers = (0,)
        self.texts: list[str] = []

    def encode(self, texts: Any, **options: object) -> Any:
        """As a tokenizer: the words of a text. As an encoder: features of every text's tokens."""
        return (
            texts.split() if isinstance(texts, str) else [self.features(tokens) for tokens in texts]
        )

    def states(self, texts: Sequence[str], **options: object) -> Iterator[NDArray[np.float32]]:
        # Copies that fill up a batch are one text.
        rows = {text: self.features(text.split()) for text in dict.fromkeys(texts)}
        return (rows[text] for text in texts)

    def features(self, tokens: Sequence[str]) -> NDArray[np.float32]:
        self.texts.append("".join(tokens))
        ends = np.cumsum([len(token) for token in tokens])
        return np.array(
            [
                [sum(map(ord, token)) % 7 / 7, end / 50]
                for token, end in zip(tokens, ends, strict=True)
            ],
            dtype=np.float32,
        )


def test_the_bench_gives_every_text_the_head_on_its_label(bench: ModuleType) -> None:
    rng = np.random.default_rng(0)
    weights: dict[str, NDArray[np.float32]] = {}
    for tower, n_in, n_out in (("token", 2, 4), ("label", 4, 5)):
        shapes: dict[str, tuple[int, ...]] = {
            "mean": (n_in,),
            "scale": (n_in,),
            "hidden.weight": (3, n_in),
            "hidden.bias": (3,),
            "out.weight": (n_out, 3),
            "out.bias": (n_out,),
            "skip.weight": (n_out, n_in),
        }
        weights |= {
            f"{tower}.{name}": np.asarray(rng.uniform(0.1, 0.3, shape), dtype=np.float32)
            for name, shape in shapes.items()
        }
    head = Head(weights, "letters", (0,), "identity", {})
    requests = [
        ("animals", ["A", " dog", "."]),
        ("colors", ["A", " dog", "."]),
        ("animals", ["Red", " fox"]),
    ]
    encoder = LetterEncoder()
    answers = bench.head_simulator(head, encoder)(requests)
    assert len(encoder.texts) == len(set(encoder.texts)), "a text or a label was encoded twice"
    alone = [simulate_text(head, LetterEncoder(), label, tokens) for label, tokens in requests]  # type: ignore[arg-type]
    for answer, expected in zip(answers, alone, strict=True):
        assert answer == pytest.approx(expected, rel=1e-6)
    assert len({value for answer in answers for value in answer}) == sum(map(len, answers)), (
        "the head tells nothing apart"
    )


def test_word_classes_are_scored_on_the_tokens_whose_class_is_sure(bench: ModuleType) -> None:
    sentences = [
        json.loads(line) for line in bench.WORD_CLASSES.read_text(encoding="utf8").splitlines()
    ]
    assert len(sentences) >= 20
    tags = {tag for sentence in sentences for tag in sentence["tags"]}
    asked: dict[str, tuple[set[str], set[str]]] = {
        label: sets for labels, sets in bench.CLASSES.items() for label in labels
    }
    for sentence in sentences:
        assert len(sentence["tokens"]) == len(sentence["tags"])
        assert [token.startswith(" ") for token in sentence["tokens"]] == [
            i > 0 and token not in (".", ",") for i, token in enumerate(sentence["tokens"])
        ]
    for members, left_out in asked.values():
        assert members <= tags and left_out <= tags and not members & left_out
    tag_of = {tuple(sentence["tokens"]): sentence["tags"] for sentence in sentences}

    def perfect(requests: list[tuple[str, list[str]]]) -> list[list[float]]:
        """What is left out gets values that would spoil the score."""
        answers = []
        for label, tokens in requests:
            members, left_out = asked[label]
            answers.append(
                [9.0 if tag in left_out else float(tag in members) for tag in tag_of[tuple(tokens)]]
            )
        return answers

    assert "mean of the usual names 1.000, of other words 1.000" in bench.word_classes(perfect)


def test_the_bench_subtracts_the_reference_labels_on_the_same_texts(
    bench: ModuleType, tmp_path: Path
) -> None:
    """Against values put together by hand, on a server whose logits depend on the whole prompt."""
    from fake_server import FakeServer

    from interp_by_construction.config import compose
    from interp_by_construction.llm.client import make_labeler
    from interp_by_construction.simulators.exact import REFERENCE_LABELS, simulate_packed

    texts = [["A", " dog", "."], [" No", " fox"]]
    requests = [("animals", texts[0]), ("animals", texts[1]), ("colors", texts[0])]
    with FakeServer() as server:
        cfg = compose(
            ["labeler=endpoint", f"labeler.url={server.url}", f"labeler.classify_url={server.url}"]
        ).labeler
        with make_labeler(cfg, tmp_path / "calls.sqlite", tmp_path) as labeler:
            answers = bench.exact_simulator(labeler)(requests)
            raw = simulate_packed(labeler, ["animals", *REFERENCE_LABELS], texts, "test")
    assert [len(answer) for answer in answers] == [3, 2, 3]
    assert [*answers[0], *answers[1]] == pytest.approx(
        (raw[:, 0] - raw[:, 1:].mean(axis=1)).tolist(), rel=1e-6
    )
    assert answers[2] != answers[0]


def test_general_labels_are_many_short_and_distinct() -> None:
    labels = general_labels()
    assert 350 <= len(labels) <= 500
    assert len({normalised(label) for label in labels}) == len(labels)
    assert all(1 <= len(label.split()) <= 6 and label.isprintable() for label in labels)
    assert math.isclose(sum(label.startswith("the word '") for label in labels), 60, abs_tol=5)
