"""evaluate: held-out interpretability and held-out performance, with everything they have to be
compared with (invariants 6, 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import EvaluateConfig, SimulateConfig
from interp_by_construction.corpus.parts import part_passage
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.rows import read_rows, write_rows
from interp_by_construction.labelling.labels import Label
from interp_by_construction.scoring import columnwise_correlation, mean_ci95

if TYPE_CHECKING:
    from interp_by_construction.training.targets import Target

N_SHUFFLES = 20


def losses(
    model_dir: Path, corpus: Path, cfg: EvaluateConfig, out: Path, device: Any
) -> dict[str, Any]:
    """LM loss of a saved model on the test split, as `model_losses`."""
    from interp_by_construction.subject.load import load_subject

    return model_losses(load_subject(model_dir).to(device), corpus, cfg, out)


def model_losses(model: Any, corpus: Path, cfg: EvaluateConfig, out: Path) -> dict[str, Any]:
    """LM loss of one model on the test split. Writes `losses.safetensors`: per document the summed
    loss in nats and its tokens."""
    from safetensors.numpy import save_file

    from interp_by_construction.subject.losses import document_losses

    # Evenly spaced, so that a part of the split still covers many documents: the interval is over
    # documents.
    passage = Passage.of_split(corpus, "test", n_blocks=cfg.max_test_blocks)
    losses = document_losses(model, passage, {}, cfg.batch_size, "test loss")
    nats = losses.nats["none"]
    save_file(
        {"document": losses.document, "nats": nats, "tokens": losses.tokens},
        out / "losses.safetensors",
    )
    n_tokens = int(losses.tokens.sum())
    return {
        "loss": sum(nats.tolist()) / n_tokens,
        "n_tokens": n_tokens,
        "n_documents": len(losses.document),
    }


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
    labeler: str,
    encoder: str,
    target: Target = "label",
) -> dict[str, Any]:
    """Simulation scores of one layer's aligned nodes. models: moment (before, after, final) ->
    model directory.

    Writes `scores.safetensors`: r per node [node] for every kind of score, NaN where undefined. The
    metrics hold the `S` records of the summary. The main scores use the simulator that made the
    targets; targets distilled from exact simulations are scored with the exact simulation, which
    stands beside every other (`exact`). labeler, encoder: identities of the two models. target:
    what the nodes were trained towards. All scores are against their own labels whatever it was;
    with `shuffled`, `trained` and `trained_before` are against the labels trained towards. Random
    targets say nothing about text that was not trained on.
    """
    from safetensors.numpy import load_file, save_file

    from interp_by_construction.simulators.exact import contrasted
    from interp_by_construction.training.targets import other_nodes

    targets = load_file(simulated_dir / "targets.safetensors")
    simulated = load_file(simulated_dir / "simulated.safetensors")
    nodes, poles = targets["nodes"], targets["poles"]
    text = {"exact": part_passage(corpus, "score", simulate)}
    if simulate.simulator == "head":
        text["own"] = part_passage(corpus, "head_score", simulate)
    read = _activations(models, text, layer, nodes, device)
    real = {moment: values * poles for moment, values in read["exact"].items()}
    exact_use = text["exact"].is_text.reshape(-1)
    exact = contrasted(simulated["score"], simulated["score_reference"], simulate.contrast)[
        exact_use
    ]
    raw, dense = simulated["score"][exact_use], simulated["score_dense"][exact_use]
    per_node = {
        "exact": columnwise_correlation(real["final"], exact),
        "exact_before": columnwise_correlation(real["before"], exact),
        "exact_shuffled": _shuffled(real["final"], exact, seed),
        "final_raw": columnwise_correlation(real["final"], raw),
        "dense_before": columnwise_correlation(real["before"], dense),
        "dense_final": columnwise_correlation(real["final"], dense),
    }
    own, own_text = exact, text["exact"]
    if simulate.simulator == "head":
        own_text = text["own"]
        own = simulated["head_score"][own_text.is_text.reshape(-1)]
        real = {moment: values * poles for moment, values in read["own"].items()}
    held_out = own_text.held_out[own_text.is_text]
    per_node |= {
        "before": columnwise_correlation(real["before"], own),
        "after": columnwise_correlation(real["after"], own),
        "final": columnwise_correlation(real["final"], own),
        "shuffled": _shuffled(real["final"], own, seed),
        "final_held_out": columnwise_correlation(real["final"][held_out], own[held_out]),
    }
    if target == "shuffled":
        trained = own[:, other_nodes(len(nodes), seed, layer)]
        per_node |= {
            "trained": columnwise_correlation(real["final"], trained),
            "trained_before": columnwise_correlation(real["before"], trained),
        }
    save_file(per_node | {"nodes": nodes, "poles": poles}, out / "scores.safetensors")
    contrast = "exact-contrast" if simulate.contrast else "exact"
    names = dict.fromkeys(("exact", "exact_before", "exact_shuffled"), contrast) | {
        "final_raw": "exact"
    }
    names |= dict.fromkeys(
        ("dense_before", "dense_final"),
        contrast if simulate.simulator == "exact" else simulate.simulator,
    )
    own_name = "head" if simulate.simulator == "head" else contrast
    records = {}
    for kind, values in per_node.items():
        simulator = names.get(kind, own_name)
        records[kind] = summary(
            values, simulator, self_judged(simulator, labeler, encoder), cfg.n_bootstrap, seed
        )
    return {
        "n_tokens": len(own),
        "n_exact_tokens": int(exact_use.sum()),
        "n_held_out_tokens": int(held_out.sum()),
        "score": records,
    }


def _activations(
    models: dict[str, Path],
    passages: dict[str, Passage],
    layer: int,
    nodes: NDArray[np.int64],
    device: Any,
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Name of the passage -> moment -> activations without poles where there is text, [token,
    node]. One model is in memory at a time."""
    from interp_by_construction.subject.load import load_subject
    from interp_by_construction.subject.reading import activations_on

    read: dict[str, dict[str, NDArray[np.float32]]] = {name: {} for name in passages}
    for moment, path in models.items():
        model = load_subject(path).to(device)
        for name, passage in passages.items():
            values = activations_on(model, passage, layer, nodes)
            read[name][moment] = values[passage.is_text.reshape(-1)]
    return read


