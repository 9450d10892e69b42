"""simulate: what a node with this label should output on every token, from label and text alone (invariant 5).

1. The labeler simulates each distinct label exactly on the same excerpts of the score split, and, where something is distilled
   from it, of the simulate split (`fit`).
2. Contrast: the mean over the fixed `REFERENCE_LABELS` on the same token is subtracted.
3. Targets on the align split. simulator=ridge distils `fit` into a ridge regression on the encoder's hidden states, one column
   per label. simulator=head applies a head that was trained beforehand: it needs neither `fit` nor contrast, since it was
   trained to tell labels apart. simulator=exact simulates the align split token by token.

Nothing here reads an activation of the subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
    from interp_by_construction.simulators.encoder import Encoder
    from interp_by_construction.simulators.head import Head

Part = Literal["fit", "score", "head_score", "align", "label", "calibrate", "test"]
SPLITS: dict[Part, str] = {
    "fit": "simulate", "score": "score", "head_score": "score", "align": "align", "label": "label", "calibrate": "simulate",
    "test": "test",
}  # fmt: skip
HEAD_PARTS: tuple[Part, ...] = ("head_score", "calibrate", "test")
"""What only a head is cheap enough to simulate beside the targets: for scores, calibration and substitution."""
EXACT: dict[str, tuple[Part, ...]] = {"ridge": ("fit", "score"), "head": ("score",), "exact": ("score", "align")}
"""Simulator -> the parts that the labeler simulates itself."""
ENCODED: dict[str, tuple[Part, ...]] = {"ridge": ("fit", "score", "align"), "head": ("score", *HEAD_PARTS, "align"), "exact": ()}
"""Simulator -> the parts that its encoder reads."""
CHUNK = 8192
"""Tokens simulated at once."""


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


def choose_excerpts(corpus: Path, part: Part, cfg: SimulateConfig) -> Excerpts:
    """The excerpts of a part: evenly spaced blocks, the same for every label, layer and run on this corpus."""
    from interp_by_construction.corpus import load_blocks

    blocks = load_blocks(corpus, SPLITS[part])
    block_size = len(blocks[0]["input_ids"])
    # What the labeler simulates itself is dear, so short excerpts of many blocks; what an encoder reads is cheap.
    length = min(cfg.excerpt_tokens, block_size) if part in ("fit", "score") else block_size
    wanted = {
        "fit": cfg.n_fit_tokens, "score": cfg.n_score_tokens, "align": cfg.max_align_tokens, "label": cfg.n_label_tokens,
    }.get(part, cfg.n_head_score_tokens)  # fmt: skip
    n = min(len(blocks), max(1, wanted // length))
    if part in ("fit", "score") and n < 2:
        raise CorpusError(f"simulate.n_{part}_tokens={wanted} gives {n} excerpt of {length} tokens: at least 2 are needed")
    # The align part takes the first blocks, so that training and targets agree on the block index.
    return read_excerpts(corpus, SPLITS[part], np.arange(n) if part == "align" else spaced(len(blocks), n), length)


def spaced(n_blocks: int, n: int) -> NDArray[np.int64]:
    """`n` evenly spaced block indices, the first and the last included."""
    return np.linspace(0, n_blocks - 1, n).round().astype(np.int64)


def read_excerpts(corpus: Path, split: str, indices: NDArray[np.int64], length: int) -> Excerpts:
    """The first `length` tokens of some blocks of a split."""
    from interp_by_construction.corpus import held_out_documents, load_blocks, load_tokenizer
    from interp_by_construction.corpus.tokenize import separator_id

    blocks, tokenizer = load_blocks(corpus, split), load_tokenizer(corpus)
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


def encode(
    corpus: Path, encoder: Encoder, cfg: SimulateConfig, parts: Sequence[Part], out: Path, head: Head | None = None
) -> dict[str, Any]:
    """What the dense simulator reads of every part, shared by all layers and runs: the encoder's hidden states, or with a head
    its token vectors, which are smaller. Writes `<part>.npy`, float16 [token, feature or width].
    """
    width = encoder.n_features if head is None else head.width
    metrics: dict[str, Any] = {"n_features": encoder.n_features} | ({} if head is None else {"width": width})
    for part in parts:
        texts = choose_excerpts(corpus, part, cfg).tokens
        metrics[f"n_{part}_tokens"] = encode_texts(texts, encoder, head, out / f"{part}.npy")
    return metrics


def encode_texts(texts: Sequence[Sequence[str]], encoder: Encoder, head: Head | None, file: Path) -> int:
    """Writes the encoder's hidden states, or the head's token vectors, of texts of equal length; returns the number of tokens."""
    length, width = len(texts[0]), encoder.n_features if head is None else head.width
    shape = (len(texts) * length, width)
    features = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
    for i, rows in enumerate(track(encoder.encode(texts), f"encode {file.stem}", total=len(texts))):
        features[i * length : (i + 1) * length] = rows if head is None else head.token_vectors(rows).astype(np.float16)
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
    """Simulates the labelled nodes of a layer. Writes `simulated.safetensors` and `targets.safetensors`.

    simulated: `<part>` raw exact simulation and `<part>_reference` mean over the reference labels; `score_dense`, what the
    simulator that makes the targets says on the same tokens; with a head also `HEAD_PARTS`.
    targets: `values` float16 [block, pos, node], `mask` bool [block, pos], `nodes` and `poles` int64 [node].
    """
    from safetensors.numpy import save_file

    named = [label for label in labels if label.text is not None]
    texts = [str(label.text) for label in named]
    simulated: dict[str, NDArray] = {}
    exact_parts = EXACT[cfg.simulator]
    excerpts = {part: choose_excerpts(corpus, part, cfg) for part in dict.fromkeys((*exact_parts, "score", "align"))}
    for part in exact_parts:
        every = simulate_packed(labeler, [*texts, *REFERENCE_LABELS], excerpts[part].tokens, f"simulate {part}")
        simulated[part] = every[:, : len(texts)]
        simulated[f"{part}_reference"] = every[:, len(texts) :].mean(axis=1)
    metrics: dict[str, Any] = {"n_labels": len(texts)}
    if cfg.simulator == "ridge":
        if encoded is None:
            raise ValueError("the ridge simulator needs encoded text")
        values, simulated["score_dense"], fidelity = _distil(encoded, simulated, excerpts, cfg)
        metrics |= fidelity | _fidelity(simulated, excerpts["score"], cfg)
    elif cfg.simulator == "head":
        if encoded is None or head is None or encoder is None:
            raise ValueError("the head simulator needs encoded text, a head and its encoder")
        vectors = label_vectors(head, encoder, texts)
        values = _with_head(encoded / "align.npy", head, vectors).astype(np.float16)
        simulated["score_dense"] = _with_head(encoded / "score.npy", head, vectors)
        simulated |= {part: _with_head(encoded / f"{part}.npy", head, vectors) for part in HEAD_PARTS}
        metrics |= _fidelity(simulated, excerpts["score"], cfg)
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


def label_vectors(head: Head, encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """[label, width + 1]; a layer in which every label failed has none."""
    return head.label_vectors(encoder, texts) if texts else np.zeros((0, head.width + 1), dtype=np.float32)


def _with_head(encoded: Path, head: Head, vectors: NDArray) -> NDArray[np.float32]:
    """The head's simulation of one part [token, label]; vectors: [label, width + 1]."""
    tokens = np.load(encoded, mmap_mode="r")
    values = np.empty((len(tokens), len(vectors)), dtype=np.float32)
    for start in range(0, len(values), CHUNK):
        values[start : start + CHUNK] = head.simulate(tokens[start : start + CHUNK], vectors)
    return values


