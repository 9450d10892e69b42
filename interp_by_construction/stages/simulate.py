"""simulate: what a node with this label should output on every token, from label and text alone
(invariant 5).

1. The labeler simulates each distinct label exactly on the same excerpts of the score split, and,
   where something is distilled from it, of the simulate split (`fit`).
2. Contrast: the mean over the fixed `REFERENCE_LABELS` on the same token is subtracted.
3. Targets on the align split. simulator=ridge distils `fit` into a ridge regression on the
   encoder's hidden states, one column per label. simulator=head applies a head that was trained
   beforehand: it needs neither `fit` nor contrast, since it was trained to tell labels apart.
   simulator=exact simulates the align split token by token.
4. How good a distillate is: its r with the exact simulation on held-out text (fidelity) beside the
   exact simulation's r with itself under other few-shot examples (reliability) and in another order
   of the excerpts in their prompts (reliability_order), which no distillate should be expected to
   beat.

Nothing here reads an activation of the subject.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import SimulateConfig
from interp_by_construction.corpus.excerpts import (
    Excerpts,
    Part,
    choose_excerpts,
    chosen_blocks,
    excerpt_slices,
)
from interp_by_construction.engine.progress import track
from interp_by_construction.engine.tensors import create_safetensors
from interp_by_construction.scoring import columnwise_correlation
from interp_by_construction.simulators import cost
from interp_by_construction.simulators.exact import (
    REFERENCE_LABELS,
    contrasted,
    plan,
    simulate_packed,
)
from interp_by_construction.simulators.prompt import OTHER_SHOTS, SHOTS, Shots
from interp_by_construction.simulators.ridge import fit_ridge
from interp_by_construction.subject.records import Label

if TYPE_CHECKING:
    from interp_by_construction.llm.client import Labeler
    from interp_by_construction.simulators.encoder import Encoder
    from interp_by_construction.simulators.head import Head

HEAD_PARTS: tuple[Part, ...] = ("head_score", "calibrate", "test")
"""What only a head is cheap enough to simulate beside the targets: for scores, calibration and
substitution."""
EXACT: dict[str, tuple[Part, ...]] = {
    "ridge": ("fit", "score"),
    "head": ("score",),
    "exact": ("score", "align"),
}
"""Simulator -> the parts that the labeler simulates itself."""
ENCODED: dict[str, tuple[Part, ...]] = {
    "ridge": ("fit", "score", "align"),
    "head": ("score", *HEAD_PARTS, "align"),
    "exact": (),
}
"""Simulator -> the parts that its encoder reads."""
CHUNK = 8192
"""Tokens simulated at once."""


def encode(
    corpus: Path,
    encoder: Encoder,
    cfg: SimulateConfig,
    parts: Sequence[Part],
    out: Path,
    head: Head | None = None,
) -> dict[str, Any]:
    """What the dense simulator reads of every part, shared by all layers and runs: the encoder's
    hidden states, or with a head its token vectors, which are smaller. Writes `<part>.npy`, float16
    [token, feature or width], and `encoder.json`, its size.
    """
    width = encoder.n_features if head is None else head.width
    metrics: dict[str, Any] = {"n_features": encoder.n_features} | (
        {} if head is None else {"width": width}
    )
    n_read, n_before = 0, encoder.n_tokens
    for part in parts:
        indices, length = chosen_blocks(corpus, part, cfg)
        texts = (text for excerpts in excerpt_slices(corpus, part, cfg) for text in excerpts.tokens)
        metrics[f"n_{part}_tokens"] = encode_texts(
            texts, len(indices), length, encoder, head, out / f"{part}.npy"
        )
        n_read += metrics[f"n_{part}_tokens"]
    size = {
        "layers": list(encoder.layers),
        "multiply_adds_per_token": encoder.multiply_adds
        + (cost.tower_weights(head) if head is not None else 0),
        "tokens_per_subject_token": (encoder.n_tokens - n_before) / n_read,
    }
    (out / "encoder.json").write_text(json.dumps(size))
    return metrics | size


def encode_texts(
    texts: Iterable[Sequence[str]],
    n_texts: int,
    length: int,
    encoder: Encoder,
    head: Head | None,
    file: Path,
) -> int:
    """Writes the encoder's hidden states, or the head's token vectors, of `n_texts` texts of
    `length` tokens each; returns the number of tokens.
    """
    shape = (n_texts * length, encoder.n_features if head is None else head.width)
    features = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
    for i, rows in enumerate(track(encoder.encode(texts), f"encode {file.stem}", total=n_texts)):
        features[i * length : (i + 1) * length] = (
            rows if head is None else head.token_vectors(rows).astype(np.float16)
        )
    features.flush()
    return shape[0]


def run(
    corpus: Path,
    encoded: Path | None,
    labels: Sequence[Label],
    labeler: Labeler,
    cfg: SimulateConfig,
    out: Path,
    head: Head | None = None,
    encoder: Encoder | None = None,
) -> dict[str, Any]:
    """Simulates the labelled nodes of a layer. Writes `simulated.safetensors` and
    `targets.safetensors`.

    simulated: `<part>` raw exact simulation and `<part>_reference` mean over the reference labels;
    `score_dense`, what the simulator that makes the targets says on the same tokens; with a head
    also `HEAD_PARTS`. targets: `values` float16 [block, pos, node], `mask` bool [block, pos],
    `nodes` and `poles` int64 [node].
    """
    from safetensors.numpy import save_file

    named = [label for label in labels if label.text is not None]
    texts = [str(label.text) for label in named]
    simulated: dict[str, NDArray] = {}
    values = _create_targets(corpus, named, cfg, out)
    score = choose_excerpts(corpus, "score", cfg)
    simulated["score"], simulated["score_reference"] = _exact(
        labeler, texts, score.tokens, "simulate score"
    )
    metrics: dict[str, Any] = {"n_labels": len(texts)}
    if cfg.simulator == "exact":
        _exact_targets(corpus, labeler, texts, cfg, values)
        simulated["score_dense"] = contrasted(
            simulated["score"], simulated["score_reference"], cfg.contrast
        )
    elif encoded is None:
        raise ValueError(f"simulator={cfg.simulator} needs encoded text")
    elif cfg.simulator == "ridge":
        fit = choose_excerpts(corpus, "fit", cfg)
        simulated["fit"], simulated["fit_reference"] = _exact(
            labeler, texts, fit.tokens, "simulate fit"
        )
        simulated["score_dense"], fitted = _distil(encoded, simulated, fit, cfg, values)
        metrics |= fitted | _reliability(labeler, texts, simulated, fit, cfg)
    else:
        if head is None or encoder is None:
            raise ValueError("the head simulator needs a head and its encoder")
        vectors = label_vectors(head, encoder, texts)
        for start, tokens in _chunks(encoded / "align.npy"):
            values[start : start + CHUNK] = head.simulate(tokens, vectors)
        parts: dict[str, str] = {"score_dense": "score"} | {part: part for part in HEAD_PARTS}
        for name, part in parts.items():
            pieces = [
                head.simulate(tokens, vectors) for _, tokens in _chunks(encoded / f"{part}.npy")
            ]
            simulated[name] = np.concatenate(pieces)
    if encoded is not None:
        metrics |= _fidelity(simulated, score, cfg, metrics.get("reliability"))
        metrics["cost"] = _cost(labeler, texts, score, encoded, cfg)
    save_file(
        {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in simulated.items()},
        out / "simulated.safetensors",
    )
    return metrics


def label_vectors(head: Head, encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """[label, width + 1]; a layer in which every label failed has none."""
    return (
        head.label_vectors(encoder, texts)
        if texts
        else np.zeros((0, head.width + 1), dtype=np.float32)
    )


def _create_targets(
    corpus: Path, named: Sequence[Label], cfg: SimulateConfig, out: Path
) -> NDArray[np.float16]:
    """`targets.safetensors` with all but the values, which are returned for writing as float16
    [token, node]."""
    indices, length = chosen_blocks(corpus, "align", cfg)
    n_blocks = len(indices)
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
    for excerpts in excerpt_slices(corpus, "align", cfg):
        tensors["mask"][start : start + len(excerpts.is_text)] = excerpts.is_text
        start += len(excerpts.is_text)
    return tensors["values"].reshape(n_blocks * length, len(named))


def _exact(
    labeler: Labeler,
    texts: Sequence[str],
    excerpts: Sequence[Sequence[str]],
    description: str,
    shots: Shots = SHOTS,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Raw exact simulation [token, label] and its mean over the reference labels [token]."""
    every = simulate_packed(labeler, [*texts, *REFERENCE_LABELS], excerpts, description, shots)
    return every[:, : len(texts)], every[:, len(texts) :].mean(axis=1)


