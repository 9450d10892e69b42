"""A small head with random weights for one low layer of the embedded encoder, in the format that
the trained ones have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.head import Head
from interp_by_construction.simulators.head_simulator import HeadEncoder, HeadSimulation

FEATURES, HIDDEN, WIDTH = 576, 8, 6


def write_random_head(
    path: Path,
    seed: int = 0,
    encoder: str = "smollm2",
    layers: tuple[int, ...] = (1,),
    beside: Head | None = None,
) -> Path:
    """Writes `path` and returns it. beside: the first head, of a second one."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    n = FEATURES * len(layers)
    for tower, inputs, outputs in (("token", n, WIDTH), ("label", 2 * n, WIDTH + 1)):
        weights |= {
            f"{tower}.mean": np.zeros(inputs),
            f"{tower}.scale": np.ones(inputs),
            f"{tower}.hidden.weight": rng.normal(size=(HIDDEN, inputs)) / np.sqrt(inputs),
            f"{tower}.hidden.bias": np.zeros(HIDDEN),
            f"{tower}.out.weight": rng.normal(size=(outputs, HIDDEN)),
            f"{tower}.out.bias": np.zeros(outputs),
            f"{tower}.skip.weight": rng.normal(size=(outputs, inputs)) / np.sqrt(inputs),
        }
    head: dict[str, object] = {
        "encoder": encoder,
        "encoder_layers": list(layers),
        "record": {"trained": "never"},
    }
    if beside is not None:
        head["adapter"] = beside.adapter_identity
    save_file(
        {name: value.astype(np.float32) for name, value in weights.items()},
        path,
        metadata={"head": json.dumps(head)},
    )
    return path


def simulate_text(head: Head, encoder: Encoder, label: str, tokens: Sequence[str]) -> list[float]:
    """What a head says of one text on its own."""
    simulation = HeadSimulation(HeadEncoder([head], encoder), [label])
    return [float(value) for value in simulation([tokens])[:, 0]]