def _fidelity(simulated: dict[str, NDArray], score: Excerpts, cfg: SimulateConfig) -> dict[str, Any]:
    """How well the dense simulation predicts the exact one on the score split, which it has not seen."""
    kept = score.is_text.reshape(-1)
    exact = contrasted(simulated["score"], simulated["score_reference"], cfg.contrast)
    held_out = columnwise_correlation(exact[kept], simulated["score_dense"][kept])
    defined = held_out[~np.isnan(held_out)]
    return {
        "fidelity_score_split": float(defined.mean()) if len(defined) else None,
        "n_fidelity_undefined": int(np.isnan(held_out).sum()),
    }


def _distil(
    encoded: Path, simulated: dict[str, NDArray], excerpts: Mapping[Part, Excerpts], cfg: SimulateConfig
) -> tuple[NDArray[np.float16], NDArray[np.float32], dict[str, Any]]:
    """Targets on the align split [token, label], dense simulation of the score split [token, label], metrics of the fit."""
    features = {part: np.load(encoded / f"{part}.npy", mmap_mode="r") for part in ENCODED["ridge"]}
    use = excerpts["fit"].is_text.reshape(-1)
    n_excerpts, length = excerpts["fit"].is_text.shape
    target = contrasted(simulated["fit"], simulated["fit_reference"], cfg.contrast)
    ridge = fit_ridge(features["fit"][use], target[use], np.repeat(np.arange(n_excerpts), length)[use])
    values = np.empty((len(features["align"]), target.shape[1]), dtype=np.float16)
    for start in range(0, len(values), CHUNK):
        values[start : start + CHUNK] = ridge.predict(features["align"][start : start + CHUNK])
    metrics = {
        "fidelity_cross_validated": float(np.nanmean(ridge.fidelity)) if not np.isnan(ridge.fidelity).all() else None,
        "lambda_median": float(np.median(ridge.lambdas)),
    }
    return values, ridge.predict(features["score"]), metrics
