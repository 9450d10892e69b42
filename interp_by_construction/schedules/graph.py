"""What a run consists of: stages by link name, for the whole run and for each layer.

`run` computes it, `verify` compares it, `report` and `export` read it, and `state.json` keeps its
fingerprints, by which `status` knows what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from interp_by_construction.engine.stage import Stage

Links = dict[str, Stage[Any]]
"""Link name -> stage. A link is named after its stage, or, where a run has several of a kind, more
exactly: `losses_continue`, `losses_control`."""


class Placed(NamedTuple):
    """A stage in its place in a run."""

    layer: int | None
    """None for what belongs to no layer."""
    link: str
    stage: Stage[Any]


@dataclass(frozen=True)
class RunGraph:
    """All stages of a run, in the order in which they are computed."""

    text: Links
    """What all layers share: corpus, subject, encode, losses of the subject."""
    made: dict[int, Links]
    """Layer -> labels, targets and models, lowest layer first."""
    measured: dict[int, Links]
    """Layer -> what is measured of it when all layers are made."""
    whole: Links
    """What is measured of all layers at once."""

    @property
    def shared(self) -> Links:
        """The stages that belong to no layer."""
        return self.text | self.whole

    @property
    def layers(self) -> dict[int, Links]:
        """Layer -> all of its stages."""
        return {layer: made | self.measured.get(layer, {}) for layer, made in self.made.items()}

    def links(self, first: Callable[[Stage[Any]], bool] | None = None) -> Iterator[Placed]:
        """Every link in the order of computation. Stages of which `first` is true, and what they
        are computed from, come before the others."""
        every = list(self._links())
        early = ancestry(each.stage for each in every if first is not None and first(each.stage))
        yield from (each for each in every if each.stage.fingerprint in early)
        yield from (each for each in every if each.stage.fingerprint not in early)

    def _links(self) -> Iterator[Placed]:
        yield from (Placed(None, name, stage) for name, stage in self.text.items())
        for group in (self.made, self.measured):
            for layer, links in group.items():
                yield from (Placed(layer, name, stage) for name, stage in links.items())
        yield from (Placed(None, name, stage) for name, stage in self.whole.items())

    def plan(self) -> dict[str, Any]:
        """For `state.json`: `shared` {link: [stage, fingerprint]}, `layers` {layer: the same}."""
        return {
            "shared": {name: [each.name, each.fingerprint] for name, each in self.shared.items()},
            "layers": {
                str(layer): {name: [each.name, each.fingerprint] for name, each in links.items()}
                for layer, links in self.layers.items()
            },
        }


def ancestry(stages: Iterable[Stage[Any]]) -> set[str]:
    """Fingerprints of stages and of all that they are computed from."""
    found: set[str] = set()
    left = list(stages)
    while left:
        stage = left.pop()
        if stage.fingerprint not in found:
            found.add(stage.fingerprint)
            left.extend(stage.parents.values())
    return found
