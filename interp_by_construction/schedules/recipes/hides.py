"""Recipes of the questions whether labels bind: where the work hides, what a layer is worth, and
whether a trigger survives.

They read models by role (original, before and after a layer, final, control), in whatever order the
layers were trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp_by_construction.engine.store import Artifact
from interp_by_construction.schedules.workshop import Layer, Workshop

SEGMENTS = ("align", "continue")
"""Models of a layer's turn, where it has them."""
COMPARED = ("freeze_only", "control")


class HidingRecipes(Workshop):
    """Layers are layers that are done, lowest first."""

    def _work(self, layers: Sequence[Layer], of_run: bool = False) -> Artifact:
        """Ablation and substitution in all of `layers` at once, in the final model."""
        cfg, final, head = (
            self.cfg.evaluate,
            self.layers[-1].artifacts["continue"],
            self._head is not None,
        )
        stage = "function" if len(layers) == 1 else "cumulative"
        known = layers[-1].artifacts[stage] if head else None

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import function, work

            corpus = self.shared["corpus"].path
            aligned = [
                function.read_aligned(
                    each.artifacts["simulate"].path, corpus, each.index, self.cfg.simulate
                )
                if head
                else work.without_simulations(
                    corpus, each.index, self._aligned(each), cfg.max_test_blocks
                )
                for each in layers
            ]
            read = work.known_of_layer if stage == "function" else work.known_of_layers
            return work.run(
                final.path / "model",
                aligned,
                head,
                read(known.path) if known else None,
                cfg.batch_size,
                cfg.n_bootstrap,
                self.cfg.seed,
                out,
                self._device(),
            )

        config: dict[str, Any] = {
            "layers": [each.index for each in layers],
            "n_bootstrap": cfg.n_bootstrap,
            "seed": self.cfg.seed,
        }
        config |= {} if head else {"max_test_blocks": cfg.max_test_blocks}
        parents = self._parents(
            model=final, **{f"simulate_{each.index}": each.artifacts["simulate"] for each in layers}
        )
        parents |= {stage: known.fingerprint} if known else {}
        return self._build(
            "work", None if of_run else layers[0].index, config, parents, {}, compute
        )

    def _trigger(self) -> Artifact:
        """Success of the planted trigger in every model of the run."""
        cfg = self.cfg
        rows = self._trigger_rows()

        def compute(out: Path) -> dict[str, Any]:
            from interp_by_construction.stages import trigger

            checkpoints = [
                trigger.Checkpoint(
                    role,
                    layer,
                    model.path / "model",
                    {each.index: self._aligned(each) for each in ablated},
                )
                for role, layer, model, ablated in rows
            ]
            return trigger.run(
                checkpoints,
                self.shared["corpus"].path,
                cfg.trigger,
                cfg.evaluate.batch_size,
                cfg.evaluate.n_bootstrap,
                cfg.seed,
                out,
                self._device(),
            )

        parents = {f"{role}_{layer}": model for role, layer, model, _ in rows}
        labels = {f"labels_{layer.index}": layer.labels for layer in self.layers}
        config = {
            key: value for key, value in dataclasses.asdict(cfg.trigger).items() if key != "share"
        }
        config |= {
            "seed": cfg.seed,
            "n_bootstrap": cfg.evaluate.n_bootstrap,
            "rows": [[role, layer] for role, layer, *_ in rows],
        }
        return self._build("trigger", None, config, self._parents(**parents, **labels), {}, compute)

    def _trigger_rows(self) -> list[tuple[str, int | None, Artifact, list[Layer]]]:
        """Role, layer, model, and the layers of which nodes are ablated: the repaired models, and
        the control for comparison."""
        rows: list[tuple[str, int | None, Artifact, list[Layer]]] = [
            ("original", None, self.shared["subject"], [])
        ]
        for position, layer in enumerate(self.layers):
            done = self.layers[: position + 1]
            rows += [
                (role, layer.index, layer.artifacts[role], done if role == "continue" else [])
                for role in SEGMENTS
                if role in layer.artifacts
            ]
        last = self.layers[-1]
        return rows + [
            (role, last.index, last.artifacts[role], self.layers if role == "control" else [])
            for role in COMPARED
            if role in last.artifacts
        ]
