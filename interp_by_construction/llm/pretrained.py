"""Pretrained checkpoints of others: read whole, or refused with the reason in one line.

A source is a directory, or the name of a hub model, which may end in a revision: `name@revision`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

LFS_POINTER = b"version https://git-lfs.github.com/spec"
"""How the file begins that git-lfs leaves in place of one that it has not fetched."""
MAX_POINTER_BYTES = 1024
MAX_JSON_BYTES = 2**20
"""Larger files of JSON are vocabularies."""
FILE_KINDS = (".bin", ".jinja", ".json", ".model", ".safetensors", ".txt")
"""Of files that a checkpoint is read from."""
N_NAMED = 3
"""Weights that a message names."""


class CheckpointError(ValueError):
    """A checkpoint that is not what it should be. The message has one line and names no setting."""


def pinned(source: str, revision: str | None) -> str:
    """The source of a hub model at a revision. Raises CheckpointError for a revision of a
    directory, which has none."""
    if revision is None:
        return source
    if Path(source).expanduser().is_dir():
        raise CheckpointError(
            f"{source} is a directory, which has no revision {revision!r}: leave revision=null"
        )
    return f"{source}@{revision}"


def located(source: str | Path) -> dict[str, Any]:
    """A source as arguments of `from_pretrained`."""
    name, _, revision = str(source).rpartition("@")
    if name and not Path(source).is_dir():
        return {"pretrained_model_name_or_path": name, "revision": revision}
    return {"pretrained_model_name_or_path": str(source)}


def read_config(source: str | Path) -> Any:
    """The transformers config of a source. Raises OSError or ValueError where there is none."""
    # Only those who read a model need this import.
    from transformers import AutoConfig

    check_fetched(Path(source))
    with _only_values():
        return AutoConfig.from_pretrained(**located(source), trust_remote_code=False)


@cache
def commit_of(name: str) -> str | None:
    """The commit of a hub model, given as a source. Raises OSError or ValueError where the hub
    cannot be asked and the cache of this machine holds nothing."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    where = located(name)
    found = cached_file(
        where["pretrained_model_name_or_path"], "config.json", revision=where.get("revision")
    )
    return extract_commit_hash(found, None)


def read_tokenizer(source: str | Path) -> Any:
    """The transformers tokenizer of a source. Raises OSError or ValueError where there is none."""
    from transformers import AutoTokenizer

    check_fetched(Path(source))
    with _only_values():
        tokenizer = AutoTokenizer.from_pretrained(**located(source), trust_remote_code=False)
        # Some values of another type are found only when it reads a text.
        tokenizer("some words")
        return tokenizer


@contextmanager
def _only_values() -> Iterator[None]:
    """transformers and tokenizers raise whatever they like for a file that is damaged. Here all of
    it is an OSError or a ValueError."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise CheckpointError(f"{type(error).__name__}: {first_line(error)}") from error


def read_weights(
    kind: Any, source: str | Path, *, spare: Collection[str] = (), **options: Any
) -> Any:
    """The model of a source, with every weight from the checkpoint.

    transformers draws what is missing or of another shape at random, and drops what it does not
    know. kind: AutoModelForCausalLM or its like; spare: first parts of the names of weights that
    may be left over; options: for `from_pretrained`. Raises CheckpointError for a checkpoint that
    is damaged, incomplete or of another model, and where a library that it needs is missing.
    """
    check_fetched(Path(source))
    from safetensors import SafetensorError

    try:
        with _quiet():
            model, found = kind.from_pretrained(
                **located(source),
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
    except SafetensorError as error:
        raise CheckpointError(
            f"a file of weights is damaged or downloaded in part ({first_line(error)})"
        ) from error
    except Exception as error:
        # transformers, torch and what reads a quantized checkpoint raise whatever they like.
        raise CheckpointError(first_line(error)) from error
    extra = [name for name in found["unexpected_keys"] if name.partition(".")[0] not in spare]
    shapes = [
        f"{name} {_shape(there)} instead of {_shape(wanted)}"
        for name, there, wanted in found["mismatched_keys"]
    ]
    reasons = [
        f"{len(names)} {what} ({_some(names)})"
        for names, what in (
            (found["missing_keys"], "weights are missing"),
            (shapes, "have another shape than config.json says"),
            (extra, "are unknown to this architecture"),
        )
        if names
    ]
    if reasons:
        raise CheckpointError(", ".join(reasons))
    return model


def check_fetched(folder: Path) -> None:
    """Raises CheckpointError where git-lfs has left a pointer in place of one of a folder's files,
    where a folder has the name of one, and where JSON holds what no JSON may. What is no folder
    passes."""
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix in FILE_KINDS and file.is_dir():
            raise CheckpointError(f"{file.name} is a folder, and must be a file")
        if file.suffix == ".json" and file.stat().st_size <= MAX_JSON_BYTES:
            _check_json(file)
        if is_pointer(file):
            raise CheckpointError(
                f"{file.name} is only a pointer of git-lfs; run `git lfs pull` in {folder}"
            )


def _check_json(file: Path) -> None:
    """Raises CheckpointError for infinite numbers and halves of letters, which no fingerprint can
    hold. A file that is no JSON at all is refused by who reads it."""
    try:
        values = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return
    try:
        json.dumps(values, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise CheckpointError(
            f"{file.name} holds a value that JSON does not have: {error}"
        ) from error


def is_pointer(file: Path) -> bool:
    """Whether git-lfs has left a pointer in place of the file."""
    if not file.is_file() or file.stat().st_size > MAX_POINTER_BYTES:
        return False
    return file.read_bytes().startswith(LFS_POINTER)


def first_line(error: BaseException) -> str:
    """What an error says, as one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside the block transformers prints no table of missing weights: the error names them."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:N_NAMED]
    return ", ".join(shown) + (", ..." if len(names) > N_NAMED else "")


def _shape(size: Any) -> str:
    return str(tuple(size))
