"""Finds and describes transcoders on disk, in the format of EleutherAI's `sparsify`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from interp_by_construction.errors import ConfigError

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
SEED = re.compile(r"seed\d+")
"""Folder of a transcoder in that of its layer, where sparsify trained several."""


class Shape(NamedTuple):
    """All of a transcoder but its weights, as a checkpoint's config.json keeps it."""

    d_model: int
    n_features: int
    k: int | None
    """Features kept per token; None for plain ReLU."""
    skip: bool

    @property
    def kind(self) -> str:
        """Name of the activation, as in `dictionary.activation`."""
        return "relu" if self.k is None else "topk"


def read_shape(path: Path) -> Shape:
    """What `path/cfg.json` says. Raises ConfigError if it does not describe a transcoder."""
    try:
        config: dict[str, Any] = json.loads((path / CONFIG).read_text())
        d_model, activation = int(config["d_in"]), config.get("activation", "topk")
        n_features = int(config.get("num_latents") or d_model * int(config["expansion_factor"]))
        k = int(config["k"]) if activation == "topk" else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = f"give a folder with {CONFIG} and {WEIGHTS}, as sparsify saves it ({type(error).__name__}: {error})"
        raise ConfigError(f"nodes.path={path}: {fix}") from error
    if activation not in ("topk", "relu"):
        raise ConfigError(
            f"nodes.path={path}: activation {activation!r} is not supported, only topk and relu are"
        )
    if not config.get("transcode", is_early(path)):
        fix = "an autoencoder cannot take an MLP's place; give a transcoder"
        early = (
            " (if it is a transcoder that sparsify saved before 12 February 2025, the config.json of "
            "its training must stand in the folder above it, and hold transcode: true)"
        )
        hint = early if "transcode" not in config else ""
        raise ConfigError(f"nodes.path={path}: transcode is not set in {CONFIG}, and {fix}{hint}")
    return Shape(d_model, n_features, k, bool(config.get("skip_connection")))


def is_early(path: Path) -> bool:
    """Whether sparsify saved this transcoder before 12 February 2025.

    Until then `cfg.json` did not say that it is one, only the config.json of the whole training
    did, and a transcoder read its input minus `b_dec`.
    """
    try:
        own = json.loads((path / CONFIG).read_text())
        return "transcode" not in own and bool(_training(path)["transcode"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _training(folder: Path) -> dict[str, Any]:
    """What sparsify writes about the whole training: above the folder of a layer, or above that of
    a layer and a seed. Raises OSError where there is nothing."""
    above = folder.parent.parent if SEED.fullmatch(folder.name) else folder.parent
    return json.loads((above / "config.json").read_text())


def check_width(source: Path, shape: Shape, d_model: int, subject: str) -> None:
    """Raises ConfigError if the transcoder in `source` reads another width than the subject has."""
    if shape.d_model != d_model:
        raise ConfigError(
            f"nodes.path={source}: a transcoder {made_for(source)} with d_model={shape.d_model}, but the subject {subject} has "
            f"d_model={d_model}; give a transcoder of this model"
        )


def check_free(source: Path, shape: Shape, count: int) -> None:
    """Raises ConfigError if the transcoder in `source` cannot get `count` free features."""
    if shape.kind == "topk" and count:
        raise ConfigError(
            f"free.count={count}: the transcoder in {source} keeps the {shape.k} largest features, and features that are added "
            "would push others out: set free.count=0, or give a relu transcoder"
        )


def made_for(source: Path) -> str:
    """The model that sparsify names beside the transcoder's folder, in words."""
    try:
        return f"of {_training(source)['model']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "of another model"


def find_transcoder(path: Path, layer: int, n_layers: int) -> Path:
    """The folder of `layer`'s transcoder: `path` itself, or a folder in it such as `layers.3.mlp`
    or `layers.3.mlp/seed0`.

    n_layers: how many layers need one. Raises ConfigError if there is none, too few, or one for
    each of several seeds.
    """
    if (path / CONFIG).is_file():
        read_shape(path)
        if n_layers > 1:
            fix = f"the run needs {n_layers}, one per layer: give a folder that holds layers.{layer}.mlp and its like"
            raise ConfigError(f"nodes.path={path}: holds one transcoder, but {fix}")
        return path
    found = [
        folder
        for folder in sorted(path.glob(f"*{layer}.mlp"))
        if f".{folder.name}".endswith(f".{layer}.mlp")
    ]
    if len(found) != 1:
        names = sorted(folder.name for folder in path.glob("*.mlp"))
        there = ", ".join(names) or "no folder named after a layer"
        raise ConfigError(
            f"nodes.path={path}: neither {CONFIG} nor a folder layers.{layer}.mlp of layer {layer}; found {there}"
        )
    folder = _of_one_seed(found[0])
    read_shape(folder)
    return folder


def _of_one_seed(folder: Path) -> Path:
    """The folder itself, or that of the only seed in it. Raises ConfigError for several seeds."""
    if (folder / CONFIG).is_file():
        return folder
    seeds = [each for each in sorted(folder.glob("seed*")) if SEED.fullmatch(each.name)]
    if len(seeds) > 1:
        names = ", ".join(each.name for each in seeds)
        raise ConfigError(
            f"nodes.path={folder.parent}: {folder.name} holds a transcoder for each of the seeds "
            f"{names}; give nodes.path={seeds[0]} for one layer, or leave one seed in each folder"
        )
    return seeds[0] if seeds else folder
