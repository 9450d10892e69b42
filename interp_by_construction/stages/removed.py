"""removed: what a layer's MLP is worth. The control's training once more, with the layer's MLP
replaced by its mean output.

1. The mean of what the MLP's output projection writes, over text of the train split.
2. The rest of the network trains as the control did: same tokens, order, steps and learning rates,
   nothing frozen. In the loop that is the layer's segment of the control, with schedule=joint all
   of the control's training.
3. Test loss, to be compared with the control's after the same training: what the layer could not be
   done without.

A tax is cheap only if it is small against this cost: where the MLP is not needed, labels on it are
free. Knows no label and no aligned node, so that the runs of a sweep share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from interp_by_construction.config import AlignConfig, ContinueConfig, EvaluateConfig, TrainerConfig
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.stages import control, joint
from interp_by_construction.stages.align import distill_from
from interp_by_construction.stages.losses import measure_losses
from interp_by_construction.subject.load import load_subject, save_subject, untie
from interp_by_construction.subject.removal import constant_outputs, mean_output

N_MEAN_BLOCKS = 64
CONSTANTS = "constants.safetensors"


def run(
    model_dir: Path,
    below: Path | None,
    corpus_dir: Path,
    layer: int,
    align: AlignConfig,
    continue_: ContinueConfig,
    evaluate_: EvaluateConfig,
    trainer: TrainerConfig,
    seed: int,
    n_align_blocks: int,
    out: Path,
    scratch: Path,
    device: Any,
    logger: Any = None,
    original_dir: Path | None = None,
) -> dict[str, Any]:
    """One segment of the loop. model_dir: what the control's segment started from or, with `below`
    (its artifact), an earlier segment with MLPs removed.

    Writes `out/model/` (whose removed MLPs are not to be used), `out/constants.safetensors`
    (`layer_<i>`: what is written instead, [d_model]), and `losses.safetensors` as
    the losses stage. Metrics: `layers`, `loss`, `n_tokens`, `n_documents`, and the phases.
    """
    model = load_subject(model_dir)
    untie(model)
    constants = read_constants(below) if below is not None else {}
    distill = distill_from(original_dir, align.distill)

    def train(description: str) -> dict[str, Any]:
        return control.train(
            model,
            corpus_dir,
            layer,
            align,
            continue_,
            trainer,
            seed,
            n_align_blocks,
            {},
            {},
            distill,
            scratch,
            logger,
            description,
        )

    return _without(model, constants, [layer], train, corpus_dir, evaluate_, out, device)


def run_joint(
    model_dir: Path,
    corpus_dir: Path,
    layers: Sequence[int],
    schedule: joint.Schedule,
    evaluate_: EvaluateConfig,
    out: Path,
    scratch: Path,
    device: Any,
    logger: Any = None,
    original_dir: Path | None = None,
) -> dict[str, Any]:
    """All of the joint control's training without the MLPs of `layers`, lowest first. model_dir:
    the original.

    Writes what `run` does.
    """
    model = load_subject(model_dir)
    untie(model)
    schedule.widen(model)
    distill = distill_from(original_dir, schedule.align.distill)

    def train(description: str) -> dict[str, Any]:
        return joint.train_control(
            model, corpus_dir, schedule, distill, scratch, logger, description
        )

    return _without(model, {}, layers, train, corpus_dir, evaluate_, out, device)


def _without(
    model: PreTrainedModel,
    constants: dict[int, Tensor],
    layers: Sequence[int],
    train: Callable[[str], dict[str, Any]],
    corpus_dir: Path,
    evaluate_: EvaluateConfig,
    out: Path,
    device: Any,
) -> dict[str, Any]:
    """Adds the means of `layers` to `constants`, each with the MLPs below it removed; trains and
    measures `model` with all."""
    for layer in layers:
        with constant_outputs(model, constants):
            constants[layer] = mean_output(model, layer, _text(corpus_dir, evaluate_.batch_size))
    with constant_outputs(model, constants):
        phases = train(f"without the MLP of layer {', '.join(map(str, sorted(constants)))}")
        model.to(device).eval()
        limits = evaluate_.max_test_blocks, evaluate_.batch_size
        losses = asdict(measure_losses(model, corpus_dir, *limits, out))
    save_subject(model.cpu(), out / "model")
    save_file(
        {f"layer_{index}": value.contiguous() for index, value in constants.items()},
        out / CONSTANTS,
    )
    return {"layers": sorted(constants), **losses, "phases": phases}


def read_constants(path: Path) -> dict[int, Tensor]:
    """Layer -> what stands in for its MLP's output, [d_model]."""
    return {
        int(name.removeprefix("layer_")): value
        for name, value in load_file(path / CONSTANTS).items()
    }


def _text(corpus: Path, batch_size: int) -> Iterator[Tensor]:
    for part in Passage.of_split(corpus, "train", n_blocks=N_MEAN_BLOCKS).slices(batch_size):
        yield torch.as_tensor(part.ids)
