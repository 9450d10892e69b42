"""The artifacts of a run by link name, from which its results are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Artifact, Store
from interp_by_construction.errors import StoreError

if TYPE_CHECKING:
    # They import torch, which a reader of results need not wait for.
    from interp_by_construction.engine.engine import Engine
    from interp_by_construction.schedules.graph import RunGraph

Artifacts = Mapping[str, Artifact]
"""Link name -> artifact, in the order of computation."""


@dataclass(frozen=True)
class Finished:
    """The artifacts of the layers that are done."""

    shared: Artifacts
    """Those that belong to no layer."""
    layers: Mapping[int, Artifacts]
    """Layer -> its artifacts, lowest layer first."""

    @classmethod
    def of(cls, graph: RunGraph, engine: Engine) -> Self:
        """All stages of the graph."""
        return cls(
            {name: engine.get(stage) for name, stage in graph.shared.items()},
            {
                layer: {name: engine.get(stage) for name, stage in links.items()}
                for layer, links in graph.layers.items()
            },
        )

    @classmethod
    def linked(cls, run: RunDirectory, store: Store) -> Self:
        """The artifacts that `state.json` links to. Raises StoreError if one is gone."""
        shared: dict[str, Artifact] = {}
        layers: dict[int, dict[str, Artifact]] = {}
        for link in run.links:
            found = store.get(link.stage, link.fingerprint)
            if found is None:
                raise StoreError(
                    f"{store.path(link.stage, link.fingerprint)}: an artifact of run {run.name} "
                    "is gone; the same `ibc run` makes it again"
                )
            group = shared if link.layer is None else layers.setdefault(link.layer, {})
            group[link.name] = found
        return cls(shared, layers)

    @property
    def every(self) -> list[Artifact]:
        """All artifacts, each once, in the order of computation."""
        groups = (self.shared, *self.layers.values())
        return list(dict.fromkeys(each for group in groups for each in group.values()))

    @property
    def last(self) -> Artifacts:
        """The highest layer, whose models are the run's last."""
        return self.layers[max(self.layers)]

    def below(self, layer: int) -> Artifacts | None:
        """The aligned layer under this one."""
        lower = [index for index in self.layers if index < layer]
        return self.layers[max(lower)] if lower else None


def labels_of(artifacts: Artifacts) -> Artifact:
    """The labels of a layer: the matched ones where there are any, else the labeler's."""
    return artifacts.get("assign", artifacts["label"])


def without_curves(value: Any) -> Any:
    """A record as the summary holds it: with empty lists for curves, which are lists of lists."""
    if isinstance(value, dict):
        return {key: without_curves(each) for key, each in value.items()}
    if isinstance(value, list):
        curve = any(isinstance(each, list) for each in value)
        return [] if curve else [without_curves(each) for each in value]
    return value
