"""A layer's MLP gives way to a sparse transcoder, whose features become the layer's nodes.

1. The transcoder is read from disk, or trained on what the MLP reads and writes on the train split.
2. On the test split: fraction of variance unexplained, active features per token, dead features.
3. It takes the MLP's place. Whatever follows works on its features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from interp_by_construction.config import DictionaryConfig, TrainerConfig
from interp_by_construction.corpus import load_blocks
from interp_by_construction.engine.device import resolve_device
from interp_by_construction.engine.progress import track
from interp_by_construction.errors import ConfigError
from interp_by_construction.stages.align import data_seed
from interp_by_construction.subject.dictionary import put_in_place
from interp_by_construction.subject.families import output_directions
from interp_by_construction.subject.hooks import mlp_flow
from interp_by_construction.subject.load import load_subject, save_subject
from interp_by_construction.subject.transcoder import (
    Transcoder,
    load_transcoder,
    new_transcoder,
    save_transcoder,
)
from interp_by_construction.subject.transcoder_files import Shape, check_width, made_for
from interp_by_construction.training.fit import TokenBlocks, fit
from interp_by_construction.training.transcoder import Scales, TranscoderModule, unscale

DICTIONARY = 9
"""Phase in `data_seed`, beside those of align and continue."""

EVALUATED_BLOCKS = 8
"""Blocks per forward pass where nothing is trained."""


class Fidelity(NamedTuple):
    """How well a transcoder does what the MLP did, on held-out text."""

    fvu: float
    """Sum of squared errors over the sum of squared deviations from the mean output."""
    l0: float
    """Active features per token."""
    n_dead: int
    """Features that were active on none of the tokens."""
    n_tokens: int


def run(
    model_dir: Path,
    corpus_dir: Path,
    layer: int,
    cfg: DictionaryConfig,
    source: Path | None,
    subject: str,
    trainer: TrainerConfig,
    seed: int,
    out: Path,
    scratch: Path,
    logger: Any = None,
) -> dict[str, Any]:
    """Writes `out/model/`, with the transcoder in it, and `out/transcoder/` (cfg.json,
    sae.safetensors); `source` holds one.

    `subject` is the name of the model in messages.

    Raises:
        ConfigError: more features per token than there are, or a transcoder that was made for
        another model or width.
    """
    model: Any = load_subject(model_dir)
    d_model = output_directions(model, layer).shape[1]
    trained: dict[str, Any] = {}
    if source is not None:
        transcoder = load_transcoder(source)
        check_width(source, transcoder.shape, d_model, subject)
    else:
        blocks = TokenBlocks(load_blocks(corpus_dir, "train"))
        first = blocks.batch(np.arange(min(EVALUATED_BLOCKS, len(blocks))))["input_ids"]
        scales = Scales.of(mlp_flow(model, layer, first))
        transcoder = new_transcoder(wanted_shape(cfg, d_model), scales.mean, seed * 1000 + layer)
        trained = fit(
            TranscoderModule(transcoder, model, layer, scales, cfg, trainer),
            blocks,
            seed=data_seed(seed, layer, DICTIONARY),
            batch_size=cfg.batch_size,
            scratch=scratch / "transcoder",
            logger=logger,
            description=f"transcoder of layer {layer}",
        )
        unscale(transcoder, scales)
    measured = fidelity(
        model, transcoder, corpus_dir, layer, cfg.n_eval_tokens, resolve_device(trainer.device)
    )
    if source is not None and measured.fvu >= 1.0:
        raise ConfigError(
            f"nodes.path={source}: a transcoder {made_for(source)}, not of layer {layer} of {subject}: there it leaves "
            f"{measured.fvu:.2f} of the MLP's variance unexplained, and the mean output would leave 1.00; "
            "give one of this model and layer"
        )
    save_transcoder(transcoder, out / "transcoder", {"layer": layer})
    put_in_place(model.cpu(), layer, transcoder.cpu())
    save_subject(model, out / "model")
    shape = transcoder.shape
    made: dict[str, Any] = {
        "kind": shape.kind,
        "k": shape.k,
        "skip": shape.skip,
        "n_features": shape.n_features,
    }
    made |= {"source": "trained" if source is None else "loaded"}
    return made | measured._asdict() | ({"training": trained} if trained else {})


def wanted_shape(cfg: DictionaryConfig, d_model: int) -> Shape:
    """The transcoder that `cfg` asks for. Raises ConfigError where it has fewer features than it
    should keep."""
    n_features, k = cfg.expansion * d_model, cfg.k if cfg.activation == "topk" else None
    if k is not None and k > n_features:
        fix = f"the transcoder has {n_features} features (dictionary.expansion={cfg.expansion} times d_model={d_model}); give fewer"
        raise ConfigError(f"dictionary.k={k}: {fix}")
    return Shape(d_model, n_features, k, cfg.skip)


@torch.no_grad()
def fidelity(
    model: PreTrainedModel,
    transcoder: Transcoder,
    corpus_dir: Path,
    layer: int,
    n_tokens: int,
    device: str,
) -> Fidelity:
    """On the first blocks of the test split with about `n_tokens` tokens; `model` still has its
    MLP."""
    blocks = TokenBlocks(load_blocks(corpus_dir, "test"))
    length = blocks.batch(np.zeros(1, dtype=np.int64))["input_ids"].shape[1]
    n_blocks = min(len(blocks), max(1, n_tokens // length))
    subject: Any = model
    subject.to(device), transcoder.to(device)
    d_model, count, error = transcoder.shape.d_model, 0, 0.0
    total, squares = (torch.zeros(d_model, dtype=torch.float64, device=device) for _ in range(2))
    active = torch.zeros(transcoder.shape.n_features, dtype=torch.long, device=device)
    shift: Tensor | None = None
    for start in track(
        range(0, n_blocks, EVALUATED_BLOCKS), f"transcoder of layer {layer}: held-out fidelity"
    ):
        indices = np.arange(start, min(start + EVALUATED_BLOCKS, n_blocks))
        x, y = mlp_flow(model, layer, blocks.batch(indices)["input_ids"].to(device))
        features = transcoder.activation(transcoder.encoder(x))
        error += float((y - transcoder.decode(features, x)).double().square().sum())
        # Sums of differences from a typical value keep the digits that sums of squares lose.
        shift = y.double().mean(0) if shift is None else shift
        away = y.double() - shift
        total, squares = total + away.sum(0), squares + away.square().sum(0)
        active, count = active + (features > 0).sum(0), count + len(x)
    variance = float((squares - total.square() / count).sum())
    return Fidelity(
        fvu=error / max(variance, 1e-12),
        l0=float(active.sum()) / count,
        n_dead=int((active == 0).sum()),
        n_tokens=count,
    )
