"""The law of every simulator: what it says of a token depends on the text up to the end of that
token, however later text is cut into tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_token_texts import byte_level, sentencepiece
from tiny_subjects import FAMILIES, random_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from interp_by_construction.errors import ConfigError
from interp_by_construction.llm.digits import resolve_digits
from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.prompt import PromptBuilder
from interp_by_construction.simulators.reading import PrefixTree, cutter, prefix_tree, settled

TEXT = "The houseboat's unbelievable owner  said\n\nthat nothing, nothing at all -- not even Peterson's dog -- was 1234 feet away. 数据。café\u0301 "


@functools.cache
def smollm2() -> Any:
    return AutoTokenizer.from_pretrained(resolve_model("smollm2"))


@functools.cache
def unigram() -> PreTrainedTokenizerFast:
    """The best cut of a whole word: later letters change where earlier ones are cut."""
    words = [("<unk>", 0.0), ("▁", -3.0), *((letter, -6.0) for letter in "abcdehilnoprstuvwy.,'")]
    words += [("▁house", -4.0), ("▁hou", -4.5), ("seboat", -5.0), ("boat", -5.0), ("ing", -4.0)]
    tokenizer = Tokenizer(models.Unigram(words, 0, False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


TOKENIZERS = (smollm2, byte_level, sentencepiece, unigram)


def pieces_of(text: str, rng: np.random.Generator) -> list[str]:
    """The text, cut anywhere, some pieces of it empty."""
    at = np.sort(rng.integers(0, len(text) + 1, size=max(1, len(text) // 3)))
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


def path(tree: PrefixTree, node: int) -> list[int]:
    found = []
    while node >= 0:
        found.append(int(tree.ids[node]))
        node = int(tree.parents[node])
    return found[::-1]


def test_no_text_holds_a_special_token() -> None:
    for tokenizer in (smollm2(), byte_level()):
        end = tokenizer.eos_token
        (ids,) = cutter(tokenizer)([f"a{end}b"])
        assert tokenizer.eos_token_id not in ids and tokenizer.decode(ids).strip() == f"a{end}b"
        assert cutter(tokenizer)([TEXT])[0] == tokenizer.encode(TEXT, add_special_tokens=False)


@pytest.mark.parametrize("made", TOKENIZERS)
@pytest.mark.parametrize("repeats", [1, 12])
def test_each_prefix_is_cut_as_a_text_of_its_own(made: Callable[[], Any], repeats: int) -> None:
    rng, cut = np.random.default_rng(repeats), cutter(made())
    pieces = pieces_of(TEXT * repeats, rng)
    tree = prefix_tree(cut, pieces)
    prefixes = ["".join(pieces[: i + 1]) for i in range(len(pieces))]
    assert [path(tree, node) for node in tree.ends] == cut(prefixes)
    seen = tree.ancestors()
    for node in rng.choice(len(tree.ids), 20):
        assert tree.ids[seen[node]].tolist() == path(tree, node)
        assert tree.depths[node] == seen[node].sum() - 1
    assert len(set(zip(tree.ids.tolist(), tree.parents.tolist(), strict=True))) == len(tree.ids)
    front = tree.behind([7, 8])
    assert [path(front, node) for node in front.ends] == [[7, 8, *own] for own in cut(prefixes)]


@pytest.mark.parametrize("made", TOKENIZERS)
def test_one_sequence_never_takes_back_what_was_read(made: Callable[[], Any]) -> None:
    cut, text = cutter(made()), TEXT * 2
    for seed in range(10):
        rng = np.random.default_rng(seed)
        pieces = pieces_of(text, rng)
        ids, reads = settled(cut, pieces)
        assert len(reads) == len(pieces) and reads[-1] == len(ids)
        stop = int(rng.integers(1, len(pieces)))
        other = [*pieces[:stop], *pieces_of("seboatings, 7 dogs", rng)]
        again, read_again = settled(cut, other)
        assert (read_again[:stop] == reads[:stop]).all()
        assert again[: reads[stop - 1]] == ids[: reads[stop - 1]]
        # A text whose pieces are what the tokenizer makes of it is cut as it always is.
        if made in (smollm2, byte_level):
            assert made().decode(ids).strip() == text.strip()
            natural = cut([text])[0]
            offsets = made()(text, add_special_tokens=False, return_offsets_mapping=True)
            whole = [text[a:b] for a, b in offsets["offset_mapping"]]
            assert "".join(whole) != text or settled(cut, whole)[0] == natural


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_reads_a_tree_as_it_reads_each_prefix(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(family).eval()
    tokenizer = byte_level()
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = Encoder.load(str(tmp_path), (1, 2), "cpu")
    texts = [["The", " dog", " ru", "n", "s and", " ", " runs"], ["", "", " d", "og"]]
    read = list(encoder.encode(texts))
    for text, rows in zip(texts, read, strict=True):
        prefixes = ["".join(text[: i + 1]) or "\n" for i in range(len(text))]
        expected = [states[-1] for states in encoder.states(prefixes)]
        np.testing.assert_allclose(rows.astype(np.float32), expected, rtol=5e-3, atol=5e-3)
    # Later text, inside a word too, changes nothing.
    for stop in (2, 3, 4):
        (again,) = encoder.encode([[*texts[0][:stop], "nnetboat", " and more"]])
        np.testing.assert_allclose(again[:stop], read[0][:stop], rtol=5e-3, atol=5e-3)


def test_an_encoder_that_cannot_read_a_tree_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model("llama").save_pretrained(tmp_path)
    byte_level().save_pretrained(tmp_path)
    monkeypatch.setattr(Encoder, "_of_trees", lambda self, trees: np.zeros((1, 3, 16), np.float32))
    with pytest.raises(ConfigError, match=r"simulate.encoder=.*tree"):
        Encoder.load(str(tmp_path), (1,), "cpu")


def test_an_exact_rating_knows_no_later_text() -> None:
    builder = PromptBuilder(smollm2(), resolve_digits(smollm2(), "smollm2"))
    for seed in range(5):
        pieces = pieces_of(TEXT, np.random.default_rng(seed))
        whole = builder.excerpt(pieces)
        for stop in range(1, len(pieces), 5):
            other = builder.excerpt([*pieces[:stop], "nnet", " and", " more"])
            assert (whole.reads[:stop] == other.reads[:stop]).all()
            n = whole.reads[stop - 1] + 1
            assert (whole.ids[:n] == other.ids[:n]).all()
