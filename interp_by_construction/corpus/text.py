"""Reads text corpora: a file, a folder, rows (jsonl, json, csv, tsv, parquet), a `datasets` name,
or a shipped text.

Each row is a document. The text of a file is split at its chapters, or every 500 words if it has
too few chapters. Nothing is read before it is asked for, and files of rows are never in memory as a
whole.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

from interp_by_construction.config import SPLITS, DataConfig
from interp_by_construction.corpus.files import DATA, FIX, PROSE, files_of, source_of, suffix_of
from interp_by_construction.corpus.rows import (
    Rows,
    file_rows,
    hub_dataset,
    hub_rows,
    opened,
    saved_rows,
)
from interp_by_construction.corpus.words import WORD, WRAPPED
from interp_by_construction.errors import CorpusError

WORDS_PER_DOCUMENT = 500
GZIP = 3
"""How many times as long a packed text is about when it is unpacked."""
SHOWN_NAMES = 3
"""Files that a message names."""

# An empty line follows a heading. A table of contents and sentences about chapters do not match.
_CHAPTER = re.compile(
    r"^[ \t]*(?:(?:CHAPTER|Chapter)[ \t]+(?:\d+|[IVXLCDM]+)\b.{0,160}|(?:EPILOGUE|Epilogue)\.?)$(?=\n[ \t]*\n)",
    re.M,
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which stands for no letter and which no UTF-8 holds."""


class Reading:
    """The first `cfg.max_documents` documents of `cfg.path` that hold text, in a fixed order, each
    read when it is asked for.

    Iterating raises CorpusError for a missing path, and for text that is unreadable, binary or
    empty, or has no such column.
    """

    def __init__(self, cfg: DataConfig) -> None:
        self.cfg = cfg
        self.n_skipped = 0
        """Rows and files without text, so far."""
        self.n_replaced = 0
        """Halves of letters that were replaced by U+FFFD, so far."""
        self.left_out: list[str] = []
        """Files of a folder that hold no documents."""

    def __iter__(self) -> Iterator[str]:
        n = 0
        for document in islice(self._documents(), self.cfg.max_documents):
            n += 1
            yield document
        if not n:
            raise CorpusError(f"data.path={self.cfg.path} holds no text: {FIX}")
        if told := self._told():
            logging.getLogger(__name__).warning("data.path=%s: %s", self.cfg.path, told)

    def _documents(self) -> Iterator[str]:
        path, local = source_of(self.cfg.path)
        if local is None:
            yield from self._of_rows(hub_rows(path, self.cfg.text_field))
        elif _is_saved_dataset(local):
            yield from self._of_rows(saved_rows(local, self.cfg.text_field))
        else:
            files = files_of(local)
            self.left_out = [file.relative_to(local).as_posix() for file in files.left_out]
            for file in files.read:
                if suffix_of(file) in (*PROSE, ""):
                    yield from self._with_text(split_text(_prose(file)) or [""])
                else:
                    yield from self._of_rows(file_rows(file, self.cfg.text_field))

    def _of_rows(self, rows: Rows) -> Iterator[str]:
        """Each row is a document; too few rows for the splits are each split like a file."""
        documents = self._with_text(rows)
        first = list(islice(documents, len(SPLITS)))
        if len(first) < len(SPLITS):
            yield from (piece for document in first for piece in split_text(document))
        else:
            yield from first
            yield from documents

    def _with_text(self, texts: Iterable[str | None]) -> Iterator[str]:
        for text in texts:
            if text is None or not text.strip():
                self.n_skipped += 1
                continue
            whole, n = _HALF.subn("\ufffd", text)
            self.n_replaced += n
            yield whole

    def _told(self) -> str:
        names = [*self.left_out[:SHOWN_NAMES], *["..."][: len(self.left_out) - SHOWN_NAMES]]
        found = {
            f"{self.n_skipped} rows or files without text are skipped": self.n_skipped,
            f"{len(self.left_out)} files are no documents ({', '.join(names)})": self.left_out,
            f"{self.n_replaced} halves of letters (surrogates) are replaced": self.n_replaced,
        }
        return "; ".join(text for text, some in found.items() if some)


def read_documents(cfg: DataConfig) -> list[str]:
    """All of a `Reading`."""
    return list(Reading(cfg))


def text_identity(cfg: DataConfig) -> str:
    """sha256 of the content that `read_documents` reads; a moved file keeps it."""
    path, local = source_of(cfg.path)
    digest = hashlib.sha256()
    if local is None:
        info = hub_dataset(path).info
        checksums = sorted(
            str(entry.get("checksum")) for entry in (info.download_checksums or {}).values()
        )
        digest.update(
            repr((path, str(info.version), info.dataset_size, info.splits, checksums)).encode()
        )
    else:
        for file in _content(local):
            # The relative name decides the order of the documents, so it belongs to the content.
            name = file.relative_to(local).as_posix() if local.is_dir() else file.suffix
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
            try:
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            except OSError as error:
                raise CorpusError(f"cannot read {file} ({error}): {FIX}") from error
    return digest.hexdigest()


def text_bytes(cfg: DataConfig) -> int | None:
    """About how long the text is, from the sizes of its files; None for a `datasets` name."""
    _, local = source_of(cfg.path)
    if local is None:
        return None
    sizes = (
        file.stat().st_size * (GZIP if file.suffix == ".gz" else 1) for file in _content(local)
    )
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
    paragraphs = (
        " ".join(WRAPPED.sub("", paragraph).split()) for paragraph in _PARAGRAPH.split(text)
    )
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _pieces(text: str) -> list[str]:
    starts = [word.start() for word in WORD.finditer(text)][::WORDS_PER_DOCUMENT]
    return [text[a:b].strip() for a, b in pairwise([*starts, len(text)])]


def _prose(file: Path) -> str:
    with opened(file) as stream:
        text = stream.read()
    if "\0" in text:
        raise CorpusError(f"{file} is not text (it holds NUL bytes): give a text file")
    return text


def _is_saved_dataset(local: Path) -> bool:
    return any((local / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _content(local: Path) -> list[Path]:
    return sorted(local.rglob("*.arrow")) if _is_saved_dataset(local) else files_of(local).read
