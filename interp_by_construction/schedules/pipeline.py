"""The loop: label a layer, make the labels true, freeze, repair, go on. Owns skip, run and mark;
the stages hold only science.

corpus -> subject -> for each layer: (dictionary ->) collect -> label (-> assign) -> simulate ->
align -> freeze -> continue
                                     control and freeze-only beside it, losses of all four models,
                                     scores

With schedule=joint all layers are labelled first, then aligned at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from interp_by_construction.config import Config, requested_layers
from interp_by_construction.engine.run_directory import Progress, RunDirectory
from interp_by_construction.engine.store import Artifact
from interp_by_construction.errors import ConfigError
from interp_by_construction.schedules.recipes import Recipes
from interp_by_construction.schedules.workshop import Layer
from interp_by_construction.simulators import check

Stages = list[tuple[str, Callable[[Layer, Artifact], Artifact]]]
"""Stage -> its recipe, in order."""


def run(cfg: Config, name: str | None = None) -> RunDirectory:
    """Runs everything that `cfg` asks for and that does not exist yet; returns the run's
    directory."""
    check(cfg)
    directory = RunDirectory(cfg.runs_dir / (name or cfg.run_name))
    with directory.lock():
        directory.adopt(cfg)
        with Loop(cfg, directory).session() as loop:
            loop.run()
    return directory


def plan(cfg: Config, start_before: int | None, done: list[int], n_layers: int) -> list[int]:
    """All layers of the run after this call, lowest first. Raises ConfigError where a layer between
    them is missing."""
    start_before = start_before if done else None
    asked = requested_layers(
        dataclasses.replace(
            cfg, start_layer=cfg.start_layer if start_before is None else start_before
        ),
        n_layers,
    )
    assert asked is not None
    start = (
        start_before
        if start_before is not None
        else (cfg.start_layer if cfg.start_layer is not None else min(asked))
    )
    if cfg.start_layer is not None and start_before is not None and cfg.start_layer != start_before:
        raise ConfigError(
            f"start_layer={cfg.start_layer}: run {cfg.run_name} started at layer {start_before}; give another run=NAME"
        )
    if start >= n_layers:
        raise ConfigError(f"start_layer={start}: give a layer from 0 to {n_layers - 1}")
    layers = sorted({*done, *asked})
    missing = sorted(set(range(start, max(layers) + 1)) - set(layers))
    if missing:
        wanted = ",".join(map(str, sorted({*missing, *asked})))
        raise ConfigError(
            f"layer={cfg.layer}: layers {missing} between start_layer={start} and {max(layers)} are not aligned yet; "
            f"run them too with layer=[{wanted}]"
        )
    return layers


def check_together(cfg: Config, done: list[int], layers: list[int]) -> None:
    """Layers that are aligned together are one result. Raises ConfigError where a finished run is
    asked for other layers."""
    if done and layers != sorted(done):
        raise ConfigError(
            f"layer={cfg.layer}: with schedule={cfg.schedule} run {cfg.run_name} aligned the layers {sorted(done)} together; give "
            f"another run=NAME with layer={str(layers).replace(' ', '')} (labels and simulations are not computed again)"
        )


class Loop(Recipes):
    """Label a layer, align it, freeze it, repair the rest, go on."""

    def run(self) -> None:
        # What is wrong with the simulator shows before anything is computed.
        _ = self.simulator
        self.shared["corpus"] = self._corpus()
        self.shared["subject"] = self._subject()
        done = self.directory.done_layers
        layers = plan(
            self.cfg,
            self.directory.start_layer,
            done,
            self.shared["subject"].metrics["subject"]["n_layers"],
        )
        if self._together:
            check_together(self.cfg, done, layers)
        self._check_dictionaries(layers)
        self.directory.record(
            Progress(start_layer=layers[0], planned=layers), forget=self._together
        )
        if self.simulator.encoded_parts:
            self.shared["encode"] = self._encode()
        self.shared["losses"] = self._losses(self.shared["subject"])
        if self._together:
            self._align_together(layers)
            return
        for index in layers:
            self._align_layer(index)
            self._examine_all()

    def _examine_all(self) -> None:
        for layer in self.layers:
            self._examine(layer)
        self._examine_run()
        self.directory.finish_layers(self.cfg, self.shared, self.layers)

    def _examine(self, layer: Layer) -> None:
        """Scores of a layer that is done; what depends on layers above it is measured anew when one
        is added."""
        from interp_by_construction.stages.audit import Audit
        from interp_by_construction.stages.evaluate import Evaluate
        from interp_by_construction.stages.function import Function
        from interp_by_construction.stages.judge import Judge
        from interp_by_construction.stages.work import Work

        for kind in (Evaluate, Function, Audit, Work, Judge):
            self._measured(kind, layer)
        if self.cfg.work.enabled and self.cfg.work.removed:
            layer.artifacts["removed"] = self._removed(layer)

    def _examine_run(self) -> None:
        """The same of all layers done at once, and what was planted in the subject."""
        from interp_by_construction.stages.trigger import Trigger
        from interp_by_construction.stages.work import Work

        self._of_run(Work)
        if self.cfg.work.enabled and self.cfg.work.removed:
            self.shared["removed"] = self._removed(None)
        self._of_run(Trigger)

    def _align_layer(self, index: int) -> None:
        """One turn of the loop."""
        layer = Layer(index)
        original = self.layers[-1].artifacts["continue"] if self.layers else self.shared["subject"]
        before = self._with_dictionary(layer, original, "dictionary")
        self._make(layer, before, self._labelling())
        self._train(layer, before)
        self.layers.append(layer)

    def _align_together(self, indices: list[int]) -> None:
        """Labels of all layers from the original subject, with a dictionary in each where asked
        for; then models, bottom-up."""
        layers, before = [Layer(index) for index in indices], self.shared["subject"]
        for layer in layers:
            before = self._with_dictionary(layer, before, "dictionary")
        for layer in layers:
            self._make(layer, before, self._labelling())
            self.layers.append(layer)
        for layer in self.layers:
            self._train(layer, before)
            before = layer.artifacts["continue"]
        self._examine_all()

    def _labelling(self) -> Stages:
        matched: Stages = [("assign", self._assign)] if self.cfg.nodes.assign == "match" else []
        return [
            ("collect", self._collect),
            ("label", self._label),
            *matched,
            ("simulate", self._simulate),
        ]

    def _train(self, layer: Layer, before: Artifact) -> None:
        """Align, freeze, repair; the comparisons; the losses of all."""
        stages: Stages = [
            ("align", self._align),
            ("freeze", self._freeze),
            ("continue", self._continue),
            ("control", self._control),
            ("freeze_only", self._freeze_only),
        ]
        self._make(layer, before, stages)
        swapped = ("dictionary",) if "dictionary" in layer.artifacts else ()
        for stage in (*swapped, "continue", "control", "freeze_only"):
            layer.artifacts[f"losses_{stage}"] = self._losses(layer.artifacts[stage])
            self.directory.mark(
                layer.index, f"losses_{stage}", layer.artifacts[f"losses_{stage}"].fingerprint
            )

    def _make(self, layer: Layer, before: Artifact, stages: Stages) -> None:
        for stage, make in stages:
            layer.artifacts[stage] = make(layer, before)
            self.directory.mark(layer.index, stage, layer.artifacts[stage].fingerprint)
