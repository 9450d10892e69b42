"""Which layers a run consists of after this call."""

from __future__ import annotations

import dataclasses

from interp_by_construction.config import Config, requested_layers
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.errors import ConfigError


def planned_layers(cfg: Config, run: RunDirectory, n_layers: int) -> list[int]:
    """All layers of the run, lowest first, without a gap. n_layers: of the subject.

    Raises:
        ConfigError: a layer that the subject does not have, one between start_layer and the
        layers asked for that is not aligned, or, where layers are aligned together, other layers
        than a finished run has.
    """
    done = run.done_layers
    layers = layers_after(cfg, run.start_layer, done, n_layers)
    if cfg.schedule == "joint" and done and layers != sorted(done):
        listed = str(layers).replace(" ", "")
        raise ConfigError(
            f"layer={cfg.layer}: with schedule={cfg.schedule} run {cfg.run_name} aligned the layers "
            f"{sorted(done)} together; give another run=NAME with layer={listed} (labels and "
            "simulations are not computed again)"
        )
    return layers


def layers_after(
    cfg: Config, start_before: int | None, done: list[int], n_layers: int
) -> list[int]:
    """The layers of a run that started at `start_before` and has `done` aligned. Raises ConfigError
    as `planned_layers`."""
    start_before = start_before if done else None
    start = cfg.start_layer if start_before is None else start_before
    asked = requested_layers(dataclasses.replace(cfg, start_layer=start), n_layers)
    assert asked is not None
    start = min(asked) if start is None else start
    if cfg.start_layer is not None and cfg.start_layer != start:
        raise ConfigError(
            f"start_layer={cfg.start_layer}: run {cfg.run_name} started at layer {start}; give "
            "another run=NAME"
        )
    if start >= n_layers:
        raise ConfigError(f"start_layer={start}: give a layer from 0 to {n_layers - 1}")
    layers = sorted({*done, *asked})
    missing = sorted(set(range(start, max(layers) + 1)) - set(layers))
    if missing:
        wanted = ",".join(map(str, sorted({*missing, *asked})))
        raise ConfigError(
            f"layer={cfg.layer}: layers {missing} between start_layer={start} and {max(layers)} "
            f"are not aligned yet; run them too with layer=[{wanted}]"
        )
    return layers
