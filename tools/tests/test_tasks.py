"""Examples of the adapter's three tasks, on texts whose truth is known, and a training that stops
and goes on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tune_labeler"))
import train_adapter
from evidence import WINDOW, Places, make_node
from lexical_words import IGNORE, Concept
from low_rank import LowRank, attach, set_weights, weights_of
from supervision import Supervision, known_tokens, with_lists
from tasks import Examples
from train_adapter import Adapted, Labelled, train
from transformers import AutoTokenizer

from interp_by_construction.labelling.prompts import peak_word
from interp_by_construction.llm.digits import resolve_digits
from interp_by_construction.llm.embedded import resolve_model

WORDS = ("cat", "dog", "red", "blue", "the", "sat", "far", "away")
N_TEXTS, LENGTH = 60, 30


@pytest.fixture(scope="module")
def data() -> Supervision:
    """Texts of eight words; `animals` by word, and `the word after 'the'` by context."""
    rng = np.random.default_rng(0)
    types = rng.integers(0, len(WORDS), (N_TEXTS, LENGTH))
    behind = np.zeros_like(types)
    behind[:, 1:] = types[:, :-1] == WORDS.index("the")
    animals = np.array([i < 2 for i in range(len(WORDS))], dtype=np.uint8)
    word = np.eye(len(WORDS), dtype=np.uint8)
    hidden = np.where(word[:, 2] == 1, IGNORE, word[:, 3]).astype(np.uint8)
    concepts = [
        Concept("file", "animals", ["animals", "kinds of animal"]),
        *(Concept("word", f"the word {each}", [f"the word '{each}'"]) for each in WORDS),
        Concept("synset n", "blue", ["a colour"]),
        Concept("neighbour", "after the", ["the word after 'the'"]),
    ]
    return Supervision(
        [[f" {WORDS[i]}" for i in row] for row in types],
        ["book" if i % 4 else "other" for i in range(N_TEXTS)],
        np.arange(types.size),
        np.ones(types.size, bool),
        types.reshape(-1).astype(np.int32),
        np.column_stack([animals, word, hidden]),
        behind.reshape(-1, 1).astype(np.uint8),
        concepts,
        np.zeros(len(concepts), bool),
    )


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(resolve_model("smollm2"))


@pytest.fixture
def examples(data: Supervision, tokenizer: Any) -> Examples:
    tokens = np.flatnonzero(data.text_of % 4 != 0)
    columns = np.arange(len(data.concepts))
    return Examples(data, tokens, tokenizer, resolve_digits(tokenizer, "x"), columns, 0)


def holds(label: str, words: list[str], i: int) -> bool:
    """Whether a label applies to a word of a text."""
    if label in ("animals", "kinds of animal"):
        return words[i] in WORDS[:2]
    if label == "a colour":
        return words[i] == "blue"
    return words[i - 1] == "the" if "after" in label else f"'{words[i]}'" in label


def test_the_digit_behind_every_word_is_its_truth(examples: Examples, tokenizer: Any) -> None:
    kinds = set()
    for _ in range(200):
        example = examples.rated()
        kinds |= set(example.kinds)
        text = tokenizer.decode(example.ids)
        label = text.split("Label: ")[1].split("\n")[0]
        if example.kinds == [2]:
            assert text.endswith("Fits where marked:") and "<<" in text
            continue
        words = text.split("Text: ")[1].split("\n")[0].split()
        *positions, last = example.at
        read = [tokenizer.decode(example.ids[at]).strip() for at in positions]
        known = [i for i, word in enumerate(words) if not (label == "a colour" and word == "red")]
        # The first word of a text may be the last one of what stands before, which nobody sees.
        if label == "the word after 'the'":
            known, positions = known[1:], positions[1:]
        assert len(read) >= len(known) and last == len(example.ids) - 1
        digits = example.digits[:-1][-len(known) :]
        assert digits == [9 * int(holds(label, words, i)) for i in known], (label, words)
        assert example.digits[-1] in (0, 1) and text.endswith("Fits:")
    assert kinds == {0, 1, 2}


def test_evidence_shows_members_and_the_answer_is_a_phrasing(
    examples: Examples, data: Supervision, tokenizer: Any
) -> None:
    for concept in (0, len(data.concepts) - 1):
        for _ in range(20):
            example = examples.written(concept)
            text = tokenizer.decode(example.ids)
            answer = tokenizer.decode(example.ids[example.n_prompt :])
            assert answer.strip() in data.concepts[concept].phrasings and answer.endswith("\n")
            assert text[: -len(answer)].endswith("Label:") and text.startswith("Words: ")
            assert len(example.ids) < 320, "a view has at most 300 tokens"


def test_nodes_are_made_of_members_and_near_misses(data: Supervision) -> None:
    rng, tokens = np.random.default_rng(0), np.arange(len(data.types))
    column = len(data.concepts) - 1
    members, near = known_tokens(data, tokens, np.array([0, column]), rng, 64)
    assert (data.member(members[column], np.array([column])) == 1).all()
    assert (data.member(near[column], np.array([column])) == 0).all()
    assert not len(near[0]), "an animal is one wherever it stands"
    places = Places.of(data)
    node = make_node(data, places, members[0], near[0], tokens, rng)
    shown = [peak_word(each) for each in node.top]
    assert sum(word in WORDS[:2] for word in shown) >= len(shown) - 3
    assert all(1 <= len(each.tokens) <= WINDOW for each in node.top)
    assert all(each.activations[each.peak] == 0 for each in node.random)


def test_lists_are_unions_of_words(data: Supervision) -> None:
    more = with_lists(data, 5, 0)
    assert more.n_words == data.n_words + 5 and more.concepts[-1] == data.concepts[-1]
    for i in range(data.n_words, more.n_words):
        assert more.concepts[i].kind == "list"
        named = {word for word in WORDS if f"'{word}'" in more.concepts[i].phrasings[0]}
        assert {WORDS[row] for row in np.flatnonzero(more.membership[:, i] == 1)} == named


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_where_it_was(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = argparse.Namespace(
        labeler="smollm2",
        adapter=None,
        device="cpu",
        rank=2,
        first=29,
        dropout=0.0,
        lr=1e-3,
        steps=4,
        minutes=60.0,
        seed=0,
        every=1,
        rated=2,
        written=1,
        label=0.2,
        detect=0.1,
        work=tmp_path,
        out=tmp_path / "out",
    )
    monkeypatch.setattr(train_adapter, "POOL", 1)
    own = Adapted.load(args)
    args.minutes = 0.0
    assert train(own, examples, args)["step"] == 0
    args.minutes = 60.0
    keep, n_kept = train_adapter.keep, 0

    def stops(*given: Any) -> None:
        nonlocal n_kept
        keep(*given)
        n_kept += 1
        if n_kept == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_adapter, "keep", stops)
    with pytest.raises(KeyboardInterrupt):
        train(own, examples, args)
    monkeypatch.setattr(train_adapter, "keep", keep)
    again = Adapted.load(args)
    optimized: list[int] = []
    monkeypatch.setattr(train_adapter, "keep", lambda args, step, *rest: optimized.append(step))
    assert train(again, examples, args)["step"] == 4 and optimized[0] == 3
    for name, each in again.adapters.items():
        assert not torch.equal(each.up.weight, torch.zeros_like(each.up.weight)), name


def test_weights_of_an_adapter_are_set_where_they_fit() -> None:
    def adapters(seed: int, rank: int = 2) -> dict[str, LowRank]:
        torch.manual_seed(seed)
        model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(3, 5)])})
        found = attach(model, rank, 0.0)
        for each in found.values():
            nn.init.normal_(each.up.weight)
        return found

    one, other = adapters(0), adapters(1)
    set_weights(other, weights_of(one))
    for name, value in weights_of(one).items():
        np.testing.assert_array_equal(weights_of(other)[name], value)
    with pytest.raises(ValueError, match=r"layers.0.down: \[2, 3\], needed \[1, 3\]"):
        set_weights(adapters(0, 1), weights_of(one))
    with pytest.raises(ValueError, match=r"odd.up is not in both"):
        set_weights(other, weights_of(one) | {"odd.up": np.zeros((1, 1))})


def test_what_is_held_out_is_not_trained_on(data: Supervision) -> None:
    held = data._replace(
        books=["h-g-wells_the-time-machine" if i < 5 else "book" for i in range(N_TEXTS)],
        held_out=np.arange(len(data.concepts)) == 0,
    )
    split = Labelled.split(held)
    assert not np.isin(split.columns, [0]).any()
    assert (held.text_of[split.tokens] >= 5).all()
