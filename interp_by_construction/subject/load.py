"""Subjects in and out of directories: plain transformers checkpoints in float32, without
dropout."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from interp_by_construction.config import ModelConfig, SubjectConfig, TinyConfig
from interp_by_construction.errors import SubjectError
from interp_by_construction.llm.embedded import embedded_checkpoint
from interp_by_construction.llm.handle import Checkpoint
from interp_by_construction.llm.pretrained import (
    CheckpointError,
    first_line,
    pinned,
    read_config,
    read_tokenizer,
    read_weights,
)
from interp_by_construction.subject.dictionary import describe_dictionaries
from interp_by_construction.subject.families import family_of, mlp_in
from interp_by_construction.subject.generation import make_savable
from interp_by_construction.subject.shapes import (
    WIDTHS,
    build,
    describe_widths,
    empty_model,
    is_plain,
)
from interp_by_construction.subject.shipped import SHIPPED, Shipped

SMALL_BYTES = 16 * 2**20
"""Checkpoints up to this size are kept in memory, as the stages of a run load the same few again
and again."""

# Its many short bars would hide those of the stages.
transformers_logging.disable_progress_bar()


def tiny_model(
    cfg: TinyConfig,
    vocab_size: int,
    block_size: int,
    seed: int,
    eos_token_id: int | None = None,
    model_cfg: ModelConfig | None = None,
) -> PreTrainedModel:
    """A small GPT-2 for contexts of `block_size` tokens; its random weights depend on `seed` alone.

    The biases of the MLPs' input projections start at `model_cfg.bias_init` (Jermyn et al. 2022,
    https://arxiv.org/abs/2211.09169). Raises SubjectError if the heads do not divide the width.
    """
    if cfg.d_model % cfg.n_heads:
        raise SubjectError(
            f"subject.d_model={cfg.d_model} must be a multiple of subject.n_heads={cfg.n_heads}"
        )
    model_cfg = model_cfg or ModelConfig()
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=block_size,
        n_embd=cfg.d_model,
        n_layer=cfg.n_layers,
        n_head=cfg.n_heads,
        n_inner=cfg.d_mlp,
        activation_function=model_cfg.activation,
        bos_token_id=eos_token_id,
        eos_token_id=eos_token_id,
    )
    _without_dropout(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = empty_model(config).eval()
    with torch.no_grad():
        for layer in range(cfg.n_layers):
            for module in mlp_in(model, layer):
                bias = module.bias
                assert isinstance(bias, torch.Tensor)
                bias.fill_(model_cfg.bias_init)
    return model


def load_subject(path: str | Path) -> PreTrainedModel:
    """A causal LM in float32, eval mode, dropout 0, from a directory or (for sources) a hub name.

    Raises:
        SubjectError: missing, unreadable, incomplete, quantized, or of an architecture outside the
        family table.
    """
    files = [Path(path) / name for name in ("model.safetensors", "config.json", WIDTHS)]
    stamps = tuple((f.stat().st_mtime_ns, f.stat().st_size) for f in files if f.is_file())
    if files[0].is_file() and files[0].stat().st_size <= SMALL_BYTES:
        return copy.deepcopy(_loaded_before(str(Path(path).resolve()), stamps))
    return _load(path)


@lru_cache(maxsize=16)
def _loaded_before(path: str, stamps: tuple[tuple[int, int], ...]) -> PreTrainedModel:
    """stamps: times and sizes of its files, so that a changed checkpoint is read again."""
    return _load(path)


def _load(path: str | Path) -> PreTrainedModel:
    config = source_config(str(path))
    _without_dropout(config)
    model: PreTrainedModel
    try:
        if is_plain(path, config):
            model = read_weights(AutoModelForCausalLM, path, config=config, dtype=torch.float32)
        else:
            model = build(Path(path), config)
    except SubjectError:
        raise
    except Exception as error:
        # A pickle that holds more than tensors, which is not read, has a type of its own.
        raise SubjectError(
            f"subject.path={str(path)!r}: the weights cannot be loaded: {first_line(error)}; give a "
            "whole checkpoint of one of the supported architectures, as `save_pretrained` writes it"
        ) from error
    make_savable(model)
    _check_finite(model, path)
    with torch.no_grad():
        for tensor in {id(t): t for t in [*model.parameters(), *model.buffers()]}.values():
            # Loaded tensors may be unaligned views of the file. BLAS gives other last bits then.
            tensor.data = tensor.data.clone()
    return model.float().eval()


def _check_finite(model: PreTrainedModel, path: str | Path) -> None:
    """One weight that is no number makes every loss and every activation none."""
    wrong = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if wrong:
        raise SubjectError(
            f"subject.path={str(path)!r}: {len(wrong)} weights hold values that are no finite numbers "
            f"({', '.join(wrong[:3])}): the checkpoint is damaged, or its training has failed; give "
            "another one"
        )


def _without_dropout(config: Any) -> None:
    # Frozen activations must not depend on a random mask, not even in training mode.
    for key, value in config.to_dict().items():
        if isinstance(value, float) and "drop" in key:
            setattr(config, key, 0.0)


def save_subject(model: PreTrainedModel, path: Path) -> None:
    """Writes a checkpoint; equal weights give equal bytes. If widths differ: `mlp_widths.json`."""
    model.config._name_or_path = ""
    path.mkdir(parents=True, exist_ok=True)
    describe_dictionaries(model)
    describe_widths(model, path)
    # Some families have other names on disk. Only transformers' own loading translates them.
    model.save_pretrained(
        path, max_shard_size="1000GB", save_original_format=is_plain(path, model.config)
    )


def untie(model: PreTrainedModel) -> bool:
    """Gives a tied head its own copy of the embedding. Returns whether it was tied.

    Then the head can train while the embedding is frozen.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    model.config.tie_word_embeddings = False
    if head is None or head.weight is not embedding.weight:
        return False
    head.weight = nn.Parameter(embedding.weight.detach().clone())
    # With this table, saving would drop the head as a duplicate.
    model.all_tied_weights_keys = {}
    return True