def self_judged(simulator: str, labeler: str, encoder: str) -> bool:
    """Whether the model that wrote the labels also simulated them. labeler, encoder: model
    identities.

    Exact simulation is the labeler's own, and ridge is distilled from it whatever its encoder. A
    head was trained on lexical data: only the encoder it reads can be the labeler.
    """
    return simulator != "head" or labeler == encoder


def truth(
    models: dict[str, Path],
    corpus: Path,
    labels: Sequence[Label],
    layer: int,
    cfg: EvaluateConfig,
    out: Path,
    device: Any,
) -> dict[str, Any]:
    """Aligned nodes against the lexicon of the stories corpus, on the score split. models: before
    and final.

    Writes `truth.jsonl`, one record per aligned node, null where undefined; the metrics are those
    of `scoring.truth`. `wider` holds the same for the nodes whose label names no concept, against
    the rules of `scoring.rule_truth`.
    """
    from interp_by_construction.scoring.truth import membership, score_layer, summarise

    named = [label for label in labels if label.text is not None]
    nodes, poles = (
        np.array([getattr(label, key) for label in named], dtype=np.int64)
        for key in ("node", "pole")
    )
    texts = [str(label.text) for label in named]
    passage = Passage.of_split(corpus, "score", n_tokens=cfg.max_truth_tokens)
    use, held_out = passage.is_text.reshape(-1), passage.held_out[passage.is_text]
    member = membership(passage.tokens)[use]
    read = _activations(
        {moment: models[moment] for moment in ("before", "final")},
        {"truth": passage},
        layer,
        nodes,
        device,
    )
    real = {moment: values * poles for moment, values in read["truth"].items()}
    final, before = (score_layer(real[moment], member, texts) for moment in ("final", "before"))
    rare = score_layer(real["final"][held_out], member[held_out], texts)
    columns = {
        "r": final.r,
        "auc": final.auc,
        "r_shuffled": final.shuffled,
        "r_before": before.r,
        "r_held_out": rare.r,
    }
    wider, of_rules = _wider_truth(real, passage.tokens, use, held_out, texts)
    write_rows(
        out / "truth.jsonl",
        (
            {"node": label.node, "concept": final.concepts[i], "best": final.best[i]}
            | {name: _or_null(values[i]) for name, values in columns.items()}
            | of_rules.get(i, {"rule": None, "rule_r": None, "rule_auc": None})
            for i, label in enumerate(named)
        ),
    )
    lexical = summarise(final, before, rare)
    return lexical | {
        "wider": wider,
        "n_covered": lexical["n"] + wider["n"],
        "n_tokens": int(use.sum()),
        "n_held_out_tokens": int(held_out.sum()),
    }


