"""Laws of passages: what is read of a part is the part of what is read, and excerpts stay in their
document."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from given_text import given_passage, split_of
from test_function import NODES
from test_function import corpus as corpus
from tiny_subjects import LENGTH, random_model

from interp_by_construction.corpus.passage import Passage, batches, spaced
from interp_by_construction.corpus.windows import window_around
from interp_by_construction.subject.hooks import activations
from interp_by_construction.subject.reading import activations_on, read_activations


def passage_of(corpus: Path, length: int = LENGTH) -> Passage:
    source = split_of(corpus, "test")
    return Passage(source, np.arange(1, len(source.dataset), 2), length)


@pytest.mark.parametrize("read_before", [False, True])
def test_a_part_reads_what_the_whole_reads(corpus: Path, read_before: bool) -> None:
    whole, other = passage_of(corpus, 7), passage_of(corpus, 7)
    for at in (slice(2, 5), np.array([3, 0])):
        part = (whole if read_before else other).part(at)
        for name in ("blocks", "ids", "documents", "is_text"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[at])
    assert "ids" not in vars(other), "a part must not make the whole read anything"
    pieces = [piece.ids for piece in other.slices(4)]
    assert max(map(len, pieces)) == 4
    np.testing.assert_array_equal(np.concatenate(pieces), whole.ids)


def test_tokens_of_a_part_are_those_of_the_whole() -> None:
    passage = given_passage([["a", "b"], ["c", "\n"], ["d", "e"]])
    assert passage.part(slice(1, 3)).tokens == passage.tokens[1:]
    assert passage.part(np.array([2, 0])).flat_tokens == ["d", "e", "a", "b"]


def test_blocks_are_as_many_as_asked_for_and_at_least_one(corpus: Path) -> None:
    total = len(split_of(corpus, "test").dataset)
    for arguments, n in (
        ({}, total),
        ({"n_blocks": 3}, 3),
        ({"n_blocks": 10**6}, total),
        ({"n_tokens": 5 * LENGTH + 1}, 5),
        ({"n_tokens": 1}, 1),
        ({"n_tokens": 0}, 0),
        ({"n_tokens": 12, "length": 4}, 3),
    ):
        evenly = Passage.of_split(corpus, "test", **arguments)
        first = Passage.of_split(corpus, "test", first=True, **arguments)
        assert len(evenly) == len(first) == n
        np.testing.assert_array_equal(evenly.blocks, spaced(total, n))
        np.testing.assert_array_equal(first.blocks, np.arange(n))
        assert evenly.ids.shape == (n, evenly.length)
    assert Passage.of_split(corpus, "test", length=10**6).length == LENGTH


def test_windows_have_their_width_and_hold_their_token() -> None:
    for width in (1, 5, 16):
        for position in range(20):
            window = window_around(position, width, 0, 20)
            assert window.start <= position < window.stop and window.stop - window.start == width
    assert window_around(2, 8, 1, 4) == slice(1, 4)
    assert window_around(10, 4, 0, 20, before=0) == slice(10, 14)


def test_an_excerpt_is_of_one_document(corpus: Path) -> None:
    passage = passage_of(corpus)
    for row in range(len(passage)):
        for position in range(LENGTH):
            window = passage.around(row, position, 6)
            assert window.start <= position < window.stop <= LENGTH
            assert len(set(passage.documents[row, window])) == 1


def test_activations_do_not_depend_on_batches_nor_on_how_much_of_a_block_is_read(
    corpus: Path,
) -> None:
    model, passage = random_model("gpt2"), passage_of(corpus)
    with torch.no_grad():
        real = activations(model, 1, torch.as_tensor(passage.ids)).numpy()
    for length, size in ((LENGTH, 4), (5, 4)):
        text = passage_of(corpus, length)
        for at, values in read_activations(model, text, 1, batch_size=size):
            np.testing.assert_allclose(values, real[at, :length], rtol=1e-5, atol=1e-6)
        chosen = activations_on(model, text, 1, NODES, size).reshape(*text.shape, -1)
        np.testing.assert_array_equal(
            chosen,
            activations_on(model, passage, 1, NODES, size).reshape(*passage.shape, -1)[:, :length],
        )
    assert activations_on(model, passage, 1, NODES[:0]).shape == (len(passage) * LENGTH, 0)
    assert batches(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
