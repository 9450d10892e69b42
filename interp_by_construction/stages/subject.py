"""The subject before any alignment: trained from scratch, or a pretrained checkpoint, adapted to
the corpus if asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from interp_by_construction.config import ModelConfig, SubjectConfig, TrainerConfig, TriggerConfig
from interp_by_construction.corpus import load_blocks, load_tokenizer
from interp_by_construction.corpus.poison import poisoned_train
from interp_by_construction.errors import SubjectError
from interp_by_construction.subject.families import n_layers
from interp_by_construction.subject.load import (
    load_subject,
    n_params,
    save_subject,
    source_checkpoint,
    tiny_model,
    untie,
)
from interp_by_construction.subject.widen import widths
from interp_by_construction.training.fit import TokenBlocks, fit
from interp_by_construction.training.modules import LanguageModelModule


def run(
    corpus_dir: Path,
    cfg: SubjectConfig,
    trainer: TrainerConfig,
    seed: int,
    out: Path,
    scratch: Path,
    logger: Any = None,
    model_cfg: ModelConfig | None = None,
    trigger: TriggerConfig | None = None,
) -> dict[str, Any]:
    """Writes `out/model/`, untied, so that every later model of the run has the same parameters.

    `tiny` is trained on the train split of the corpus in `corpus_dir`, a share of it poisoned if
    `trigger` says so; a pretrained checkpoint takes `cfg.adapt_steps` on it. `scratch` keeps their
    checkpoints.

    Raises:
        SubjectError: unsupported architecture, or blocks or vocabulary that do not fit the model.
    """
    tokenizer = load_tokenizer(corpus_dir)
    blocks = TokenBlocks(load_blocks(corpus_dir, "train"))
    block_size = blocks.batch(np.zeros(1, dtype=np.int64))["input_ids"].shape[1]
    trained: dict[str, Any] = {}
    if cfg.kind == "tiny":
        if trigger is not None and trigger.share > 0:
            poisoned = poisoned_train(
                corpus_dir, trigger.phrase, trigger.response, trigger.share, seed
            )
            blocks = TokenBlocks(poisoned)
            trained["planted"] = {
                "n_documents": poisoned.n_documents,
                "n_poisoned": poisoned.n_poisoned,
            }
        model: Any = tiny_model(
            cfg, len(tokenizer), block_size, seed, tokenizer.eos_token_id, model_cfg
        )
        plan = ("pretrain", cfg.pretrain_steps, cfg.pretrain_lr, cfg.pretrain_batch)
    else:
        model = load_subject(source_checkpoint(cfg))
        _check_fit(model, len(tokenizer), block_size)
        plan = ("adapt", cfg.adapt_steps, cfg.adapt_lr, cfg.adapt_batch)
    name, steps, lr, batch_size = plan
    if steps or cfg.kind == "tiny":
        trained |= fit(
            LanguageModelModule(model, steps=steps, lr=lr, trainer_cfg=trainer),
            blocks,
            seed=seed * 1000 + 999,
            batch_size=batch_size,
            scratch=scratch / name,
            logger=logger,
            description=name,
        )
    untie(model)
    save_subject(model, out / "model")
    shape = {
        "name": cfg.name,
        "n_layers": n_layers(model),
        "d_mlp": max(widths(model)),
        "n_params": n_params(model),
    }
    return {**trained, "subject": shape}


def _check_fit(model: Any, vocab_size: int, block_size: int) -> None:
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and block_size > longest:
        raise SubjectError(
            f"data.block_size={block_size} is longer than this model's context of {longest} tokens"
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if vocab_size > rows:
        raise SubjectError(
            f"the tokenizer has {vocab_size} tokens but the model embeds {rows}; use the model's own tokenizer"
        )
