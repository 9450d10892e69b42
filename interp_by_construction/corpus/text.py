"""Reads text corpora: a file, a folder, jsonl, parquet, a `datasets` name, or a shipped text.

Each row of jsonl, parquet and `datasets` is a document. The text of a file is split at its
chapters, or every 500 words if it has too few chapters.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from interp_by_construction.config import SPLITS, DataConfig
from interp_by_construction.config.text import TALES
from interp_by_construction.errors import CorpusError

SHIPPED = {"moby_dick": "moby_dick.txt.gz", TALES: "tales.jsonl.gz"}
"""`data.path` -> file in `data/`."""
DATA = Path(__file__).parent / "data"
WORDS_PER_DOCUMENT = 500
GZIP = 3
"""How many times as long a packed text is about when it is unpacked."""
SUFFIXES = (".txt", ".md", ".text", ".rst", ".jsonl", ".ndjson", ".parquet")

# An empty line follows a heading. A table of contents and sentences about chapters do not match.
_CHAPTER = re.compile(
    r"^[ \t]*(?:(?:CHAPTER|Chapter)[ \t]+(?:\d+|[IVXLCDM]+)\b.{0,160}|(?:EPILOGUE|Epilogue)\.?)$(?=\n[ \t]*\n)",
    re.M,
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_FIX = "set data.path to a text file, folder, .jsonl, .parquet, `datasets` name, tales or moby_dick"


def read_documents(cfg: DataConfig) -> list[str]:
    """The first `cfg.max_documents` documents of `cfg.path` that are not empty, in a fixed order.

    Raises:
        CorpusError: missing path, unreadable, binary or empty text, or missing column.
    """
    path, local = _source(cfg)
    if local is None:
        documents = _rows_as_documents(_hub_rows(path, cfg.text_field), path)
    elif _is_saved_dataset(local):
        documents = _rows_as_documents(_saved_rows(local, cfg.text_field), path)
    else:
        documents = [
            document for file in _files(local) for document in _read_file(file, cfg.text_field)
        ]
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise CorpusError(f"data.path={path} holds no text: {_FIX}")
    return documents[: cfg.max_documents]


def text_identity(cfg: DataConfig) -> str:
    """sha256 of the content that `read_documents` reads; a moved file keeps it."""
    path, local = _source(cfg)
    digest = hashlib.sha256()
    if local is None:
        info = _hub_dataset(path).info
        checksums = sorted(
            str(entry.get("checksum")) for entry in (info.download_checksums or {}).values()
        )
        digest.update(
            repr((path, str(info.version), info.dataset_size, info.splits, checksums)).encode()
        )
    else:
        for file in sorted(local.rglob("*.arrow")) if _is_saved_dataset(local) else _files(local):
            # The relative name decides the order of the documents, so it belongs to the content.
            name = file.relative_to(local).as_posix() if local.is_dir() else file.suffix
            digest.update(name.encode() + b"\0")
            try:
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            except OSError as error:
                raise _unreadable(file, error) from error
    return digest.hexdigest()


def text_bytes(cfg: DataConfig) -> int | None:
    """About how long the text is, from the sizes of its files; None for a `datasets` name."""
    _, local = _source(cfg)
    if local is None:
        return None
    files = local.rglob("*.arrow") if _is_saved_dataset(local) else _files(local)
    sizes = (file.stat().st_size * (GZIP if file.suffix == ".gz" else 1) for file in files)
    return sum(sizes)


def shipped_split() -> list[str]:
    """Of the tales: the split of each document, `apart` for books that are in no split.
    `tools/split_tales.py` made it."""
    with (DATA / "tales_splits.tsv").open(encoding="utf-8", newline="") as stream:
        return [row["split"] for row in csv.DictReader(stream, delimiter="\t")]


def split_text(text: str) -> list[str]:
    """Documents of one text: chapters if there are enough for all splits, else pieces of 500 words.

    Hard-wrapped lines are joined into paragraphs, which stay separated by an empty line.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    starts = [match.start() for match in _CHAPTER.finditer(text)]
    if len(starts) >= len(SPLITS):
        bounds = [0, *starts, len(text)] if text[: starts[0]].strip() else [*starts, len(text)]
        return [_join_lines(text[a:b]) for a, b in pairwise(bounds)]
    return _pieces(_join_lines(text))


def _join_lines(text: str) -> str:
    paragraphs = (" ".join(paragraph.split()) for paragraph in _PARAGRAPH.split(text))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _pieces(text: str) -> list[str]:
    starts = [word.start() for word in re.finditer(r"\S+", text)][::WORDS_PER_DOCUMENT]
    return [text[a:b].strip() for a, b in pairwise([*starts, len(text)])]


