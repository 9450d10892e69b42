"""Rows of files and of `datasets`, one after the other: the text of each, or None where a row has
none (null, or no such column).

Each function raises CorpusError for what cannot be read, with the file and the row.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from interp_by_construction.corpus.files import FIX, suffix_of
from interp_by_construction.errors import CorpusError

Rows = Iterator[str | None]
BATCH = 1000
"""Rows of an arrow table that are in memory at once."""
NOT_JSON = (ValueError, RecursionError)
"""What the parser raises, the second for rows that are nested too deep."""


def file_rows(file: Path, text_field: str) -> Rows:
    """Rows of a file whose suffix is one of `files.ROWS` or `files.TABLES`."""
    suffix = suffix_of(file)
    if suffix == ".parquet":
        return _parquet_rows(file, text_field)
    if suffix in (".csv", ".tsv"):
        return _texts(_table_rows(file, "," if suffix == ".csv" else "\t"), text_field, str(file))
    read = _json_rows if suffix == ".json" else _json_lines
    return _texts(read(file), text_field, str(file))


def saved_rows(folder: Path, text_field: str) -> Rows:
    """Rows of a dataset that `save_to_disk` wrote; of the split `train` if there is one."""
    loaded = _load(lambda: datasets.load_from_disk(str(folder)), str(folder))
    if isinstance(loaded, datasets.DatasetDict):
        loaded = loaded["train"] if "train" in loaded else next(iter(loaded.values()))
    return _dataset_rows(loaded, text_field, str(folder))


def hub_rows(path: str, text_field: str) -> Rows:
    """Rows of the split `train` of a dataset on the hub, NAME or NAME:CONFIG."""
    return _dataset_rows(hub_dataset(path), text_field, path)


def hub_dataset(path: str) -> Any:
    """The dataset itself."""
    name, _, config = path.partition(":")
    return _load(lambda: datasets.load_dataset(name, config or None, split="train"), path)


@contextmanager
def opened(file: Path, newline: str = "\n") -> Iterator[IO[str]]:
    """The file as text, unpacked if it is .gz, without a byte order mark. Raises CorpusError also
    for what is found out while it is read."""
    open_file: Callable[..., Any] = gzip.open if file.name.endswith(".gz") else open
    try:
        with open_file(file, "rt", encoding="utf-8-sig", newline=newline) as stream:
            yield stream
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise CorpusError(
            f"{file} is not text (byte 0x{byte:02X} is not UTF-8): convert it to UTF-8 text"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"cannot read {file} ({error}): {FIX}") from error


def _json_lines(file: Path) -> Iterator[Any]:
    with opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except NOT_JSON as error:
                    raise CorpusError(f"{file}, line {number} is not JSON ({error})") from error


def _json_rows(file: Path) -> Iterator[Any]:
    """A list of rows, or JSON Lines under another name."""
    with opened(file) as stream:
        first = next((line for line in stream if line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from _json_lines(file)
        return
    with opened(file) as stream:
        try:
            rows = json.load(stream)
        except NOT_JSON as error:
            raise CorpusError(f"{file} is not JSON ({error})") from error
    yield from ((f"row {number}", row) for number, row in enumerate(rows, start=1))


def _table_rows(file: Path, delimiter: str) -> Iterator[Any]:
    csv.field_size_limit(sys.maxsize)
    with opened(file, newline="") as stream:
        table = csv.DictReader(stream, delimiter=delimiter)
        try:
            for row in table:
                yield f"line {table.line_num}", row
        except csv.Error as error:
            raise CorpusError(f"{file}, line {table.line_num} is no table ({error})") from error


def _texts(rows: Iterable[tuple[str, Any]], text_field: str, source: str) -> Rows:
    """rows: where each one is, and the row."""
    columns: set[str] = set()
    for where, row in rows:
        if not isinstance(row, Mapping):
            raise CorpusError(
                f"{source}, {where} is no row but {json.dumps(row)[:40]}: give rows such as "
                f'{{"{text_field}": "..."}}'
            )
        columns |= {str(key) for key in row}
        yield _checked(row.get(text_field), text_field, f"{source}, {where}")
    _check_column(text_field, source, columns or {text_field})


def _checked(value: Any, text_field: str, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise CorpusError(
            f"{where} holds {type(value).__name__} in {text_field!r}, not text: set data.text_field "
            "to a column of text"
        )
    return value


def _check_column(text_field: str, source: str, columns: Iterable[str]) -> None:
    if text_field not in columns:
        raise CorpusError(
            f"{source} has no column {text_field!r}: set data.text_field to one of "
            f"{', '.join(sorted(columns))}"
        )


def _parquet_rows(file: Path, text_field: str) -> Rows:
    try:
        table = pq.ParquetFile(file)
        _check_column(text_field, str(file), table.schema_arrow.names)
        number = 0
        for batch in table.iter_batches(BATCH, columns=[text_field]):
            for value in batch.column(0):
                number += 1
                yield _checked(value.as_py(), text_field, f"{file}, row {number}")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        fix = "give a valid parquet file"
        raise CorpusError(f"cannot read {file} as parquet ({error}): {fix}") from error


def _dataset_rows(dataset: Any, text_field: str, source: str) -> Rows:
    _check_column(text_field, source, dataset.column_names)
    number = 0
    for batch in dataset.with_format(None).select_columns([text_field]).iter(BATCH):
        for value in cast(dict[str, list[Any]], batch)[text_field]:
            number += 1
            yield _checked(value, text_field, f"{source}, row {number}")


def _load(load: Callable[[], Any], path: str) -> Any:
    try:
        return load()
    except Exception as error:
        # `datasets` raises many types; each means that there is no such corpus.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CorpusError(
            f"data.path={path} is no file, and no dataset could be loaded ({reason}): {FIX}"
        ) from error
