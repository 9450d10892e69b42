"""Which files a text corpus is read from.

A folder holds documents of one kind: rows (`ROWS`), else prose (`PROSE`), else tables (`TABLES`).
Files of other kinds, files about the folder such as README, and hidden files are no documents.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from interp_by_construction.config.paths import user_path
from interp_by_construction.config.text import TALES
from interp_by_construction.errors import CorpusError

SHIPPED = {"moby_dick": "moby_dick.txt.gz", TALES: "tales.jsonl.gz"}
"""`data.path` -> file in `data/`."""
DATA = Path(__file__).parent / "data"
PROSE = (".txt", ".md", ".text", ".rst")
ROWS = (".jsonl", ".ndjson", ".parquet")
TABLES = (".json", ".csv", ".tsv")
"""Other files of rows. In a folder they often describe the documents beside them."""
KINDS = (ROWS, PROSE, TABLES)
"""Kinds of files, in the order in which a folder is searched for them."""
SUFFIXES = (*PROSE, *ROWS, *TABLES)
ABOUT = "readme license licence notice changelog contributing citation copying".split()
"""Names of files that say something about a folder."""
FIX = (
    "set data.path to a text file, folder, .jsonl, .parquet, .csv, `datasets` name, tales or "
    "moby_dick"
)


class Files(NamedTuple):
    """The files of a folder, or a single one."""

    read: list[Path]
    """In a fixed order."""
    left_out: list[Path]
    """Files that are not hidden and hold no documents."""


def source_of(path: str | None) -> tuple[str, Path | None]:
    """`data.path`, and where it is; None for a `datasets` name. Raises CorpusError for a path that
    does not exist."""
    if not path:
        raise CorpusError(f"data.path is not set: {FIX}")
    if path in SHIPPED:
        return path, DATA / SHIPPED[path]
    local = user_path(path, "data.path")
    if local.exists():
        return path, local
    is_file_name = path.removesuffix(".gz").lower().endswith(SUFFIXES)
    if is_file_name or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise CorpusError(f"data.path={path} does not exist: {FIX}")
    return path, None


def suffix_of(file: Path) -> str:
    """In lower case, that of the unpacked file for .gz."""
    return Path(file.name.removesuffix(".gz")).suffix.lower()


def files_of(local: Path) -> Files:
    """What is read of a file or a folder. Raises CorpusError where there is nothing to read."""
    if local.is_file():
        suffix = suffix_of(local)
        if suffix and suffix not in SUFFIXES:
            raise CorpusError(
                f"data.path={local}: files of kind {suffix} are not read; give {', '.join(SUFFIXES)} "
                "(.gz is unpacked), or rename it to .txt if it is plain text"
            )
        return Files([local], [])
    every = sorted(
        file for file in local.rglob("*") if file.is_file() and not _is_hidden(file, local)
    )
    for kind in KINDS:
        read = [file for file in every if suffix_of(file) in kind and not _is_about(file)]
        if read:
            return Files(read, [file for file in every if file not in set(read)])
    raise CorpusError(
        f"data.path={local} is a folder without text files ({', '.join(SUFFIXES)}): {FIX}"
    )


def _is_hidden(file: Path, folder: Path) -> bool:
    """Editors, notebooks and systems leave such files in folders of text."""
    parts = file.relative_to(folder).parts
    return any(part.startswith((".", "~$")) or part == "__MACOSX" for part in parts)


def _is_about(file: Path) -> bool:
    return file.name.partition(".")[0].lower() in ABOUT