def _wider_truth(
    real: dict[str, NDArray],
    excerpts: list[list[str]],
    use: NDArray[np.bool_],
    held_out: NDArray[np.bool_],
    labels: Sequence[str],
) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """The record of the nodes whose label names no concept, and what `truth.jsonl` says of each, by
    its place in `labels`."""
    from interp_by_construction.scoring.rule_truth import candidates, read_target, target_mask
    from interp_by_construction.scoring.truth import nearest_concept, score_against, summarise

    rest = [i for i, label in enumerate(labels) if nearest_concept(label) is None]
    read = [read_target(labels[i]) for i in rest]
    targets = candidates([target for target in read if target is not None])
    names, own = (
        [target.name for target in targets],
        [None if target is None else target.name for target in read],
    )
    member = target_mask(excerpts, targets)[use]
    final, before = (
        score_against(real[moment][:, rest], member, names, own) for moment in ("final", "before")
    )
    rare = score_against(real["final"][held_out][:, rest], member[held_out], names, own)
    record = summarise(final, before, rare)
    # Here it is a rule that the label matches none of.
    record = {"n_no_rule" if key == "n_no_concept" else key: value for key, value in record.items()}
    per_node = {
        i: {
            "rule": own[place],
            "rule_r": _or_null(final.r[place]),
            "rule_auc": _or_null(final.auc[place]),
        }
        for place, i in enumerate(rest)
    }
    return record, per_node


def read_truth(scores_dir: Path) -> dict[int, dict[str, Any]]:
    """Node -> its record in `truth.jsonl`; empty where the corpus has no ground truth."""
    file = scores_dir / "truth.jsonl"
    return {record["node"]: record for record in read_rows(file)} if file.is_file() else {}


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def node_table(scores_dir: Path, labels: Sequence[Label]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows for the logger: one row per aligned node, None where a score is
    undefined."""
    from safetensors.numpy import load_file

    scores = load_file(scores_dir / "scores.safetensors")
    text = {label.node: label.text for label in labels}
    kinds = ("before", "after", "final", "shuffled")
    rows: list[list[Any]] = []
    for i, node in enumerate(scores["nodes"].tolist()):
        values = (float(scores[kind][i]) for kind in kinds)
        rows.append([node, text[node], *(None if math.isnan(value) else value for value in values)])
    return ["node", "label", *kinds], rows


def summary(
    values: NDArray, simulator: str, self_judged: bool, n_bootstrap: int, seed: int
) -> dict[str, Any]:
    """An `S` record: mean over the defined nodes with its interval. `mean` is null where no node is
    defined."""
    defined = values[~np.isnan(values)]
    return {
        "mean": float(defined.mean()) if len(defined) else None,
        "ci95": list(mean_ci95(defined, n_bootstrap, seed)) if len(defined) else None,
        "n": len(defined),
        "n_undefined": int(len(values) - len(defined)),
        "simulator": simulator,
        "self_judged": self_judged,
    }


def _shuffled(real: NDArray, simulated: NDArray, seed: int) -> NDArray[np.float64]:
    """Mean r of each node with the simulations of other nodes' labels, [node]. NaN where none is
    defined."""
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