def _source(cfg: DataConfig) -> tuple[str, Path | None]:
    """`data.path`, and where it is; None for a `datasets` name."""
    path = cfg.path
    if not path:
        raise CorpusError(f"data.path is not set: {_FIX}")
    if path in SHIPPED:
        return path, DATA / SHIPPED[path]
    local = Path(path).expanduser()
    if local.exists():
        return path, local
    is_file_name = path.removesuffix(".gz").lower().endswith(SUFFIXES)
    if is_file_name or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise CorpusError(f"data.path={path} does not exist: {_FIX}")
    return path, None


def _suffix(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix.lower()


def _files(local: Path) -> list[Path]:
    if local.is_file():
        return [local]
    found = sorted(
        file for file in local.rglob("*") if file.is_file() and _suffix(file) in SUFFIXES
    )
    if not found:
        kinds = ", ".join(SUFFIXES)
        raise CorpusError(f"data.path={local} is a folder without text files ({kinds}): {_FIX}")
    return found


def _unreadable(file: Path, error: Exception) -> CorpusError:
    return CorpusError(f"cannot read {file} ({error}): {_FIX}")


def _read_file(file: Path, text_field: str) -> list[str]:
    if _suffix(file) == ".parquet":
        return _rows_as_documents(_parquet_rows(file, text_field), str(file))
    text = _decode(file)
    if _suffix(file) in (".jsonl", ".ndjson"):
        return _rows_as_documents(_jsonl_rows(file, text, text_field), str(file))
    return split_text(text)


def _decode(file: Path) -> str:
    try:
        raw = file.read_bytes()
        raw = gzip.decompress(raw) if file.name.endswith(".gz") else raw
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{file} is not text (byte {error.start} is not UTF-8): convert it to UTF-8 text"
        ) from error
    except (OSError, EOFError) as error:
        raise _unreadable(file, error) from error
    if "\0" in text:
        raise CorpusError(f"{file} is not text (it holds NUL bytes): give a text file")
    return text


def _rows_as_documents(rows: Iterator[str], source: str) -> list[str]:
    """Each row is a document; too few rows for the splits are each split like a file."""
    documents = list(rows)
    if not any(document.strip() for document in documents):
        raise CorpusError(f"{source} holds no text: {_FIX}")
    if len(documents) < len(SPLITS):
        return [piece for document in documents for piece in split_text(document)]
    return documents


def _jsonl_rows(file: Path, text: str, text_field: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorpusError(f"{file}, line {number} is not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get(text_field), str):
            raise CorpusError(
                f"{file}, line {number} has no text in {text_field!r}: set data.text_field to its column"
            )
        yield row[text_field]


def _column(table: Any, text_field: str, source: str, names: list[str]) -> Iterator[str]:
    if text_field not in names:
        raise CorpusError(
            f"{source} has no column {text_field!r}: set data.text_field to one of {', '.join(names)}"
        )
    for value in table[text_field]:
        value = value.as_py() if hasattr(value, "as_py") else value
        if value is not None and not isinstance(value, str):
            kind = type(value).__name__
            raise CorpusError(
                f"column {text_field!r} of {source} holds {kind}, not text: set data.text_field"
            )
        yield value or ""


def _parquet_rows(file: Path, text_field: str) -> Iterator[str]:
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        fix = "give a valid parquet file"
        raise CorpusError(f"cannot read {file} as parquet ({error}): {fix}") from error
    return _column(table, text_field, str(file), table.column_names)


def _is_saved_dataset(local: Path) -> bool:
    return any((local / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _load(load: Callable[[], Any], path: str) -> Any:
    try:
        return load()
    except Exception as error:
        # `datasets` raises many types; each means that there is no such corpus.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CorpusError(
            f"data.path={path} is no file, and no dataset could be loaded ({reason}): {_FIX}"
        ) from error


def _saved_rows(local: Path, text_field: str) -> Iterator[str]:
    loaded = _load(lambda: datasets.load_from_disk(str(local)), str(local))
    if isinstance(loaded, datasets.DatasetDict):
        loaded = loaded["train"] if "train" in loaded else next(iter(loaded.values()))
    return _column(loaded, text_field, str(local), loaded.column_names)


def _hub_dataset(path: str) -> Any:
    name, _, config = path.partition(":")
    return _load(lambda: datasets.load_dataset(name, config or None, split="train"), path)


def _hub_rows(path: str, text_field: str) -> Iterator[str]:
    dataset = _hub_dataset(path)
    return _column(dataset, text_field, path, dataset.column_names)
