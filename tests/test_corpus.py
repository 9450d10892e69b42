"""Laws of the corpus: disjoint splits, reproducible bytes, held-out words where they belong, clear
errors."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from interp_by_construction.config import SPLITS, DataConfig, compose
from interp_by_construction.config.text import APART, TALES_FRACTIONS
from interp_by_construction.corpus import (
    build_corpus,
    content_identity,
    documents,
    held_out_documents,
    load_blocks,
    load_tokenizer,
    measured_splits,
    read_documents,
)
from interp_by_construction.corpus.files import DATA
from interp_by_construction.corpus.lexicon import (
    ANIMAL_SOUNDS,
    HELD_OUT,
    LEXICON,
    concept_mask,
    plural,
    words_of,
)
from interp_by_construction.corpus.splits import assign, check_disjoint
from interp_by_construction.corpus.stories import generate
from interp_by_construction.corpus.templates import BEATS, PLOTS, SLOTS, n_held_out
from interp_by_construction.corpus.text import Reading, split_text
from interp_by_construction.engine.disk import sha256_file
from interp_by_construction.errors import ConfigError, CorpusError

SMALL = DataConfig(n_documents=700, vocab_size=600, block_size=64)
EQUAL = {split: 1 / len(SPLITS) for split in SPLITS}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    build_corpus(SMALL, None, out)
    return out


def hashes(directory: Path) -> dict[str, str]:
    return {
        str(f.relative_to(directory)): sha256_file(f)
        for f in sorted(directory.rglob("*"))
        if f.is_file()
    }


def text_config(path: Path | str, **changes: object) -> DataConfig:
    base = DataConfig(
        name="text", kind="text", path=str(path), fractions=EQUAL, block_size=16, vocab_size=300
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


# --- stories


def test_concepts_are_many_and_disjoint() -> None:
    assert len(LEXICON) >= 20
    for first, second in combinations(LEXICON, 2):
        assert not LEXICON[first] & LEXICON[second], (first, second)
    assert all(HELD_OUT[concept] < LEXICON[concept] for concept in LEXICON)


def test_templates_are_well_formed() -> None:
    held_out = frozenset[str]().union(*HELD_OUT.values())
    for beat, templates in BEATS.items():
        assert n_held_out(len(templates)) * 5 == len(templates), beat
        for template in templates:
            for slot in re.findall(r"\{(\w+)\}", template):
                name = slot.removeprefix("any_").lower()
                assert name in {*SLOTS, "he", "him", "his", "sound", "animals", "fruits"}, (
                    beat,
                    slot,
                )
            # A held-out word in the fixed text of a template would leak it into every split.
            assert not held_out & set(words_of(re.sub(r"\{\w+\}", "", template))), (beat, template)
    assert {beat for plot in PLOTS for beat in plot} == set(BEATS)


def test_stories_depend_on_seed_index_and_split_alone() -> None:
    assert generate(["train"] * 30, 0)[:10] == generate(["train"] * 10, 0)
    assert generate(["train"] * 10, 0) != generate(["train"] * 10, 1)


def test_stories_are_rich_and_consistent() -> None:
    stories = [story.text for story in generate(["train"] * 3000, 0)]
    assert len(set(stories)) == len(stories)
    assert len({word for story in stories for word in words_of(story)}) >= 500
    sounds = {
        sound: {a for a, s in ANIMAL_SOUNDS.items() if s == sound}
        for sound in ANIMAL_SOUNDS.values()
    }
    for story in stories:
        words = words_of(story)
        # One child and at most one friend, one gender; an animal that is heard is one that sounds
        # like that.
        assert 1 <= len(LEXICON["names"] & set(words)) <= 2, story
        assert len(LEXICON["family"] & set(words)) <= 1, story
        for word in words:
            assert word not in sounds or {
                form for a in sounds[word] for form in (a, plural(a))
            } & set(words), story
        pronouns = {"he": {"he", "his", "him"}, "she": {"she", "her"}}
        assert sum(bool(group & set(words)) for group in pronouns.values()) <= 1, story
        assert not re.search(r"\b[Aa] [aeiou]|\{|\}|  ", story), story


def test_held_out_words_and_templates_are_only_in_train_and_score(corpus: Path) -> None:
    table = pq.read_table(corpus / "documents.parquet").to_pylist()
    held_out_splits = {row["split"] for row in table if row["held_out"]}
    assert held_out_splits == {"train", "score"}
    held_out = frozenset[str]().union(*HELD_OUT.values())
    tokenizer = load_tokenizer(corpus)
    for split in SPLITS:
        text = tokenizer.decode(
            np.concatenate([row["input_ids"] for row in load_blocks(corpus, split)])
        )
        found = held_out & set(words_of(text.replace("<|endoftext|>", " ")[20:-20]))
        assert bool(found) == (split in held_out_splits), (split, found)


@pytest.mark.parametrize("split", ["label", "simulate", "select", "align", "test"])
def test_ordinary_splits_never_use_held_out_material(split: str) -> None:
    held_out = frozenset[str]().union(*HELD_OUT.values())
    for story in generate([split] * 500, 3):
        assert not story.held_out
        assert not held_out & set(words_of(story.text))


def test_every_held_out_word_occurs_in_pretraining() -> None:
    seen = {word for story in generate(["train"] * 4000, 0) for word in words_of(story.text)}
    for concept in HELD_OUT:
        assert HELD_OUT[concept] <= seen, HELD_OUT[concept] - seen


def test_concept_mask_marks_all_pieces_of_a_word() -> None:
    tokens = ["The", " squ", "irrel", " saw", " Tom", "'s", " cat", "s", ".", " concat"]
    assert concept_mask(tokens, "animals") == [
        False,
        True,
        True,
        False,
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    assert concept_mask(tokens, "names")[4] and not concept_mask(tokens, "names")[5]
    with pytest.raises(KeyError):
        concept_mask(tokens, "no such concept")


# --- splits and blocks


def test_splits_are_disjoint_and_follow_the_fractions(corpus: Path) -> None:
    table = pq.read_table(corpus / "documents.parquet").to_pylist()
    assert len({row["sha256"] for row in table}) == len(table)
    for split in SPLITS:
        share = sum(row["split"] == split for row in table) / len(table)
        assert abs(share - SMALL.fractions[split]) < 0.01
        in_blocks = set(np.unique(load_blocks(corpus, split)[:]["document"]).tolist())
        assert in_blocks and in_blocks <= {
            row["document"] for row in table if row["split"] == split
        }


def test_shared_document_is_refused() -> None:
    with pytest.raises(CorpusError, match="'train' and 'score'"):
        check_disjoint({"train": ["a", "b"], "score": ["b"]})


def test_every_split_gets_a_document() -> None:
    sizes = [1.0] * 3 + [1000.0] + [1.0] * 5
    for seed in range(20):
        assert set(assign(sizes, DataConfig().fractions, seed)) == set(SPLITS)
    assert assign([1.0] * 50, EQUAL, 0) != assign([1.0] * 50, EQUAL, 1)


def test_same_config_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    build_corpus(SMALL, None, tmp_path)
    assert hashes(tmp_path) == hashes(corpus)


def test_blocks_are_documents_in_order_with_separators(corpus: Path) -> None:
    tokenizer = load_tokenizer(corpus)
    blocks = load_blocks(corpus, "test")
    assert blocks.cache_files, "blocks are not memory-mapped"
    assert blocks[0]["input_ids"].shape == (SMALL.block_size,)
    ids, documents = (
        np.concatenate([row[name] for row in blocks]) for name in ("input_ids", "document")
    )
    ends = np.flatnonzero(ids == tokenizer.eos_token_id)
    assert np.array_equal(ends, np.flatnonzero(np.diff(documents, append=documents[-1])))
    splits = assign([1.0] * SMALL.n_documents, SMALL.fractions, SMALL.seed)
    first = generate(splits, SMALL.seed)[int(documents[0])].text
    assert tokenizer.decode(ids[: ends[0]]).strip() == first
    assert held_out_documents(corpus).shape == (SMALL.n_documents,)


def test_given_tokenizer_is_used_and_saved(corpus: Path, tmp_path: Path) -> None:
    build_corpus(dataclasses.replace(SMALL, vocab_size=300), load_tokenizer(corpus), tmp_path)
    assert hashes(tmp_path / "tokenizer") == hashes(corpus / "tokenizer")
    assert hashes(tmp_path / "blocks") == hashes(corpus / "blocks")


def test_shipped_vocabulary_keeps_words_whole(tmp_path: Path) -> None:
    build_corpus(DataConfig(vocab_size=2048), None, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    for concept, words in LEXICON.items():
        for word in words:
            shown = word.capitalize() if concept in ("names", "days") else word
            assert len(tokenizer(shown, add_special_tokens=False)["input_ids"]) == 1, word
    lengths = pq.read_table(tmp_path / "documents.parquet")["n_tokens"].to_numpy()
    assert lengths.min() >= 80 and lengths.max() <= 200


# --- text


LINES = "\n".join(f"The number {i} comes\nright after {i - 1} here." for i in range(900))


def test_chapters_are_documents_and_lines_are_joined() -> None:
    chapter = "CHAPTER {0}. On {0}.\n\nSome words\nof chapter {0}.\n\nAs in CHAPTER 2 above.\n\n"
    book = "".join(chapter.format(i) for i in range(1, 11))
    chapters = split_text(book)
    assert len(chapters) == 10
    assert chapters[1] == "CHAPTER 2. On 2.\n\nSome words of chapter 2.\n\nAs in CHAPTER 2 above."


def test_text_without_chapters_is_cut_every_500_words() -> None:
    documents = split_text(LINES)
    assert {len(document.split()) for document in documents[:-1]} == {500}
    assert " ".join(documents).split() == LINES.split()


def test_sources_agree(tmp_path: Path) -> None:
    import datasets
    import pyarrow as pa

    rows = [f"Document {i} says {i * i}." for i in range(9)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    pq.write_table(pa.table({"text": rows}), tmp_path / "b.parquet")
    datasets.Dataset.from_dict({"text": rows}).save_to_disk(str(tmp_path / "saved"))
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, row in enumerate(rows):
        (folder / f"{i}.txt").write_text(row)
    for source in ("a.jsonl", "b.parquet", "saved", "folder"):
        assert read_documents(text_config(tmp_path / source)) == rows, source
    assert read_documents(text_config(folder, max_documents=4)) == rows[:4]


def test_the_shipped_split_of_the_tales_keeps_what_it_promises() -> None:
    with (DATA / "tales_splits.tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    raw = gzip.decompress((DATA / "tales.jsonl.gz").read_bytes()).decode().splitlines()
    tales = [json.loads(line) for line in raw]
    assert [row["title"] for row in rows] == [tale["title"] for tale in tales]
    by_story, by_book = defaultdict(set), defaultdict(list)
    words: Counter[str] = Counter()
    for row, tale in zip(rows, tales, strict=True):
        by_story[row["story"]].add(row["split"])
        by_book[row["book"]].append(row["split"])
        if row["split"] != APART:
            words[row["split"]] += len(tale["text"].split())
    for splits in by_story.values():
        assert len(splits) == 1 or splits == {"test", APART}, "retellings are in one split"
    apart = [book for book, splits in by_book.items() if APART in splits]
    assert len(apart) == 3 and all(set(by_book[book]) == {APART} for book in apart)
    fables = {book for book in by_book if "Aesop" in book}
    assert len(fables) == 2 and all(set(by_book[book]) == {"train"} for book in fables)
    for book, splits in by_book.items():
        if len(splits) >= 30 and book not in fables:
            assert set(splits) == set(SPLITS), book
    for split, share in TALES_FRACTIONS.items():
        assert words[split] / words.total() == pytest.approx(share, abs=0.012)


def test_the_tales_are_split_as_shipped_or_drawn_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beginnings will do: which tale is in which split does not depend on its length."""

    class Beginnings(Reading):
        def __iter__(self) -> Iterator[str]:
            return (text[:2500] for text in super().__iter__())

    monkeypatch.setattr(documents, "Reading", Beginnings)
    record = build_corpus(compose(["data=tales"]).data, None, tmp_path)
    assert record.n_documents == 828 and record.splits["test"].n_documents == 23
    assert record.splits[APART].n_documents == 50 and measured_splits(tmp_path) == ("test", APART)
    drawn = compose(["data=tales", "data.split=drawn", "data.seed=1"]).data
    assert len(read_documents(drawn)) == 828
    for more in (["data.seed=1"], ["data.fractions.train=0.71", "data.fractions.test=0.03"]):
        with pytest.raises(ConfigError, match=r"data\.split=drawn"):
            compose(["data=tales", *more])
    with pytest.raises(ConfigError, match=r"data\.split=shipped: only data=tales"):
        compose(["data=moby_dick", "data.split=shipped"])


