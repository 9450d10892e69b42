"""Digit tokens per tokenizer, and the check that a server's digit logits are the language model's
own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import FakeServer, fake_logits
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from interp_by_construction.config import LabelerConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.client import Labeler, make_labeler
from interp_by_construction.llm.digits import PROBES, TOLERANCE, resolve_digits

TEXT = ["apple 10 river 2 3 4 The word 5 6 7 8 9 0 1", "a10 b10 c10"] * 30


def byte_level(individual_digits: bool) -> Tokenizer:
    """As GPT-2; with individual digits as SmolLM2. Without them "10" becomes a token."""
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if individual_digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As Llama 2: a word starts with a mark, put before the text too; a digit behind a word has
    none."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.train_from_iterator(
        TEXT[::2],
        trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], show_progress=False),
    )
    return tokenizer


def spaced_words() -> Tokenizer:
    """Words and digits are tokens only with the space before them: a digit glued to a word is
    unknown."""
    words = [
        "[UNK]",
        "apple",
        "river",
        "The",
        "word",
        *(f" {w}" for w in ("river", "word", *"0123456789")),
    ]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    return tokenizer


def wrapped(tokenizer: Tokenizer, unk: str | None = None) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unk)


@pytest.mark.parametrize("individual_digits", [True, False])
def test_a_digit_behind_a_word_is_the_bare_digit(individual_digits: bool) -> None:
    tokenizer = wrapped(byte_level(individual_digits))
    joined = len(tokenizer.encode("10", add_special_tokens=False)) == 1
    assert joined is not individual_digits, (
        "the tokenizers of this test must differ in the number 10"
    )
    digits = resolve_digits(tokenizer, "m")
    assert digits.tokens == tuple("0123456789") and digits.lead == ""


def test_a_sentencepiece_digit_has_no_mark() -> None:
    digits = resolve_digits(wrapped(sentencepiece(), "<unk>"), "m")
    assert digits.tokens == tuple("0123456789") and digits.lead == ""


def test_a_tokenizer_that_needs_a_space_before_a_digit() -> None:
    tokenizer = wrapped(spaced_words(), "[UNK]")
    digits = resolve_digits(tokenizer, "m")
    assert digits.lead == " " and digits.tokens == tuple(f" {d}" for d in "0123456789")
    assert tokenizer.encode("The word 7", add_special_tokens=False)[-1] == digits.ids[7]


def test_a_tokenizer_without_a_digit_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "apple": 1, "7": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(
        LabelerError,
        match=r"labeler.model=org/words cannot simulate.*token of its own for each digit",
    ):
        resolve_digits(wrapped(words, "[UNK]"), "org/words")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


def labeler(tmp_path: Path, server: FakeServer, **changes: Any) -> Labeler:
    cfg = LabelerConfig(backend="endpoint", url=server.url, classify_url=server.url)
    return make_labeler(replace(cfg, **changes), tmp_path / "calls.sqlite", tmp_path / "logs")


def n_checks(server: FakeServer) -> tuple[int, int]:
    """Reference calls and digit calls so far."""
    return sum("prompt_logprobs" in body for _, body in server.requests), sum(
        path == "/pooling" for path, _ in server.requests
    )


def test_a_true_server_passes_and_is_compared_once(tmp_path: Path, server: FakeServer) -> None:
    server.logits_of = lambda prompt: (
        fake_logits(prompt) + 3.0 * len(prompt)
    )  # a constant per position means nothing
    server.reference_of = fake_logits
    with labeler(tmp_path, server) as made:
        made.digit_logits([[1, 2]])
        made.digit_logits([[1, 2, 3]])
        assert n_checks(server) == (len(PROBES), len(PROBES) + 2)
    # Another process: the reference is known, the classifier is asked again, and only if there is
    # something to ask.
    with labeler(tmp_path, server) as again:
        again.digit_logits([[1, 2], [1, 2, 3]])
        assert n_checks(server) == (len(PROBES), len(PROBES) + 2)
        again.digit_logits([[7]])
        assert n_checks(server) == (len(PROBES), 2 * len(PROBES) + 3)


def rotated(prompt: list[int]) -> np.ndarray:
    return np.roll(fake_logits(prompt), 1, axis=1)


def swapped(prompt: list[int]) -> np.ndarray:
    order = [0, 1, 2, 3, 4, 5, 6, 7, 9, 8]
    return fake_logits(prompt)[:, order]


def shifted(prompt: list[int]) -> np.ndarray:
    """The logits of the position before."""
    return np.roll(fake_logits(prompt), 1, axis=0)


def softened(prompt: list[int]) -> np.ndarray:
    """As a model that scales its logits behind the head, which the classifier leaves out."""
    return fake_logits(prompt) * 0.7


@pytest.mark.parametrize("wrong", [rotated, swapped, shifted, softened])
def test_logits_that_are_not_the_language_models_are_refused(
    tmp_path: Path, server: FakeServer, wrong: Any
) -> None:
    server.logits_of, server.reference_of = wrong, fake_logits
    with labeler(tmp_path, server) as made:
        for _ in range(2):
            with pytest.raises(
                LabelerError, match=r"are not the language model's: after '0, 1, 2.*is off by"
            ):
                made.digit_logits([[1, 2]])
        assert not [
            body for path, body in server.requests if path == "/pooling" and body["input"] == [1, 2]
        ]


def test_rounding_is_no_reason_to_refuse(tmp_path: Path, server: FakeServer) -> None:
    noise = np.random.default_rng(0)
    server.logits_of = lambda prompt: (
        fake_logits(prompt) + noise.uniform(-0.2, 0.2, size=(len(prompt), 10)) * TOLERANCE
    )
    server.reference_of = fake_logits
    with labeler(tmp_path, server) as made:
        assert made.digit_logits([[1, 2]])[0].shape == (2, 10)


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9"])
def test_a_classifier_alone_is_used_and_said_to_be_unchecked(
    tmp_path: Path, server: FakeServer, caplog: pytest.LogCaptureFixture, url: str | None
) -> None:
    with labeler(tmp_path, server, url=url) as made, caplog.at_level(logging.WARNING):
        made.digit_logits([[1, 2]])
        made.digit_logits([[3]])
    messages = [record.getMessage() for record in caplog.records]
    assert (
        len(messages) == 1
        and "are not compared with the language model's" in messages[0]
        and "labeler.url" in messages[0]
    )


def test_an_endpoint_without_prompt_logprobs_cannot_be_compared(
    tmp_path: Path, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.offers_prompt_logprobs = False
    with labeler(tmp_path, server) as made, caplog.at_level(logging.WARNING):
        assert made.digit_logits([[1, 2]])[0].shape == (2, 10)
    assert len(caplog.records) == 1 and "gives no prompt_logprobs" in caplog.records[0].getMessage()
