"""Laws of reading text: every kind of file gives the same documents, what holds no text is counted,
nothing is read that is not asked for, and every split gets its share."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_corpus import EQUAL, LINES, text_config

from interp_by_construction.config import SPLITS
from interp_by_construction.corpus import build_corpus, tokenize
from interp_by_construction.corpus.splits import assign
from interp_by_construction.corpus.text import Reading, read_documents, split_text
from interp_by_construction.corpus.tokenize import encode, train_tokenizer
from interp_by_construction.errors import CorpusError

TEXTS = [f"Document {i} says {i * i}." for i in range(9)]
ROWS: list[dict[str, object]] = [{"text": text, "url": "u"} for text in TEXTS]
HOLES: list[dict[str, object]] = [
    *ROWS[:4], {"text": None, "url": "u"}, {"text": "", "url": "u"}, {"text": "  ", "url": "u"}, *ROWS[4:],
]  # fmt: skip


def lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table(rows: list[dict[str, object]], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["text", "url"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def parquet(rows: list[dict[str, object]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


KINDS: dict[str, Callable[[list[dict[str, object]]], bytes]] = {
    "a.jsonl": lines,
    "bom.jsonl": lambda rows: b"\xef\xbb\xbf" + lines(rows).replace(b"\n", b"\r\n"),
    "c4-train.00000-of-01024.json.gz": lambda rows: gzip.compress(lines(rows)),
    "list.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "table.csv": lambda rows: b"\xef\xbb\xbf" + table(rows),
    "table.tsv": lambda rows: table(rows, "\t"),
    "table.parquet": parquet,
}


@pytest.mark.parametrize("name", KINDS)
def test_rows_without_text_are_skipped_and_counted_in_every_kind_of_file(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_bytes(KINDS[name](HOLES))
    reading = Reading(text_config(tmp_path / name))
    assert list(reading) == TEXTS and reading.n_skipped == 3
    assert "3 rows or files without text are skipped" in caplog.text
    for wrong, message in (("body", r"'body'.* url"), ("number", r"int in 'number', not text")):
        typed = [{**row, "number": 1} for row in ROWS] if wrong == "number" else ROWS
        if wrong == "body" or not name.startswith("table."):
            (tmp_path / name).write_bytes(KINDS[name](typed))
            with pytest.raises(CorpusError, match=message):
                read_documents(text_config(tmp_path / name, text_field=wrong))


def test_a_row_without_the_column_counts_as_one_without_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([*ROWS, {"url": "u"}]))
    reading = Reading(text_config(tmp_path / "a.jsonl"))
    assert list(reading) == TEXTS and reading.n_skipped == 1


def test_half_a_letter_is_replaced_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines([*ROWS, {"text": "half \ud83d and \ud83d\ude00 whole"}]))
    reading = Reading(text_config(file))
    assert list(reading)[-1] == "half \ufffd and 😀 whole" and reading.n_replaced == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("page.html", b"<p>text</p>", r"kind \.html are not read.*rename it to \.txt"),
        ("one.json", b'{\n "text": "a"\n}', "line 1 is not JSON"),
        ("deep.jsonl", b'{"text": "a"}\n' + b"[" * 10**5, "line 2 is not JSON .*recursion"),
        ("deep.json", b'[{"text":' * 10**5, "is not JSON .*recursion"),
        ("texts.json", b'["a", "b"]', 'row 1 is no row but "a"'),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 999, mtime=0)[:40], "cannot read"),
        ("latin.csv", "text\nf\xfcr".encode("latin-1"), "byte 0xFC is not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        read_documents(text_config(tmp_path / name))
    assert name in str(caught.value)


def test_a_folder_holds_documents_of_one_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "texts"
    for hidden in ("__MACOSX/._0.txt", ".ipynb_checkpoints/0.txt", ".0.txt", ".DS_Store"):
        (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
        (folder / hidden).write_bytes(b"\0\x02\xb0\xff")
    for i, text in enumerate(TEXTS):
        (folder / f"{i}.txt").write_text(text)
    for other in ("README.md", "LICENSE.txt", "Thumbs.db", "index.csv"):
        (folder / other).write_text("no document")
    reading = Reading(text_config(folder))
    assert list(reading) == TEXTS
    assert reading.left_out == ["LICENSE.txt", "README.md", "Thumbs.db", "index.csv"]
    assert "4 files are no documents (LICENSE.txt, README.md, Thumbs.db, ...)" in caplog.text
    (folder / "data").mkdir()
    (folder / "data" / "train.parquet").write_bytes(parquet(ROWS[:8]))
    assert read_documents(text_config(folder)) == TEXTS[:8]


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines(ROWS) + b"no JSON\n")
    assert read_documents(text_config(file, max_documents=8)) == TEXTS[:8]
    with pytest.raises(CorpusError, match="line 10 is not JSON"):
        read_documents(text_config(file))


def test_texts_are_tokenized_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenize, "BATCH_LETTERS", 100)
    tokenizer, read = train_tokenizer(TEXTS, 300), count()
    texts: Iterator[str] = (f"{TEXTS[next(read) % 9]}" for _ in range(1000))
    ids = encode(tokenizer, texts)
    assert tokenizer.decode(next(ids)[:-1]).strip() == TEXTS[0]
    assert next(read) < 10
    assert len(list(ids)) == 999


@pytest.mark.parametrize("text", ["一二三四五六七八九十。" * 900, "ACGT" * 40_000])
def test_text_without_spaces_is_cut(text: str) -> None:
    documents = split_text(text)
    assert len(documents) >= len(SPLITS) and "".join(documents) == text


def test_lines_of_scripts_without_spaces_are_joined_without_one() -> None:
    assert split_text("一二三\n四五六\n\n七 八\nab\ncd") == ["一二三四五六\n\n七 八 ab cd"]
    assert split_text("a\r\nb\rc") == ["a b c"]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_long_document_starves_no_split(share: float) -> None:
    fractions = dict.fromkeys(SPLITS, 0.02) | {"train": 0.88}
    n = 400
    sizes = [1.0] * n + [share * n / (1 - share)]
    for seed in range(5):
        splits = assign(sizes, fractions, seed)
        assert splits[-1] == "train"
        rest = (1 - fractions["train"]) * sum(sizes)
        due = min(1.0, n / rest) * 0.02 * sum(sizes)
        for split in SPLITS[1:]:
            assert splits.count(split) >= 0.5 * due - 1, split


def test_the_reason_for_a_starved_split_is_told(tmp_path: Path) -> None:
    words = LINES.split()
    rows: list[dict[str, object]] = [{"text": " ".join(words * 5)}]
    rows += [{"text": f"{word} {i}"} for i, word in enumerate(words[:8])]
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    with pytest.raises(CorpusError, match=r"its longest document has .* Cut that document"):
        build_corpus(text_config(tmp_path / "a.jsonl", fractions=EQUAL), None, tmp_path / "out")


def test_what_was_left_out_is_in_the_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    rows: list[dict[str, object]] = [{"text": f"{i} {LINES[i : i + 300]}"} for i in range(40)]
    halves: list[dict[str, object]] = [{"text": None}, rows[0], {"text": "\ud83d a"}]
    (tmp_path / "a.jsonl").write_bytes(lines([*rows, *halves]))
    record = build_corpus(text_config(tmp_path / "a.jsonl"), None, tmp_path / "out")
    assert (record.n_skipped, record.n_replaced, record.n_repeats_dropped) == (1, 1, 1)
    assert record.n_documents == 41 and record.n_files_left_out == 0
