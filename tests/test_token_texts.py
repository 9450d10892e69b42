"""Laws of the text of tokens: joined they are the text, whatever the tokenizer does to spaces and
characters, and words are whole in every script."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from interp_by_construction.corpus.token_texts import REPLACEMENT, TokenTexts
from interp_by_construction.corpus.tokenize import token_ids, train_tokenizer
from interp_by_construction.corpus.words import count_words, is_word
from interp_by_construction.labelling.prompts import context, peak_word
from interp_by_construction.report.letters import visible
from interp_by_construction.subject.nodes import Excerpt, shown_at

TEXTS = ("The dog runs , and é runs.", "数据。中😀", "سلام دنیا", "a\ufffdb")


@functools.cache
def sentencepiece() -> PreTrainedTokenizerFast:
    """Like those of Llama 2 and Mistral: a space in front is added, and dropped when decoding."""
    words = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    model = models.BPE({word: i for i, word in enumerate(words)}, [("▁", "a")], byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<s>", unk_token="<unk>")


@functools.cache
def byte_level() -> PreTrainedTokenizerFast:
    return train_tokenizer(["The dog runs and runs."] * 9, 280)


@pytest.mark.parametrize("made", [sentencepiece, byte_level])
@pytest.mark.parametrize("text", TEXTS)
def test_joined_tokens_are_the_text(made: Any, text: str) -> None:
    tokenizer = made()
    ids = token_ids(tokenizer, [text])[0]
    shown = TokenTexts(tokenizer).of(ids)
    assert len(shown) == len(ids) and "".join(shown) == f" {text}"
    # No token knows what follows it.
    for stop in range(len(ids)):
        assert TokenTexts(tokenizer).of(ids[:stop]) == shown[:stop]
    # A cut through a character leaves bytes that are not shown.
    for start in range(1, len(ids)):
        rest = "".join(TokenTexts(tokenizer).of(ids[start:]))
        assert f" {text}".endswith(rest) and rest.count(REPLACEMENT) <= text.count(REPLACEMENT)


def test_a_token_without_a_text_shows_its_bytes() -> None:
    for tokenizer in (sentencepiece(), byte_level()):
        texts, ids = TokenTexts(tokenizer), token_ids(tokenizer, ["中"])[0]
        assert [texts.alone(token) for token in ids[-3:]] == ["<0xE4>", "<0xB8>", "<0xAD>"]
    separated = TokenTexts(byte_level(), byte_level().eos_token_id)
    assert separated.of([byte_level().eos_token_id]) == ["\n"]


@pytest.mark.parametrize(
    ("tokens", "peak", "word"),
    [
        ([" ele", "ph", "ant", " ran"], 1, "elephant"),
        (["", "", "数", "据", "。"], 0, "数"),
        (["我", "喜欢", "狗"], 1, "喜欢"),
        ([" ne", "ï", "", "ve"], 1, "neï"),
        ([" हि", "न्दी", " में"], 1, "हिन्दी"),
        ([" می\u200c", "خواهم", "!"], 1, "می\u200cخواهم"),
    ],
)
def test_a_word_is_whole_in_its_script(tokens: list[str], peak: int, word: str) -> None:
    excerpt = Excerpt(tokens, [1.0] * len(tokens), peak, 0)
    assert peak_word(excerpt) == word and f"[{word}]" in context(excerpt)
    assert tokens[shown_at(tokens, peak)]


def test_words_are_counted_in_every_script() -> None:
    assert count_words("Two words, at-most") == 3
    assert count_words("我喜欢狗") == 2 and count_words("ACGT" * 100) == 10
    assert is_word("हिन्दी") and not is_word("a b") and not is_word("")


def test_letters_that_move_no_cursor_are_shown() -> None:
    assert visible("a\u00a0b\u3000c") == "a b c"
    assert visible("می\u200cخواهم\u200f") == "می\u200cخواهم"
    assert visible("\x1b[2J") == f"{REPLACEMENT}[2J"
