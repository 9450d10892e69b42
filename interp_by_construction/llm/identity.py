"""What stands for a checkpoint with its tokenizer in fingerprints and cache keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interp_by_construction.config import LabelerConfig
from interp_by_construction.engine.disk import sha256_file, sha256_json
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.adapted import adapter_identity, plain_source
from interp_by_construction.llm.embedded import EMBEDDED, model_identity, resolve_model
from interp_by_construction.llm.pretrained import commit_of, first_line

READ_WITH = (
    "*.jinja",
    "*.model",
    "added_tokens.json",
    "additional_chat_templates/*.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Files of a checkpoint, beside weights, config.json and tokenizer.json, that decide how it reads
and writes text: chat templates, slow tokenizers, edits of tokens, how generation ends."""
SAVED_BY = ("_commit_hash", "is_local", "local_files_only", "name_or_path", "transformers_version")
"""What a JSON file says of how it was saved. It changes no answer."""


def checkpoint_identity(source: str) -> str:
    """sha256 over all files of a directory that decide what the model does with a text, or name and
    commit of a hub model.

    Raises LabelerError where the commit of a hub model cannot be found.
    """
    folder = Path(resolve_model(source)).expanduser()
    if folder.is_dir():
        # The tokenizer of the embedded model is made with its weights, from one file.
        read_with = {} if source == EMBEDDED else _read_with(folder)
        whole = model_identity(source)
        return sha256_json([whole, read_with]) if read_with else whole
    try:
        commit = commit_of(source)
    except (OSError, ValueError) as error:
        raise LabelerError(
            f"the hub model {source!r} cannot be found ({first_line(error)}); give a directory, or "
            "the name of a hub model and, where there is no network, one that was downloaded before"
        ) from error
    return f"{source.partition('@')[0]}@{commit or source.partition('@')[2]}"


def labeler_identity(cfg: LabelerConfig) -> str:
    """What stands for a labeler: backend, precision, model, the room for a prompt, and how a
    managed server is started. All of them can change the answers. No path of a managed or local
    model is part of it. Raises LabelerError as `checkpoint_identity`."""
    if cfg.backend == "endpoint":
        # Who runs it decides what it serves.
        model = cfg.model if cfg.revision is None else f"{cfg.model}@{cfg.revision}"
    else:
        model = checkpoint_identity(cfg.model if cfg.revision is None else plain_source(cfg))
    known = [cfg.backend, cfg.dtype, model, str(cfg.max_model_len)]
    if cfg.tokenizer is not None:
        known.append(f"tokenizer {checkpoint_identity(cfg.tokenizer)}")
    if (adapter := adapter_identity(cfg)) is not None:
        known.append(f"adapter {adapter}")
    if cfg.backend == "vllm":
        known += map(str, (cfg.max_num_seqs, *cfg.extra_args))
    return ":".join(known)


def _read_with(folder: Path) -> dict[str, str]:
    found = sorted({file for pattern in READ_WITH for file in folder.glob(pattern)})
    return {file.relative_to(folder).as_posix(): _content(file) for file in found}


def _content(file: Path) -> str:
    """The hash of a file; of JSON, without what says how it was saved."""
    if file.suffix != ".json":
        return sha256_file(file)
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return sha256_file(file)
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key not in SAVED_BY}
    return sha256_json(values)
