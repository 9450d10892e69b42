"""The lexicon that ships follows the senses of WordNet."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from lexical_supervision import WordNet
from make_lexicon import FILES, SYNSETS, lexicon, write

from interp_by_construction.truth import categories

SMALL = {"dogs": "dog.n.1", "verbs of walking": "walk.v.1"}


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, Any]:
    return lexicon(WordNet(folder), SMALL)


@pytest.fixture
def read(
    made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> categories.Lexicon:
    write(made, tmp_path / "lexicon.json.gz")
    return categories.Lexicon(tmp_path / "lexicon.json.gz")


def test_forms_belong_by_their_most_frequent_use(read: categories.Lexicon) -> None:
    assert {"dog", "dogs", "pony", "ponies", "goose", "geese"} <= read.members("animals")
    assert read.members("dogs") == {"dog", "dogs"}
    # Two senses of three and one of the others: none has most.
    assert "bat" not in read.members("animals") | read.members("verbs of contact")
    assert "batted" in read.members("verbs of contact") & read.members("past-tense verbs")
    assert {"hop", "hops", "hopped", "hopping"} <= read.members("verbs of motion")
    assert "ran" in read.members("past-tense verbs") and "run" not in read.members(
        "past-tense verbs"
    )
    assert "ponies" in read.members("plural nouns") and "pony" not in read.members("plural nouns")
    assert {"happy", "glad", "happiness"} <= read.members("emotions")
    assert "happily" in read.members("adverbs")


def test_the_same_words_give_the_same_bytes(made: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(made, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads(gzip.decompress((tmp_path / "a").read_bytes())) == made


def test_what_ships_was_made_with_these_categories() -> None:
    shipped = categories.category_names()
    assert {*FILES.values(), *SYNSETS} <= set(shipped)
    assert categories.LEXICON.stat().st_size <= 400 * 1024