def test_moby_dick_ships_with_the_package() -> None:
    documents = read_documents(text_config("moby_dick"))
    assert len(documents) == 135
    assert documents[0].startswith("CHAPTER 1. Loomings.\n\nCall me Ishmael. Some years ago")
    assert "\n" not in documents[0].replace("\n\n", "")


def test_text_corpus_round_trips(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(LINES + " <|endoftext|> is just text here.")
    record = build_corpus(text_config(tmp_path / "in.txt"), None, tmp_path / "out")
    assert set(record.splits) == set(SPLITS) and record.splits_disjoint
    tokenizer = load_tokenizer(tmp_path / "out")
    ids = [row["input_ids"] for split in SPLITS for row in load_blocks(tmp_path / "out", split)]
    # The end-of-text token that the text spells out is text.
    assert int((np.concatenate(ids) == tokenizer.eos_token_id).sum()) <= record.n_documents


def test_identity_is_that_of_the_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "x.txt", tmp_path / "b" / "y.txt"
    for file in (first, second):
        file.parent.mkdir()
        file.write_text(LINES)
    assert content_identity(text_config(first)) == content_identity(text_config(second))
    second.write_text(LINES + "!")
    assert content_identity(text_config(first)) != content_identity(text_config(second))
    assert content_identity(SMALL) == content_identity(
        dataclasses.replace(SMALL, vocab_size=400, block_size=32)
    )
    assert content_identity(SMALL) != content_identity(dataclasses.replace(SMALL, seed=1))


# --- bad input


def test_missing_path_names_it_and_the_fix(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nothing\.txt does not exist: set data\.path"):
        read_documents(text_config(tmp_path / "nothing.txt"))
    with pytest.raises(CorpusError, match=r"data.path is not set"):
        read_documents(dataclasses.replace(text_config("x"), path=None))


def test_unknown_dataset_is_a_corpus_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(CorpusError, match=r"no_such_dataset.*no route to the hub"):
        read_documents(text_config("no_such_dataset"))


SMALLISH = "".join(json.dumps({"text": f"word and {i}"}) + "\n" for i in range(20)).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"  \n", "holds no text"),
        ("binary.txt", b"\xff\xfe\x00\x01" * 10, "is not text"),
        ("nul.txt", b"abc\0def", "NUL"),
        ("broken.gz", b"abc", "cannot read"),
        ("bad.jsonl", b'{"text": "a"}\n{oops\n', "line 2 is not JSON"),
        (
            "column.jsonl",
            b'{"body": "a"}\n',
            "has no column 'text': set data.text_field to one of body",
        ),
        ("bad.parquet", b"PAR0", "as parquet"),
        ("small.txt", b"Just a few words.", "tokens .* are needed"),
        ("smallish.jsonl", SMALLISH, "tokens are needed in all"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        build_corpus(text_config(tmp_path / name, block_size=128), None, tmp_path / "out")
    assert name in str(caught.value)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="folder without text files"):
        read_documents(text_config(tmp_path))


def test_too_few_stories_say_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="n_documents=3"):
        build_corpus(dataclasses.replace(SMALL, n_documents=3), None, tmp_path)
    with pytest.raises(CorpusError, match=r"about \d+ tokens are needed in all"):
        build_corpus(dataclasses.replace(SMALL, n_documents=50), None, tmp_path)
    with pytest.raises(CorpusError, match="vocab_size=100"):
        build_corpus(dataclasses.replace(SMALL, vocab_size=100), None, tmp_path)
