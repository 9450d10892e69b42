"""evaluate: held-out interpretability and held-out performance, with everything they have to be compared with (invariants 6, 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import EvaluateConfig, SimulateConfig
from interp_by_construction.progress import track
from interp_by_construction.records import Label
from interp_by_construction.scoring import columnwise_correlation, mean_ci95

VERSION = 1
N_SHUFFLES = 20


def losses(model_dir: Path, corpus: Path, cfg: EvaluateConfig, out: Path, device: Any) -> dict[str, Any]:
    """LM loss of one model on the test split. Writes `losses.safetensors`: per document the summed loss in nats and its tokens."""
    import torch
    from safetensors.numpy import save_file

    from interp_by_construction.corpus import load_blocks
    from interp_by_construction.subject.load import load_subject

    model = load_subject(model_dir).to(device)
    blocks = load_blocks(corpus, "test")
    n_blocks = min(len(blocks), cfg.max_test_blocks or len(blocks))
    total: dict[int, float] = {}
    count: dict[int, int] = {}
    for start in track(range(0, n_blocks, cfg.batch_size), "test loss"):
        rows = blocks[start : min(start + cfg.batch_size, n_blocks)]
        ids = torch.as_tensor(np.asarray(rows["input_ids"]), device=device)
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
            nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        documents = np.asarray(rows["document"])[:, 1:].reshape(-1)
        for document, value in zip(documents.tolist(), nats.double().cpu().tolist(), strict=True):
            total[document] = total.get(document, 0.0) + value
            count[document] = count.get(document, 0) + 1
    order = sorted(total)
    save_file(
        {
            "document": np.array(order, dtype=np.int64),
            "nats": np.array([total[d] for d in order], dtype=np.float64),
            "tokens": np.array([count[d] for d in order], dtype=np.int64),
        },
        out / "losses.safetensors",
    )
    return {"loss": sum(total.values()) / sum(count.values()), "n_tokens": sum(count.values()), "n_documents": len(order)}


def scores(
    models: dict[str, Path],
    corpus: Path,
    simulated_dir: Path,
    layer: int,
    cfg: EvaluateConfig,
    simulate: SimulateConfig,
    seed: int,
    out: Path,
    device: Any,
) -> dict[str, Any]:
    """Simulation scores of one layer's aligned nodes. models: moment (before, after, final) -> model directory.

    Writes `scores.safetensors`: r per node [node] for every kind of score, NaN where undefined. The metrics hold the
    `S` records of the summary; targets distilled from exact simulations are scored with the exact simulation.
    """
    from safetensors.numpy import load_file, save_file

    from interp_by_construction.stages.simulate import choose_excerpts, contrasted

    targets = load_file(simulated_dir / "targets.safetensors")
    simulated = load_file(simulated_dir / "simulated.safetensors")
    nodes, poles = targets["nodes"], targets["poles"]
    excerpts = choose_excerpts(corpus, "score", simulate)
    use = excerpts.is_text.reshape(-1)
    held_out = excerpts.held_out.reshape(-1)[use]
    exact = contrasted(simulated["score"], simulated["score_reference"], simulate.contrast)[use]
    raw, dense = simulated["score"][use], simulated["score_dense"][use]
    real = {
        moment: _activations(path, corpus, excerpts.blocks, excerpts.is_text.shape[1], layer, nodes, device)[use] * poles
        for moment, path in models.items()
    }
    per_node = {
        "before": columnwise_correlation(real["before"], exact),
        "after": columnwise_correlation(real["after"], exact),
        "final": columnwise_correlation(real["final"], exact),
        "shuffled": _shuffled(real["final"], exact, seed),
        "final_raw": columnwise_correlation(real["final"], raw),
        "dense_before": columnwise_correlation(real["before"], dense),
        "dense_final": columnwise_correlation(real["final"], dense),
        "final_held_out": columnwise_correlation(real["final"][held_out], exact[held_out]),
    }
    per_node["exact"] = per_node["final"]
    save_file(per_node | {"nodes": nodes, "poles": poles}, out / "scores.safetensors")
    names = {"final_raw": "exact", "dense_before": simulate.simulator, "dense_final": simulate.simulator}
    contrast = "exact-contrast" if simulate.contrast else "exact"
    return {
        "n_tokens": int(use.sum()),
        "n_held_out_tokens": int(held_out.sum()),
        "score": {name: summary(values, names.get(name, contrast), cfg.n_bootstrap, seed) for name, values in per_node.items()},
    }


def node_table(scores_dir: Path, labels: Sequence[Label]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows for the logger: one row per aligned node, None where a score is undefined."""
    from safetensors.numpy import load_file

    scores = load_file(scores_dir / "scores.safetensors")
    text = {label.node: label.text for label in labels}
    kinds = ("before", "after", "final", "shuffled")
    rows: list[list[Any]] = []
    for i, node in enumerate(scores["nodes"].tolist()):
        values = (float(scores[kind][i]) for kind in kinds)
        rows.append([node, text[node], *(None if math.isnan(value) else value for value in values)])
    return ["node", "label", *kinds], rows


def summary(values: NDArray, simulator: str, n_bootstrap: int, seed: int) -> dict[str, Any]:
    """An `S` record: mean over the defined nodes with its interval. `mean` is null where no node is defined."""
    defined = values[~np.isnan(values)]
    return {
        "mean": float(defined.mean()) if len(defined) else None,
        "ci95": list(mean_ci95(defined, n_bootstrap, seed)) if len(defined) else None,
        "n": len(defined),
        "n_undefined": int(len(values) - len(defined)),
        "simulator": simulator,
        # The labeler both proposed the labels and simulated them.
        "self_judged": True,
    }


def _shuffled(real: NDArray, simulated: NDArray, seed: int) -> NDArray[np.float64]:
    """Mean r of each node with the simulations of other nodes' labels, [node]. NaN where none is defined."""
    n = real.shape[1]
    if n < 2:
        return np.full(n, math.nan)
    rng = np.random.default_rng(seed)
    shifts = rng.choice(np.arange(1, n), size=min(N_SHUFFLES, n - 1), replace=False)
    order = rng.permutation(n)
    results = np.empty((len(shifts), n))
    for i, shift in enumerate(shifts):
        other = np.empty(n, dtype=np.int64)
        other[order] = np.roll(order, int(shift))
        results[i] = columnwise_correlation(real, simulated[:, other])
    defined = ~np.isnan(results)
    count = defined.sum(axis=0)
    total = np.where(defined, results, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(n, math.nan), where=count > 0)


def _activations(
    model_dir: Path, corpus: Path, blocks: NDArray[np.int64], length: int, layer: int, nodes: NDArray, device: Any
) -> NDArray[np.float64]:
    """Activations [token, node] of some nodes on the first `length` tokens of some blocks of the score split."""
    import torch

    from interp_by_construction.corpus import load_blocks
    from interp_by_construction.subject.hooks import activations
    from interp_by_construction.subject.load import load_subject

    model = load_subject(model_dir).to(device)
    ids = torch.as_tensor(np.asarray(load_blocks(corpus, "score")[blocks]["input_ids"]), device=device)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(ids), 16):
            values = activations(model, layer, ids[start : start + 16])[:, :length, torch.as_tensor(nodes, device=device)]
            rows.append(values.flatten(0, 1).double().cpu().numpy())
    return np.concatenate(rows)
