"""simulate: what a node with this label should output on every token, from label and text alone (invariant 5).

1. The labeler simulates each distinct label exactly on the same excerpts of the simulate split (`fit`) and of the score split.
2. Contrast: the mean over the fixed `REFERENCE_LABELS` on the same token is subtracted.
3. simulator=ridge distils `fit` into a ridge regression on the encoder's hidden states, one column per label, and applies it to
   the align split. simulator=exact simulates the align split token by token.

Nothing here reads an activation of the subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import SimulateConfig
from interp_by_construction.errors import CorpusError
from interp_by_construction.progress import track
from interp_by_construction.records import Label
from interp_by_construction.scoring import columnwise_correlation
from interp_by_construction.simulators.exact import REFERENCE_LABELS, simulate_packed
from interp_by_construction.simulators.ridge import fit_ridge

if TYPE_CHECKING:
    from interp_by_construction.labeler.client import Labeler

VERSION = 1
PARTS = ("fit", "score", "align")


class Excerpts(NamedTuple):
    """The text of one part: the first tokens of some blocks of a split."""

    blocks: NDArray[np.int64]
    """Block index in the split, [excerpt]."""
    tokens: list[list[str]]
    """Decoded tokens, [excerpt][pos]; the end-of-text token reads as a line break."""
    is_text: NDArray[np.bool_]
    """False for end-of-text tokens, [excerpt, pos]."""
    held_out: NDArray[np.bool_]
    """Whether the token's document has held-out templates or words, [excerpt, pos]."""


