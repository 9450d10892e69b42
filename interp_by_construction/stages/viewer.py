"""viewer: what a reader is shown of each node of one layer of the final model.

1. The text is that of the score split which `score.final` reads.
2. Shown are the activations of every node of the layer, times its pole, and for aligned nodes the
   simulation. A line per node brings the simulation to the scale of activations. It is fitted on
   other text: the simulate split, or, with simulate.simulator=exact, the align split.
3. Each excerpt is a window around the strongest token of a segment of `SEGMENT` tokens. Chosen are
   the strongest segments, a few from each quantile of segments, those where the simulation is
   highest, and those where the two differ most.
4. Circuit: direct path weights from labelled nodes of the aligned layer below, and to those of the
   one above (`subject.families`).
5. Output tokens along the direct path, for the nodes that the function stage has none for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.passage import Passage, batches, spaced
from interp_by_construction.corpus.windows import window_around
from interp_by_construction.engine.records import Record
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.labelling.labels import read_labels
from interp_by_construction.scoring.calibration import Calibration, LineFit
from interp_by_construction.scoring.simulated import SimulatedLayer
from interp_by_construction.stages import LayerMeasurement, load_model
from interp_by_construction.subject.direct_path import promoted_tokens
from interp_by_construction.subject.families import d_mlp, input_directions, output_directions
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.nodes import VIEWER_VERSION, AlignedNodes, read_promoted
from interp_by_construction.subject.reading import activations_on

EDGES = {"below": "incoming", "above": "outgoing"}
"""Where the neighbour is -> what its edges are called."""
MAX_TOKENS = 8192
"""Tokens of the score split that excerpts are chosen from."""
SEGMENT, WINDOW, BEFORE = 32, 16, 11
"""Tokens of a segment, of an excerpt, and of the excerpt before its peak."""
N_TOP, N_TOP_FREE, N_BANDS, PER_BAND, N_OTHER = 4, 3, 5, 2, 3
N_EDGES = 8
"""Strongest labelled neighbours on either side."""
N_BINS = 40
CHUNK = 256
"""Nodes whose effect on the vocabulary is computed at once."""


@dataclass(frozen=True)
class ViewerRecord(Record):
    """How much was read."""

    layer: int
    n_nodes: int
    n_aligned: int
    n_tokens: int
    calibrated_on: str
    """Split."""
    n_constant: int
    n_negative: int


@dataclass(frozen=True)
class Viewer(LayerMeasurement[ViewerRecord]):
    """Writes `viewer.jsonl`, one record per node of the layer: `node`, `pole`, `largest` (of
    |activation| on the text), `excerpts` (each with `kind` top, quantile, simulated or differs,
    `band` of a quantile (1 is the weakest), `tokens`, `peak`, `real`, `simulated` (calibrated; null
    for a node without a label), `block` of the score split), `incoming` and `outgoing` ([node,
    weight], strongest first; positive: the one makes the other do more), `histogram` (counts of
    tokens in bins of equal width from `low` to `high`). And `promoted.jsonl`, as the function
    stage, for the nodes that are not in that.
    """

    name = "viewer"
    version = VIEWER_VERSION
    record = ViewerRecord
    says = "picks the excerpts that the report shows"

    model: Stage[Any]
    function: Stage[Any] | None
    neighbours: Mapping[str, Stage[Any]]
    """`below` and `above`: labels of the aligned layers next to this one."""
    neighbour_layers: Mapping[str, int]
    """What layers these are."""
    n_promoted: int

    def compute(self, job: Job) -> ViewerRecord:
        model, simulated = load_model(job, self.model), self.simulated(job)
        aligned = simulated.aligned
        text = self._score_text(simulated)
        calibrate = simulated.calibration_text(self.simulator.calibration_part)
        line = _calibration(model, calibrate, aligned)
        every = np.arange(d_mlp(model, self.layer))
        real = activations_on(model, text.passage, self.layer, every)
        pole = np.where(-real.min(axis=0) > real.max(axis=0), -1, 1)
        pole[aligned.nodes] = aligned.poles
        real *= pole.astype(np.float32)
        said = (line.scale * text.values + line.offset).astype(np.float32)
        said = said.reshape(len(real), -1)
        edges = self._edges(job, model, pole)
        write_rows(job.out / "viewer.jsonl", _nodes(text.passage, real, said, aligned, pole, edges))
        corpus = job.path(self.corpus)
        known = [] if self.function is None else list(read_promoted(job.path(self.function)))
        rest = np.setdiff1d(every, np.asarray(known, dtype=np.int64))
        promoted = (
            {"moment": "final", **record}
            for at in batches(len(rest), CHUNK)
            for record in promoted_tokens(
                model, corpus, self.layer, rest[at], pole[rest[at]], self.n_promoted
            )
        )
        write_rows(job.out / "promoted.jsonl", promoted)
        return ViewerRecord(
            self.layer,
            len(every),
            len(aligned.nodes),
            int(text.passage.is_text.sum()),
            calibrate.passage.source.name,
            int(line.constant.sum()),
            int(line.negative.sum()),
        )

    def _score_text(self, simulated: SimulatedLayer) -> Simulated:
        """Evenly spaced excerpts of what `score.final` was measured on, at most `MAX_TOKENS`."""
        text = simulated.part(self.simulator.scored_part)
        n, length = text.passage.shape
        return text.part(np.unique(spaced(n, min(n, max(1, MAX_TOKENS // length)))))

    def _edges(self, job: Job, model: Any, pole: NDArray[Any]) -> list[dict[str, Any]]:
        """Per node of the layer, its strongest labelled neighbours."""
        edges: list[dict[str, Any]] = [{"incoming": [], "outgoing": []} for _ in pole]
        for side, stage in self.neighbours.items():
            named = [each for each in read_labels(job.path(stage)) if each.text is not None]
            if not named:
                continue
            other, name = self.neighbour_layers[side], EDGES[side]
            ids, signs = [label.node for label in named], np.array([label.pole for label in named])
            here = (input_directions(model, self.layer)[0], output_directions(model, self.layer))
            there = (input_directions(model, other)[0], output_directions(model, other))
            weights = here[0] @ there[1][ids].T if side == "below" else here[1] @ there[0][ids].T
            signed = weights.float().cpu().numpy() * pole[:, None] * signs
            order = np.argsort(-np.abs(signed), axis=1, kind="stable")[:, :N_EDGES]
            for node, chosen in enumerate(order):
                edges[node][name] = [[ids[i], _short(float(signed[node, i]))] for i in chosen]
        return edges


def _nodes(
    passage: Passage,
    real: NDArray[Any],
    said: NDArray[Any],
    aligned: AlignedNodes,
    pole: NDArray[Any],
    edges: Sequence[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """One record per node; real: [token, node]; said: [token, aligned node]."""
    use = passage.is_text.reshape(-1)
    column = {int(node): i for i, node in enumerate(aligned.nodes)}
    for node in range(real.shape[1]):
        values = real[:, node]
        simulated = said[:, column[node]] if node in column else None
        yield {
            "node": node,
            "pole": int(pole[node]),
            "largest": _short(float(np.abs(values).max())),
            **_histogram(values[use]),
            "excerpts": _excerpts(passage, values, simulated),
            **edges[node],
        }


def _calibration(model: Any, text: Simulated, aligned: AlignedNodes) -> Calibration:
    fit, use = LineFit(len(aligned.nodes)), text.passage.is_text.reshape(-1)
    real = activations_on(model, text.passage, aligned.layer, aligned.nodes)
    fit.update(text.on_text(), real[use] * aligned.poles)
    return fit.result()


def _histogram(values: NDArray[Any]) -> dict[str, Any]:
    """values: [token]."""
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, bins=N_BINS, range=(low, high if high > low else low + 1.0))
    return {"histogram": counts.tolist(), "low": _short(low), "high": _short(high)}


def _excerpts(
    passage: Passage, real: NDArray[Any], said: NDArray[Any] | None
) -> list[dict[str, Any]]:
    """The excerpts of one node, each segment once; real, said: [token]."""
    real = real.reshape(passage.shape)
    said = None if said is None else said.reshape(passage.shape)
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for kind, band, row, position in _choices(passage, real, said):
        segment = row, position // SEGMENT
        if segment not in found:
            at = window_around(position, WINDOW, passage.n_begin, passage.length, BEFORE)
            found[segment] = {
                "kind": kind,
                "band": band,
                "tokens": passage.tokens[row][at],
                "peak": position - at.start,
                "block": int(passage.blocks[row]),
                "real": _rounded(real[row, at]),
                "simulated": None if said is None else _rounded(said[row, at]),
            }
    return list(found.values())


def _choices(
    passage: Passage, real: NDArray[Any], said: NDArray[Any] | None
) -> Iterator[tuple[str, int | None, int, int]]:
    """(kind, band, row, position), the most telling first; real, said: [excerpt, pos]."""
    strongest = _peaks(passage, real)
    yield from (("top", None, *at) for at in strongest[: N_TOP if said is not None else N_TOP_FREE])
    if said is None:
        return
    for band in range(N_BANDS, 0, -1):
        low, high = (len(strongest) * (N_BANDS - b) // N_BANDS for b in (band, band - 1))
        places = (low + (high - low) * (i + 1) // (PER_BAND + 1) for i in range(PER_BAND))
        yield from (("quantile", band, *strongest[place]) for place in places if place < high)
    yield from (("simulated", None, *at) for at in _peaks(passage, said)[:N_OTHER])
    yield from (("differs", None, *at) for at in _peaks(passage, np.abs(real - said))[:N_OTHER])


def _peaks(passage: Passage, values: NDArray[Any]) -> list[tuple[int, int]]:
    """(row, position) of the largest value of every segment, the largest first."""
    values = np.where(passage.is_text, values, -np.inf)
    n, length = values.shape
    n_segments = -(-length // SEGMENT)
    padded = np.full((n, n_segments * SEGMENT), -np.inf, values.dtype)
    padded[:, :length] = values
    parts = padded.reshape(n * n_segments, SEGMENT)
    position, peak = parts.argmax(axis=1), parts.max(axis=1)
    order = np.argsort(-peak, kind="stable")
    order = order[np.isfinite(peak[order])]
    return [(int(i) // n_segments, int(i) % n_segments * SEGMENT + int(position[i])) for i in order]


def _rounded(values: NDArray[Any]) -> list[float]:
    return [_short(value) for value in values.tolist()]


def _short(value: float) -> float:
    return float(f"{value:.4g}")
