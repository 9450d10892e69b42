"""simulate: what a node with this label should output on every token, from label and text alone
(invariant 5).

1. The labeler simulates each distinct label exactly on the same excerpts of the score split,
   whatever the simulator: the exact simulation stands beside every other score.
2. The simulator (`simulators`) makes the targets on the align split, and what else it simulates.
3. How good its targets are: their r with the exact simulation on held-out text (fidelity). No
   fidelity should be expected to beat the exact simulation's r with itself (reliability), where the
   simulator measures that.

Nothing here reads an activation of the subject.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.tensors import create_safetensors
from interp_by_construction.labelling.labels import Label
from interp_by_construction.simulators import cost
from interp_by_construction.simulators.base import Models, Simulator, Texts
from interp_by_construction.simulators.exact import REFERENCE_LABELS, plan, simulate_raw
from interp_by_construction.stats.correlation import columnwise_correlation, mean_defined


def run(
    texts: Texts, labels: Sequence[Label], simulator: Simulator, models: Models, out: Path
) -> dict[str, Any]:
    """Simulates the labelled nodes of a layer. Writes `simulated.safetensors` and
    `targets.safetensors`.

    simulated: `score` raw exact simulation of the score split, [token, label], and
    `score_reference` its mean over the reference labels, [token]; `score_dense`, what the simulator
    that makes the targets says on the same tokens; what it was fitted on and what it simulates
    beside. targets: `values` float16 [block, pos, node], `mask` bool [block, pos], `nodes` and
    `poles` int64 [node].
    """
    from safetensors.numpy import save_file

    named = [label for label in labels if label.text is not None]
    words = [str(label.text) for label in named]
    score = texts.passage("score")
    raw = simulate_raw(models.labeler(), words, score.tokens, "simulate score")
    exact = raw.contrasted(texts.cfg.contrast)
    fitted = simulator.fit(words, texts, models)
    values, start = _create_targets(texts, named, out), 0
    for piece in texts.simulated("align", fitted.simulation):
        values[start : start + len(piece)] = piece
        start += len(piece)
    simulated = {"score": raw.values, "score_reference": raw.reference, **fitted.saved}
    for part in simulator.simulated_parts:
        simulated[part] = np.concatenate(list(texts.simulated(part, fitted.simulation)))
    metrics = {"n_labels": len(words)} | fitted.metrics
    if simulator.is_exact:
        simulated["score_dense"] = exact
    else:
        dense = np.concatenate(list(texts.simulated("score", fitted.simulation)))
        simulated["score_dense"] = dense
        metrics |= _fidelity(exact, dense, score, metrics.get("reliability"))
        metrics["cost"] = _cost(words, score, texts, models)
    save_file(
        {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in simulated.items()},
        out / "simulated.safetensors",
    )
    return metrics


def _create_targets(texts: Texts, named: Sequence[Label], out: Path) -> NDArray[np.float16]:
    """`targets.safetensors` with all but the values, which are returned for writing as float16
    [token, node]."""
    passage = texts.passage("align")
    n_blocks, length = passage.shape
    tensors = create_safetensors(
        out / "targets.safetensors",
        {
            "values": (np.float16, (n_blocks, length, len(named))),
            "mask": (np.bool_, (n_blocks, length)),
            "nodes": (np.int64, (len(named),)),
            "poles": (np.int64, (len(named),)),
        },
    )
    tensors["nodes"][:] = [label.node for label in named]
    tensors["poles"][:] = [label.pole for label in named]
    start = 0
    for each in passage.slices():
        tensors["mask"][start : start + len(each)] = each.is_text
        start += len(each)
    return tensors["values"].reshape(n_blocks * length, len(named))


def _fidelity(
    exact: NDArray, dense: NDArray, score: Passage, reliability: float | None
) -> dict[str, Any]:
    """How well the simulator of the targets predicts the exact simulation on the score split, which
    it has not seen; exact, dense: [token, label]."""
    use = score.is_text.reshape(-1)
    held_out = columnwise_correlation(exact[use], dense[use])
    fidelity = mean_defined(held_out)
    share = None
    if fidelity is not None and reliability is not None and reliability > 0:
        share = fidelity / reliability
    return {
        "fidelity": fidelity,
        "n_fidelity_undefined": int(np.isnan(held_out).sum()),
        "fidelity_over_reliability": share,
    }


def _cost(
    words: Sequence[str], score: Passage, texts: Texts, models: Models
) -> dict[str, Any] | None:
    """Cost of one million node-tokens, exact and dense, for this number of nodes; None without
    labels and without an encoder."""
    rows, labeler = texts.rows("score"), models.labeler()
    if not words or rows is None or texts.encoded is None:
        return None
    references = REFERENCE_LABELS if texts.cfg.contrast else ()
    packing = plan(labeler, [*words, *references], score.tokens)
    size = json.loads((texts.encoded / "encoder.json").read_text())
    per_node_token = size["tokens_per_subject_token"] / len(words)
    return cost.per_million(
        packing.n_labeler_tokens / (packing.n_tokens * len(words)),
        cost.labeler_multiply_adds(labeler.cfg.model),
        per_node_token,
        # Beside the encoder's share: one product per number in a row.
        per_node_token * size["multiply_adds_per_token"] + rows.shape[1],
    )