def source_checkpoint(cfg: SubjectConfig) -> str:
    """Directory or hub name of the pretrained weights. Raises SubjectError if there are none."""
    if cfg.kind == "tales":
        return str(SHIPPED / "tales")
    if cfg.kind == "smollm2":
        # The embedded weights serve as labeler and as subject.
        return str(embedded_checkpoint())
    if cfg.kind == "hf" and cfg.path:
        local = Path(cfg.path)
        try:
            return pinned(str(local.resolve()) if local.exists() else cfg.path, cfg.revision)
        except CheckpointError as error:
            raise SubjectError(f"subject.revision={cfg.revision}: {error}") from error
    if cfg.kind == "hf":
        raise SubjectError("subject=hf needs subject.path=DIRECTORY_OR_HUB_NAME")
    raise SubjectError(f"subject.kind={cfg.kind} has no pretrained checkpoint")


def source_config(source: str) -> Any:
    """The transformers config of a checkpoint. Raises SubjectError if it cannot be read, is of no
    supported family, or describes quantized weights."""
    try:
        config = read_config(source)
    except (OSError, ValueError) as error:
        raise SubjectError(
            f"subject.path={source!r} cannot be read as a transformers checkpoint ({first_line(error)}); "
            "give a directory that holds config.json and weights, or the name of a hub model"
        ) from error
    family_of(config)
    quantized = getattr(config, "quantization_config", None)
    if quantized:
        how = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise SubjectError(
            f"subject.path={source!r}: its weights are quantized ({how or 'quantization_config'}) and "
            "cannot be trained; give the checkpoint that they were made from"
        )
    return config


def layer_count(cfg: SubjectConfig) -> int:
    """Number of blocks of the configured subject. Raises SubjectError as `source_config`."""
    if cfg.kind == "tiny":
        return cfg.n_layers
    return int(source_config(source_checkpoint(cfg)).num_hidden_layers)


def stream_width(cfg: SubjectConfig) -> int:
    """Width of the subject's residual stream. Raises SubjectError as `source_config`."""
    if cfg.kind == "tiny":
        return cfg.d_model
    return int(source_config(source_checkpoint(cfg)).hidden_size)


def checkpoint_of(cfg: SubjectConfig) -> Checkpoint | None:
    """The pretrained subject; None for `tiny`. Raises SubjectError as `source_config`."""
    if cfg.kind == "tiny":
        return None
    source = source_checkpoint(cfg)
    source_config(source)
    return Shipped(source) if cfg.kind == "tales" else Checkpoint(source)


def source_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a pretrained checkpoint. Raises SubjectError if it cannot be read."""
    try:
        return read_tokenizer(source)
    except (OSError, ValueError) as error:
        raise SubjectError(
            f"subject.path={source!r} has no readable tokenizer ({first_line(error)}); give a whole "
            "checkpoint, with the tokenizer that it was trained with"
        ) from error


def n_params(model: nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
