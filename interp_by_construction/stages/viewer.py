"""viewer: what a reader is shown of each node of one layer of the final model.

1. Text of the score split, as `score.final` reads it: what the head simulated, else what the
   labeler simulated exactly.
2. Real activations of every node of the layer, times its pole. Beside them, for aligned nodes, the
   simulation, brought to the scale of activations by one line per node that is fitted on other text
   (the simulate split; with simulate.simulator=exact, which simulates nothing of it, the align
   split).
3. Each excerpt is a window around the strongest token of a segment of `SEGMENT` tokens. Chosen are
   the strongest segments, a few from each quantile of segments, those where the simulation is
   highest, and those where the two differ most.
4. Circuit: direct path weights from labelled nodes of the aligned layer below, and to those of the
   one above (`subject.families`).
5. Output tokens along the direct path, for the nodes that the function stage has none for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import SimulateConfig
from interp_by_construction.corpus.parts import part_passage
from interp_by_construction.corpus.passage import Passage, spaced
from interp_by_construction.corpus.windows import window_around
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.labelling.labels import Label
from interp_by_construction.scoring.calibration import Calibration, LineFit
from interp_by_construction.simulators.exact import contrasted
from interp_by_construction.subject.interventions import Simulated
from interp_by_construction.subject.nodes import AlignedNodes
from interp_by_construction.subject.promoted import promoted_tokens
from interp_by_construction.subject.reading import activations_on

MAX_TOKENS = 8192
"""Tokens of the score split that excerpts are chosen from."""
SEGMENT, WINDOW, BEFORE = 32, 16, 11
"""Tokens of a segment, of an excerpt, and of the excerpt before its peak: the model reads from left
to right."""
N_TOP, N_TOP_FREE, N_BANDS, PER_BAND, N_OTHER = 4, 3, 5, 2, 3
N_EDGES = 8
"""Strongest labelled neighbours on either side."""
N_BINS = 40
CHUNK = 256
"""Nodes whose effect on the vocabulary is computed at once."""


class Neighbour(NamedTuple):
    """An aligned layer next to this one."""

    layer: int
    labels: Sequence[Label]


def run(
    model_dir: Path,
    corpus: Path,
    simulated_dir: Path,
    layer: int,
    cfg: SimulateConfig,
    below: Neighbour | None,
    above: Neighbour | None,
    known_promoted: Sequence[int],
    n_promoted: int,
    out: Path,
    device: Any,
) -> dict[str, Any]:
    """known_promoted: nodes whose output tokens another artifact holds.

    Writes `viewer.jsonl`, one record per node of the layer: `node`, `pole`, `largest` (of
    |activation| on the text), `excerpts` (each with `kind` top, quantile, simulated or differs,
    `band` of a quantile (1 is the weakest), `tokens`, `peak`, `real`, `simulated` (calibrated; null
    for a node without a label), `block` of the score split), `incoming` and `outgoing` ([node,
    weight], strongest first; positive: the one makes the other do more), `histogram` (counts of
    tokens in bins of equal width from `low` to `high`). And `promoted.jsonl`, as the function
    stage.
    """
    from safetensors.numpy import load_file

    from interp_by_construction.subject.families import d_mlp
    from interp_by_construction.subject.load import load_subject

    model = load_subject(model_dir).to(device)
    targets = load_file(simulated_dir / "targets.safetensors")
    aligned = AlignedNodes(layer, targets["nodes"], targets["poles"])
    text = _score_text(corpus, simulated_dir, cfg)
    calibrate = _calibration_text(corpus, simulated_dir, cfg, targets)
    line = _calibration(model, calibrate, aligned)
    every = np.arange(d_mlp(model, layer))
    real = activations_on(model, text.passage, layer, every)
    pole = np.where(-real.min(axis=0) > real.max(axis=0), -1, 1)
    pole[aligned.nodes] = aligned.poles
    real *= pole.astype(np.float32)
    use = text.passage.is_text.reshape(-1)
    said = (line.scale * text.values + line.offset).astype(np.float32).reshape(len(use), -1)
    column = {int(node): i for i, node in enumerate(aligned.nodes)}
    edges = _edges(model, layer, pole, below, above)
    records = (
        {
            "node": int(node),
            "pole": int(pole[node]),
            "largest": _short(float(np.abs(real[:, node]).max())),
        }
        | _histogram(real[use, node])
        | {
            "excerpts": _excerpts(
                text.passage, real[:, node], said[:, column[node]] if node in column else None
            )
        }
        | edges[node]
        for node in every.tolist()
    )
    write_rows(out / "viewer.jsonl", records)
    rest = np.setdiff1d(every, np.asarray(known_promoted, dtype=np.int64))
    promoted = (
        record
        for start in range(0, len(rest), CHUNK)
        for part in [rest[start : start + CHUNK]]
        for record in promoted_tokens(model, corpus, layer, part, pole[part], n_promoted, "final")
    )
    write_rows(out / "promoted.jsonl", promoted)
    return {
        "layer": layer,
        "n_nodes": len(every),
        "n_aligned": len(aligned.nodes),
        "n_tokens": int(use.sum()),
        "calibrated_on": calibrate.passage.source.name,
        "n_constant": int(line.constant.sum()),
        "n_negative": int(line.negative.sum()),
    }


def _score_text(corpus: Path, simulated_dir: Path, cfg: SimulateConfig) -> Simulated:
    """Evenly spaced excerpts of what `score.final` was measured on, at most `MAX_TOKENS`."""
    from safetensors.numpy import load_file

    simulated = load_file(simulated_dir / "simulated.safetensors")
    if cfg.simulator == "head":
        passage, values = part_passage(corpus, "head_score", cfg), simulated["head_score"]
    else:
        passage = part_passage(corpus, "score", cfg)
        values = contrasted(simulated["score"], simulated["score_reference"], cfg.contrast)
    n, length = passage.shape
    kept = np.unique(spaced(n, min(n, max(1, MAX_TOKENS // length))))
    return Simulated(passage, values.reshape(n, length, -1)).part(kept)


def _calibration_text(
    corpus: Path, simulated_dir: Path, cfg: SimulateConfig, targets: Mapping[str, NDArray]
) -> Simulated:
    """Text that the scale of the simulations is fitted on."""
    from safetensors.numpy import load_file

    simulated = load_file(simulated_dir / "simulated.safetensors")
    if cfg.simulator == "exact":
        n, length = targets["mask"].shape
        n = min(n, max(1, MAX_TOKENS // length))
        passage = Passage.of_split(corpus, "align", n_blocks=n, length=length, first=True)
        return Simulated(passage, targets["values"][:n])
    if cfg.simulator == "head":
        passage, values = part_passage(corpus, "calibrate", cfg), simulated["calibrate"]
    else:
        passage = part_passage(corpus, "fit", cfg)
        values = contrasted(simulated["fit"], simulated["fit_reference"], cfg.contrast)
    return Simulated(passage, values.reshape(*passage.shape, -1))


def _calibration(model: Any, text: Simulated, aligned: AlignedNodes) -> Calibration:
    fit, use = LineFit(len(aligned.nodes)), text.passage.is_text.reshape(-1)
    real = activations_on(model, text.passage, aligned.layer, aligned.nodes)
    fit.update(text.on_text(), real[use] * aligned.poles)
    return fit.result()


def _histogram(values: NDArray) -> dict[str, Any]:
    """values: [token]."""
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, bins=N_BINS, range=(low, high if high > low else low + 1.0))
    return {"histogram": counts.tolist(), "low": _short(low), "high": _short(high)}


def _excerpts(passage: Passage, real: NDArray, said: NDArray | None) -> list[dict[str, Any]]:
    """The excerpts of one node, each segment once; real, said: [token]."""
    real = real.reshape(passage.shape)
    said = None if said is None else said.reshape(passage.shape)
    found: list[dict[str, Any]] = []
    seen: set[tuple[int, int]] = set()
    for kind, band, row, position in _choices(passage, real, said):
        if (row, position // SEGMENT) not in seen:
            seen.add((row, position // SEGMENT))
            found.append({"kind": kind, "band": band, **_cut(passage, row, position, real, said)})
    return found


def _choices(
    passage: Passage, real: NDArray, said: NDArray | None
) -> Iterator[tuple[str, int | None, int, int]]:
    """(kind, band, row, position), the most telling first; real, said: [excerpt, pos]."""
    strongest = list(_peaks(passage, real))
    yield from (("top", None, *at) for at in strongest[: N_TOP if said is not None else N_TOP_FREE])
    if said is None:
        return
    for band in range(N_BANDS, 0, -1):
        low, high = (len(strongest) * (N_BANDS - b) // N_BANDS for b in (band, band - 1))
        places = (low + (high - low) * (i + 1) // (PER_BAND + 1) for i in range(PER_BAND))
        yield from (("quantile", band, *strongest[place]) for place in places if place < high)
    yield from (("simulated", None, *at) for at in list(_peaks(passage, said))[:N_OTHER])
    yield from (
        ("differs", None, *at) for at in list(_peaks(passage, np.abs(real - said)))[:N_OTHER]
    )


def _peaks(passage: Passage, values: NDArray) -> list[tuple[int, int]]:
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


def _cut(
    passage: Passage, row: int, position: int, real: NDArray, said: NDArray | None
) -> dict[str, Any]:
    at = window_around(position, WINDOW, 0, passage.length, BEFORE)
    return {
        "tokens": passage.tokens[row][at],
        "peak": position - at.start,
        "block": int(passage.blocks[row]),
        "real": _rounded(real[row, at]),
        "simulated": None if said is None else _rounded(said[row, at]),
    }


def _edges(
    model: Any, layer: int, pole: NDArray, below: Neighbour | None, above: Neighbour | None
) -> list[dict[str, Any]]:
    """Per node of the layer, its strongest labelled neighbours."""
    from interp_by_construction.subject.families import input_directions, output_directions

    edges: list[dict[str, Any]] = [{"incoming": [], "outgoing": []} for _ in pole]
    for name, other in (("incoming", below), ("outgoing", above)):
        named = (
            [label for label in other.labels if label.text is not None] if other is not None else []
        )
        if other is None or not named:
            continue
        ids, signs = [label.node for label in named], np.array([label.pole for label in named])
        if name == "incoming":
            weights = (
                input_directions(model, layer)[0] @ output_directions(model, other.layer)[ids].T
            )
        else:
            weights = (
                output_directions(model, layer) @ input_directions(model, other.layer)[0][ids].T
            )
        signed = weights.float().cpu().numpy() * pole[:, None] * signs
        order = np.argsort(-np.abs(signed), axis=1, kind="stable")[:, :N_EDGES]
        for node, chosen in enumerate(order):
            edges[node][name] = [[ids[i], _short(float(signed[node, i]))] for i in chosen]
    return edges


def _rounded(values: NDArray) -> list[float]:
    return [_short(value) for value in values.tolist()]


def _short(value: float) -> float:
    return float(f"{value:.4g}")
