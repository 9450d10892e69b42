"""Which labelled neurons a text activates, and what their labels say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from interp_by_construction.labelling.labels import Label
from interp_by_construction.scoring.calibration import Calibration, LineFit
from interp_by_construction.subject.families import d_mlp
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.nodes import AlignedNodes, shown_at
from interp_by_construction.subject.reading import activations_on

STRONG = 0.5
"""Share of a neuron's largest activation from which it counts as strongly active."""


class Scale(NamedTuple):
    """How large the activations of a layer are, on text that its alignment has not seen: the
    simulate split or, with simulate.simulator=exact, the first blocks of the align split."""

    line: Calibration
    """From the simulation to the activation times pole, for the labelled nodes."""
    nodes: NDArray[np.int64]
    """The labelled nodes, in the order of `line`."""
    poles: NDArray[np.int64]
    """Of all nodes, [node]. Without a label, the sign of the largest activation."""
    largest: NDArray[np.float32]
    """Largest activation times pole, of all nodes, [node]."""
    n_tokens: int
    """Tokens that were read."""


def read_scale(model: nn.Module, text: Simulated, aligned: AlignedNodes) -> Scale:
    """Reads the layer on `text`, whose simulations are those of the aligned nodes."""
    every = np.arange(d_mlp(model, aligned.layer))
    use = text.passage.is_text.reshape(-1)
    real = activations_on(model, text.passage, aligned.layer, every)[use]
    low, high = real.min(axis=0), real.max(axis=0)
    poles = np.where(-low > high, -1, 1)
    poles[aligned.nodes] = aligned.poles
    line = LineFit(len(aligned.nodes))
    line.update(text.on_text(), real[:, aligned.nodes] * aligned.poles)
    largest = np.where(poles > 0, high, -low)
    return Scale(line.result(), aligned.nodes, poles, largest, len(real))


class Named(NamedTuple):
    """The labelled neurons of a layer."""

    labels: Sequence[Label]
    scale: Scale


@dataclass(frozen=True)
class Firing:
    """A labelled neuron on a text. Activations are times its pole."""

    layer: int
    node: int
    label: str
    status: str
    strongest: int
    """Position of the token on which it is most active."""
    largest: float
    """Its largest activation on held-out text."""
    real: NDArray[np.float32]
    """Its activation on each token, [pos]."""
    simulated: NDArray[np.float32]
    """What its label alone predicts, in the scale of the activation, [pos]."""

    @property
    def share(self) -> float:
        """The activation on the strongest token, over the largest on held-out text."""
        return float(self.real[self.strongest]) / self.largest


@dataclass(frozen=True)
class Explanation:
    """The labelled neurons that are most active on a text."""

    tokens: list[str]
    firings: list[Firing]
    """Highest share first. Neurons that no token activates are left out."""
    layers: list[int]
    """The layers that were asked for."""
    n_labelled: int
    """Labelled neurons of these layers."""
    n_free_strong: int
    """Neurons without a label that reach half of their largest activation."""
    n_held_out: int
    """Tokens of held-out text that the largest activations are of."""

    @property
    def table(self) -> pd.DataFrame:
        """A row for each of `firings`: `layer`, `node`, `label`, `status`, `token` (the strongest
        one), `real` and `simulated` on that token, and `share`."""
        columns = ["layer", "node", "label", "status", "token", "real", "simulated", "share"]
        rows = [
            (
                each.layer,
                each.node,
                each.label,
                each.status,
                self.tokens[shown_at(self.tokens, each.strongest)],
                float(each.real[each.strongest]),
                float(each.simulated[each.strongest]),
                each.share,
            )
            for each in self.firings
        ]
        return pd.DataFrame(rows, columns=columns)


def explained(
    tokens: list[str],
    real: Mapping[int, NDArray[np.float32]],
    named: Mapping[int, Named],
    simulate: Callable[[Sequence[str]], NDArray[np.float32]],
    top: int,
) -> Explanation:
    """The `top` neurons with the highest shares.

    real: layer -> raw activations on the tokens, [pos, node]. simulate: labels -> their simulation
    of the tokens in its own scale, [pos, label]. Only labels that are shown are simulated.
    """
    found: list[tuple[float, int, Label]] = []
    n_free = 0
    for layer, (labels, scale) in named.items():
        shares = _shares(real[layer] * scale.poles, scale.largest)
        found += [(float(shares[label.node]), layer, label) for label in labels]
        n_free += int((np.delete(shares, scale.nodes) >= STRONG).sum())
    chosen = sorted((each for each in found if each[0] > 0), key=lambda each: -each[0])[:top]
    said = simulate([str(label.text) for _, _, label in chosen])
    return Explanation(
        tokens,
        [
            _firing(layer, label, named[layer].scale, real[layer], said[:, i])
            for i, (_, layer, label) in enumerate(chosen)
        ],
        list(named),
        len(found),
        n_free,
        min(each.scale.n_tokens for each in named.values()),
    )


def _shares(values: NDArray[np.float32], largest: NDArray[np.float32]) -> NDArray[np.float64]:
    """Strongest token over the largest activation, [node]; 0 for nodes that are never active.
    values: times poles, [pos, node]."""
    return np.divide(values.max(axis=0), largest, out=np.zeros(len(largest)), where=largest > 0)


def _firing(
    layer: int,
    label: Label,
    scale: Scale,
    real: NDArray[np.float32],
    said: NDArray[np.float32],
) -> Firing:
    """real: of the layer, [pos, node]; said: of the label, [pos]."""
    values = real[:, label.node] * label.pole
    column = int(np.flatnonzero(scale.nodes == label.node)[0])
    return Firing(
        layer=layer,
        node=label.node,
        label=str(label.text),
        status=label.status,
        strongest=int(values.argmax()),
        largest=float(scale.largest[label.node]),
        real=values,
        simulated=(scale.line.scale[column] * said + scale.line.offset[column]).astype(np.float32),
    )
