"""What a run consists of: stages by link name, for the whole run and for each layer.

`run` computes it, `verify` compares it, `report` and `export` read it, and `state.json` keeps its
fingerprints, by which `status` knows what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from interp_by_construction.engine.stage import Stage
from interp_by_construction.stages import LayerStages

Links = dict[str, Stage[Any]]
"""Link name -> stage. It is the stage's name but where a run has several of a kind, such as
`losses_continue` and `losses_control`."""


@dataclass(frozen=True)
class RunGraph:
    """All stages of a run, in the order in which they are computed."""

    shared: Links
    """corpus, subject, encode, losses (of the subject) and what measures all layers at once."""
    layers: dict[int, Links]
    """Layer -> its stages, lowest layer first."""
    views: tuple[LayerStages, ...]
    """The layers as measurements see them, lowest first."""

    def links(self) -> Iterator[tuple[int | None, str, Stage[Any]]]:
        """Layer (None: the whole run), link name and stage."""
        for name, stage in self.shared.items():
            yield None, name, stage
        for layer, links in self.layers.items():
            for name, stage in links.items():
                yield layer, name, stage

    def fingerprints(self) -> dict[str, Any]:
        """As in `state.json`: `shared` {link: fingerprint} and `layers` {layer: {link:
        fingerprint}}."""
        return {
            "shared": {name: stage.fingerprint for name, stage in self.shared.items()},
            "layers": {
                str(layer): {name: stage.fingerprint for name, stage in links.items()}
                for layer, links in self.layers.items()
            },
        }