def _exact_targets(
    corpus: Path, labeler: Labeler, texts: Sequence[str], cfg: SimulateConfig, values: NDArray
) -> None:
    """Fills `values` slice by slice."""
    start = 0
    for excerpts in excerpt_slices(corpus, "align", cfg):
        raw, reference = _exact(labeler, texts, excerpts.tokens, "simulate align")
        values[start : start + len(raw)] = contrasted(raw, reference, cfg.contrast)
        start += len(raw)


def _chunks(encoded: Path) -> Any:
    """(first token, features of `CHUNK` tokens) of a part."""
    features = np.load(encoded, mmap_mode="r")
    return ((start, features[start : start + CHUNK]) for start in range(0, len(features), CHUNK))


def _distil(
    encoded: Path,
    simulated: dict[str, NDArray],
    fit: Excerpts,
    cfg: SimulateConfig,
    values: NDArray,
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Fills `values` (the targets on the align split); returns the simulation of the score split
    [token, label] and metrics."""
    size = json.loads((encoded / "encoder.json").read_text())
    use = fit.is_text.reshape(-1)
    n_excerpts, length = fit.is_text.shape
    target = contrasted(simulated["fit"], simulated["fit_reference"], cfg.contrast)[use]
    features = np.load(encoded / "fit.npy", mmap_mode="r")[use]
    ridge = fit_ridge(
        features,
        target,
        np.repeat(np.arange(n_excerpts), length)[use],
        n_layers=len(size["layers"]),
    )
    for start, chunk in _chunks(encoded / "align.npy"):
        values[start : start + CHUNK] = ridge.predict(chunk)
    score = np.concatenate([ridge.predict(chunk) for _, chunk in _chunks(encoded / "score.npy")])
    metrics = {
        "fidelity_cross_validated": _mean(ridge.fidelity),
        "encoder_layers": [size["layers"][layer] for layer in ridge.layers],
        "lambda_median": float(np.median(ridge.lambdas)) if len(ridge.lambdas) else None,
    }
    return score, metrics


def _reliability(
    labeler: Labeler,
    texts: Sequence[str],
    simulated: dict[str, NDArray],
    fit: Excerpts,
    cfg: SimulateConfig,
) -> dict[str, Any]:
    """r of the exact simulation with itself, on the first excerpts of the simulate split: under
    other few-shot examples, and under the same ones with the excerpts in reverse order
    (`reliability_order`). What stands before an excerpt in its prompt changes the answer, and no
    feature of the excerpt alone can tell: the second is what a distillate can hope for.
    """
    length = fit.is_text.shape[1]
    n = min(len(fit.tokens), cfg.reliability_tokens // length)
    metrics: dict[str, Any] = {"n_reliability_tokens": int(fit.is_text[:n].sum())}
    first = contrasted(simulated["fit"], simulated["fit_reference"], cfg.contrast)[: n * length]
    use = fit.is_text[:n].reshape(-1)
    for name, shots, step in (("reliability", OTHER_SHOTS, 1), ("reliability_order", SHOTS, -1)):
        if n == 0:
            metrics |= {name: None, f"n_{name}_undefined": None}
            continue
        raw, reference = _exact(
            labeler, texts, fit.tokens[:n][::step], name.replace("_", " "), shots
        )
        again = (
            contrasted(raw, reference, cfg.contrast)
            .reshape(n, length, -1)[::step]
            .reshape(n * length, -1)
        )
        r = columnwise_correlation(first[use], again[use])
        metrics |= {name: _mean(r), f"n_{name}_undefined": int(np.isnan(r).sum())}
    return metrics


def _fidelity(
    simulated: dict[str, NDArray], score: Excerpts, cfg: SimulateConfig, reliability: float | None
) -> dict[str, Any]:
    """How well the dense simulation predicts the exact one on the score split, which it has not
    seen."""
    kept = score.is_text.reshape(-1)
    exact = contrasted(simulated["score"], simulated["score_reference"], cfg.contrast)
    held_out = columnwise_correlation(exact[kept], simulated["score_dense"][kept])
    fidelity = _mean(held_out)
    share = (
        None
        if fidelity is None or reliability is None or reliability <= 0
        else fidelity / reliability
    )
    return {
        "fidelity": fidelity,
        "n_fidelity_undefined": int(np.isnan(held_out).sum()),
        "fidelity_over_reliability": share,
    }


def _cost(
    labeler: Labeler, texts: Sequence[str], score: Excerpts, encoded: Path, cfg: SimulateConfig
) -> dict[str, Any] | None:
    """Cost of one million node-tokens, exact and dense, for this number of nodes; None without
    labels."""
    if not texts:
        return None
    packing = plan(labeler, [*texts, *(REFERENCE_LABELS if cfg.contrast else ())], score.tokens)
    size = json.loads((encoded / "encoder.json").read_text())
    per_node_token = size["tokens_per_subject_token"] / len(texts)
    # Beside the encoder's share: one product per feature, or per entry of the head's vectors.
    own = np.load(encoded / "score.npy", mmap_mode="r").shape[1]
    return cost.per_million(
        packing.n_labeler_tokens / (packing.n_tokens * len(texts)),
        cost.labeler_multiply_adds(labeler.cfg.model),
        per_node_token,
        per_node_token * size["multiply_adds_per_token"] + own,
    )


def _mean(values: NDArray) -> float | None:
    """Over the defined values; None where there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