def choose_excerpts(corpus: Path, part: str, cfg: SimulateConfig) -> Excerpts:
    """The excerpts of a part: evenly spaced blocks, the same for every label, layer and run on this corpus."""
    from interp_by_construction.corpus import held_out_documents, load_blocks, load_tokenizer
    from interp_by_construction.corpus.tokenize import separator_id

    split = {"fit": "simulate", "score": "score", "align": "align"}[part]
    blocks = load_blocks(corpus, split)
    tokenizer = load_tokenizer(corpus)
    block_size = len(blocks[0]["input_ids"])
    length = block_size if part == "align" else min(cfg.excerpt_tokens, block_size)
    wanted = {"fit": cfg.n_fit_tokens, "score": cfg.n_score_tokens, "align": cfg.max_align_tokens}[part]
    n = min(len(blocks), max(1, wanted // length))
    if part != "align" and n < 2:
        raise CorpusError(f"simulate.n_{part}_tokens={wanted} gives {n} excerpt of {length} tokens: at least 2 are needed")
    # The align part takes the first blocks, so that training and targets agree on the block index.
    indices = np.arange(n) if part == "align" else np.linspace(0, len(blocks) - 1, n).round().astype(np.int64)
    ids = np.asarray(blocks[indices]["input_ids"])[:, :length]
    documents = np.asarray(blocks[indices]["document"])[:, :length]
    text = {int(i): str(tokenizer.decode([int(i)])) for i in np.unique(ids)}
    separator = separator_id(tokenizer)
    text[separator] = "\n"
    return Excerpts(
        blocks=indices,
        tokens=[[text[int(i)] for i in row] for row in ids],
        is_text=ids != separator,
        held_out=held_out_documents(corpus)[documents],
    )


def encode(corpus: Path, encoder_path: str, cfg: SimulateConfig, out: Path, device: Any) -> dict[str, Any]:
    """The encoder's hidden states of every part. Shared by all layers and runs. Writes `<part>.npy`, float16 [token, feature]."""
    from interp_by_construction.simulators.encoder import Encoder

    encoder = Encoder.load(encoder_path, cfg.encoder_layers, device)
    metrics: dict[str, Any] = {"n_features": encoder.n_features}
    for part in PARTS:
        texts = choose_excerpts(corpus, part, cfg).tokens
        length = len(texts[0])
        shape = (len(texts) * length, encoder.n_features)
        features = np.lib.format.open_memmap(out / f"{part}.npy", mode="w+", dtype=np.float16, shape=shape)
        for i, rows in enumerate(track(encoder.encode(texts), f"encode {part}", total=len(texts))):
            features[i * length : (i + 1) * length] = rows
        features.flush()
        metrics[f"n_{part}_tokens"] = shape[0]
    return metrics


def run(
    corpus: Path,
    encoded: Path | None,
    labels: Sequence[Label],
    labeler: Labeler,
    cfg: SimulateConfig,
    out: Path,
) -> dict[str, Any]:
    """Simulates the labelled nodes of a layer. Writes `simulated.safetensors` (fit and score) and `targets.safetensors`.

    simulated: `<part>` raw exact simulation and `<part>_reference` mean over the reference labels, `score_dense`.
    targets: `values` float16 [block, pos, node], `mask` bool [block, pos], `nodes` and `poles` int64 [node].
    """
    from safetensors.numpy import save_file

    named = [label for label in labels if label.text is not None]
    texts = [str(label.text) for label in named]
    simulated: dict[str, NDArray] = {}
    excerpts = {part: choose_excerpts(corpus, part, cfg) for part in PARTS}
    exact_parts = ("fit", "score") if cfg.simulator == "ridge" else PARTS
    for part in exact_parts:
        every = simulate_packed(labeler, [*texts, *REFERENCE_LABELS], excerpts[part].tokens, f"simulate {part}")
        simulated[part] = every[:, : len(texts)]
        simulated[f"{part}_reference"] = every[:, len(texts) :].mean(axis=1)
    metrics: dict[str, Any] = {"n_labels": len(texts)}
    if cfg.simulator == "ridge":
        if encoded is None:
            raise ValueError("the ridge simulator needs encoded text")
        values, simulated["score_dense"], fidelity = _distil(encoded, simulated, excerpts, cfg)
        metrics |= fidelity
    else:
        values = contrasted(simulated.pop("align"), simulated.pop("align_reference"), cfg.contrast).astype(np.float16)
        simulated["score_dense"] = contrasted(simulated["score"], simulated["score_reference"], cfg.contrast)
    n_blocks, length = excerpts["align"].is_text.shape
    save_file(
        {
            "values": np.ascontiguousarray(values.reshape(n_blocks, length, len(texts))),
            "mask": excerpts["align"].is_text,
            "nodes": np.array([label.node for label in named], dtype=np.int64),
            "poles": np.array([label.pole for label in named], dtype=np.int64),
        },
        out / "targets.safetensors",
    )
    save_file(
        {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in simulated.items()}, out / "simulated.safetensors"
    )
    return metrics


def contrasted(simulated: NDArray, reference: NDArray, contrast: bool = True) -> NDArray:
    """simulated: [token, label]; reference: [token]."""
    return simulated - reference[:, None] if contrast else simulated


def _distil(
    encoded: Path, simulated: dict[str, NDArray], excerpts: dict[str, Excerpts], cfg: SimulateConfig
) -> tuple[NDArray[np.float16], NDArray[np.float32], dict[str, Any]]:
    """Targets on the align split [token, label], dense simulation of the score split [token, label], fidelity metrics."""
    features = {part: np.load(encoded / f"{part}.npy", mmap_mode="r") for part in PARTS}
    use = excerpts["fit"].is_text.reshape(-1)
    n_excerpts, length = excerpts["fit"].is_text.shape
    target = contrasted(simulated["fit"], simulated["fit_reference"], cfg.contrast)
    ridge = fit_ridge(features["fit"][use], target[use], np.repeat(np.arange(n_excerpts), length)[use])
    values = np.empty((len(features["align"]), target.shape[1]), dtype=np.float16)
    for start in range(0, len(values), 8192):
        values[start : start + 8192] = ridge.predict(features["align"][start : start + 8192])
    dense = ridge.predict(features["score"])
    kept = excerpts["score"].is_text.reshape(-1)
    exact = contrasted(simulated["score"], simulated["score_reference"], cfg.contrast)
    held_out = columnwise_correlation(exact[kept], dense[kept])
    defined = held_out[~np.isnan(held_out)]
    return (
        values,
        dense,
        {
            "fidelity_cross_validated": float(np.nanmean(ridge.fidelity)) if not np.isnan(ridge.fidelity).all() else None,
            "fidelity_score_split": float(defined.mean()) if len(defined) else None,
            "n_fidelity_undefined": int(np.isnan(held_out).sum()),
            "lambda_median": float(np.median(ridge.lambdas)),
        },
    )
