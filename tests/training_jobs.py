"""Training on small random text: phases by themselves, and whole schedules stage by stage."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from stage_jobs import compute, given, labelled
from tiny_subjects import LENGTH, random_model, tokens

from interp_by_construction.config import (
    AlignConfig,
    Config,
    ContinueConfig,
    OptimizerConfig,
    TrainerConfig,
)
from interp_by_construction.corpus.tokenize import build_blocks
from interp_by_construction.engine.stage import Given
from interp_by_construction.stages.align import Align
from interp_by_construction.stages.continue_ import Continue
from interp_by_construction.stages.control import Control
from interp_by_construction.stages.freeze import Freeze
from interp_by_construction.stages.freeze_only import FreezeOnly
from interp_by_construction.subject.load import save_subject, untie
from interp_by_construction.training.fit import Workplace
from interp_by_construction.training.modules import Plan
from interp_by_construction.training.targets import LayerTargets
from interp_by_construction.training.train import Setting

OPTIMIZER = OptimizerConfig(weight_decay=0.1)
N_BLOCKS = 10
NODES = {1: ([1, 4], [1, -1]), 2: ([0, 17, 20], [-1, 1, 1])}
"""Layer -> aligned nodes and their poles."""


def place(scratch: Path, seconds: float = 0.0) -> Workplace:
    """By default a checkpoint after every step."""
    return Workplace(scratch, "cpu", 1, seconds)


def plan(steps: int, **more: Any) -> Plan:
    """Of one phase."""
    return Plan(steps, 1e-2, OPTIMIZER, **more)


def aligned(layer: int, nodes: list[int], poles: list[int] | None = None) -> LayerTargets:
    """Random targets, a fifth of them undefined."""
    generator = torch.Generator().manual_seed(5 + layer)
    values = torch.rand(N_BLOCKS, LENGTH, len(nodes), generator=generator).half()
    mask = torch.rand(N_BLOCKS, LENGTH, generator=generator) > 0.2
    return LayerTargets(layer, nodes, poles or [1] * len(nodes), values, mask)


def write_corpus(root: Path, n_blocks: int = N_BLOCKS) -> None:
    """Random tokens in every split."""
    for split in ("train", "align", "label", "test"):
        ids = tokens(n_blocks, seed=len(split)).numpy().astype("int32").reshape(-1)
        build_blocks([ids], [0], LENGTH, root / "blocks" / split, split)


def write_inputs(root: Path) -> None:
    """Corpus, a random subject in `start`, and targets and labels of the layers of `NODES`."""
    write_corpus(root)
    model = random_model("llama")
    untie(model)
    save_subject(model, root / "start/model")
    for layer, (nodes, poles) in NODES.items():
        each = aligned(layer, nodes, poles)
        (root / f"targets{layer}").mkdir()
        tensors = {"values": each.values, "mask": each.mask}
        tensors |= {"nodes": torch.tensor(nodes), "poles": torch.tensor(poles)}
        save_file(tensors, root / f"targets{layer}" / "targets.safetensors")
        labelled(root / f"labels{layer}", nodes, poles)


def configured(schedule: str, **align: Any) -> Config:
    """A few steps of every phase."""
    pace = {"local_steps": 1, "steps": 3, "batch_size": 4, "lr": 1e-2}
    return dataclasses.replace(
        Config(),
        schedule=schedule,
        trainer=TrainerConfig(weight_decay=0.1),
        align=AlignConfig(**pace | align),  # type: ignore[arg-type]
        continue_=ContinueConfig(steps=4, batch_size=4, lr=1e-2),
    )


def setting(root: Path, cfg: Config) -> Setting:
    """Two layers on the inputs in `root`."""
    return Setting(cfg, given(root), given(root / "start"), list(NODES))


def labels(root: Path) -> dict[int, Given]:
    """Of each layer."""
    return {layer: given(root / f"labels{layer}") for layer in NODES}


def run(root: Path, cfg: Config, out: Path) -> Path:
    """Aligns, freezes and continues both layers; returns the folder of the last artifact."""
    made, model, named = setting(root, cfg), given(root / "start"), labels(root)
    targets = {layer: given(root / f"targets{layer}") for layer in NODES}
    for layer in NODES:
        if not made.together or layer == min(NODES):
            own = targets if made.together else {layer: targets[layer]}
            compute(Align.of(made, model, own, named.get(layer - 1)), out / f"align{layer}")
            model = given(out / f"align{layer}")
        compute(Freeze(made.corpus, model, named[layer], layer), out / f"freeze{layer}")
        above = {at: each for at, each in targets.items() if at > layer and made.together}
        compute(Continue.of(made, model, named[layer], layer, above), out / f"continue{layer}")
        model = given(out / f"continue{layer}")
    return model.folder


def comparison(root: Path, cfg: Config, out: Path, kind: type[Control | FreezeOnly]) -> Path:
    """The same of a control or a freeze-only run."""
    made, model, named = setting(root, cfg), given(root / "start"), labels(root)
    for layer in NODES:
        stage: Control | FreezeOnly
        if kind is Control:
            stage = Control.of(made, model, layer)
        else:
            stage = FreezeOnly.of(made, model, named[layer], layer, named.get(layer - 1))
        compute(stage, out / f"{stage.name}{layer}")
        model = given(out / f"{stage.name}{layer}")
    return model.folder
