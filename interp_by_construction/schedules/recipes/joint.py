"""Recipes of models whose layers are aligned together: schedule=joint and schedule=hybrid.

They are artifacts of the stages align, continue, control and freeze_only as in the loop, so that
every reader of a run finds them. With `joint` the layers share one align artifact, and a layer's
`continue` is its settling.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interp_by_construction.config import NEUTRAL, AlignConfig, fingerprinted
from interp_by_construction.engine.store import SCRATCH, Artifact
from interp_by_construction.schedules.recipes.training import TrainingRecipes
from interp_by_construction.schedules.workshop import Layer

if TYPE_CHECKING:
    from interp_by_construction.stages.joint import Schedule


class JointRecipes(TrainingRecipes):
    """Each takes a layer of `self.layers`, which are all labelled and simulated, and the model
    before it."""

    def _align_all(self, layer: Layer, before: Artifact) -> Artifact:
        """All layers at once, from the original subject; the same artifact for every layer."""
        subject = self._origin
        parents = self._parents(model=subject, **self._simulated(self.layers), **self._teacher())

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import joint

            with self._tracked("align", layer.index) as logger:
                return joint.run(
                    subject.path / "model",
                    self.shared["corpus"].path,
                    self._targets(self.layers),
                    self._schedule(),
                    out,
                    out / SCRATCH,
                    logger,
                    self.shared["subject"].path / "model",
                )

        config = (
            self._joint_phase() | self._knobs() | {"layers": [each.index for each in self.layers]}
        )
        return self._build("align", layer.index, config, parents, {}, compute)

    def _settle(self, layer: Layer, before: Artifact) -> Artifact:
        above = self.layers[self.layers.index(layer) + 1 :]
        model = self._aligned_model(layer)
        parents = self._parents(
            model=model,
            freeze=layer.artifacts["freeze"],
            **self._simulated(above),
            **self._teacher(),
        )

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import joint

            with self._tracked("continue", layer.index) as logger:
                return joint.settle(
                    model.path / "model",
                    self.shared["corpus"].path,
                    layer.index,
                    self._aligned(layer),
                    self._targets(above),
                    self.layers.index(layer),
                    self._schedule(),
                    out,
                    out / SCRATCH,
                    logger,
                    self.shared["subject"].path / "model",
                )

        config = self._joint_phase() | self._knobs() | {"layer": layer.index}
        return self._build("continue", layer.index, config, parents, {}, compute)

    def _joint_control(self, layer: Layer, before: Artifact) -> Artifact:
        """Same tokens, order, schedules; knows neither labels nor layers, only how many there
        are."""
        return self._joint_comparison("control", layer, "none", {})

    def _joint_freeze_only(self, layer: Layer, before: Artifact) -> Artifact:
        """Same freezing of the same nodes in the same order, no alignment."""
        frozen = {
            "layer": layer.index,
            "aligned": self._aligned(layer),
            "start_layer": self._first(layer),
        }
        return self._joint_comparison("freeze_only", layer, "freeze_only", frozen)

    def _joint_comparison(
        self,
        stage: Literal["control", "freeze_only"],
        layer: Layer,
        held: Literal["none", "freeze_only"],
        extra: dict[str, Any],
    ) -> Artifact:
        previous, position = self._previous(stage, layer), self.layers.index(layer)

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import joint

            with self._tracked(stage, layer.index) as logger:
                return joint.control(
                    previous.path / "model",
                    self.shared["corpus"].path,
                    position,
                    held,
                    self._first(layer),
                    layer.index,
                    self._aligned(layer),
                    self._schedule(),
                    out,
                    out / SCRATCH,
                    logger,
                    self.shared["subject"].path / "model",
                )

        config = self._joint_phase() | {
            "position": position,
            "max_align_tokens": self.cfg.simulate.max_align_tokens,
            **extra,
        }
        config |= self._distilled()
        return self._build(
            stage,
            layer.index,
            config,
            self._parents(model=previous, **self._teacher()),
            {},
            compute,
        )

    def _joint_removed(self, layers: list[Layer], shown: int | None) -> Artifact:
        """All of the control's training without the MLPs of `layers`; shown: the layer to report
        the stage under."""
        cfg, subject = self.cfg, self._origin

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import removed

            with self._tracked("removed", shown) as logger:
                return removed.run_joint(
                    subject.path / "model",
                    self.shared["corpus"].path,
                    [each.index for each in layers],
                    self._schedule(),
                    cfg.evaluate,
                    out,
                    out / SCRATCH,
                    self._device(),
                    logger,
                    self.shared["subject"].path / "model",
                )

        # As in the loop, the control's fingerprint stands for tokens, steps, rates and order.
        parents = self._parents(
            model=subject, control=self.layers[-1].artifacts["control"], **self._teacher()
        )
        config = {
            "layers": [each.index for each in layers],
            "max_test_blocks": cfg.evaluate.max_test_blocks,
        }
        return self._build("removed", shown, config, parents, {}, compute)

    def _align_upward(self, layer: Layer, before: Artifact) -> Artifact:
        """One turn of the hybrid schedule: this layer and all above it."""
        cfg, rest = self.cfg, self.layers[self.layers.index(layer) :]
        parents = self._parents(model=before, **self._simulated(rest), **self._teacher())

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import joint

            with self._tracked("align", layer.index) as logger:
                return joint.turn(
                    before.path / "model",
                    self.shared["corpus"].path,
                    self._targets(rest),
                    cfg.align,
                    cfg.trainer,
                    cfg.seed,
                    self._first(layer),
                    self._below(layer),
                    out,
                    out / SCRATCH,
                    logger,
                    self.shared["subject"].path / "model",
                    cfg.free.count,
                )

        config = self._phase(layer) | {
            "schedule": "hybrid",
            "align": self._unlocal(),
            "start_layer": self._first(layer),
        }
        config |= {
            "below": self._below(layer),
            "layers": [each.index for each in rest],
            **self._knobs(),
            **self._widening(),
        }
        return self._build("align", layer.index, config, parents, {}, compute)

    def _knobs(self) -> dict[str, Any]:
        """What decides how the nodes are trained towards their targets."""
        knobs = ("weight", *NEUTRAL[AlignConfig])
        return {key: value for key, value in fingerprinted(self.cfg.align).items() if key in knobs}

    def _unlocal(self) -> dict[str, Any]:
        """Steps, rate and batches of `align` where there is no local phase."""
        align = self.cfg.align
        return {key: getattr(align, key) for key in ("local_steps", "steps", "lr", "batch_size")}

    def _joint_phase(self) -> dict[str, Any]:
        cfg = self.cfg
        optimizer = {
            "weight_decay": cfg.trainer.weight_decay,
            "warmup": cfg.trainer.warmup,
            "clip": cfg.trainer.clip,
        }
        phase = {
            "schedule": "joint",
            "seed": cfg.seed,
            "plan": dataclasses.asdict(self._schedule().plan),
            **optimizer,
        }
        # Which layers are aligned matters to the comparisons only if they are widened.
        free = (
            {"free": {"count": cfg.free.count, "layers": [each.index for each in self.layers]}}
            if cfg.free.count
            else {}
        )
        rates = {
            "align": {"lr": cfg.align.lr, "batch_size": cfg.align.batch_size},
            "continue": {"lr": cfg.continue_.lr, "batch_size": cfg.continue_.batch_size},
        }
        return phase | rates | free

    def _schedule(self) -> Schedule:
        from interp_by_construction.stages.joint import Schedule, plan_joint

        cfg = self.cfg
        plan = plan_joint(cfg.align, cfg.continue_, len(self.layers))
        free = {each.index: cfg.free.count for each in self.layers if cfg.free.count}
        return Schedule(
            plan, cfg.align, cfg.continue_, cfg.trainer, cfg.seed, self._n_target_blocks(), free
        )

    def _simulated(self, layers: list[Layer]) -> dict[str, Artifact]:
        return {f"simulate_{each.index}": each.artifacts["simulate"] for each in layers}

    def _targets(self, layers: list[Layer]) -> dict[int, Path]:
        return {each.index: each.artifacts["simulate"].path for each in layers}
