"""encode: what an encoder reads of some text, once for all labels. Simulations of any label then
cost one product per token.

Nothing here reads a label or an activation of the subject.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from interp_by_construction.config import SimulateConfig
from interp_by_construction.corpus.excerpts import (
    Excerpts,
    Part,
    chosen_blocks,
    excerpt_slices,
)
from interp_by_construction.engine.progress import track
from interp_by_construction.simulators.base import TextEncoder


class Text(NamedTuple):
    """Some texts of equal length, in subject tokens."""

    tokens: Iterable[Sequence[str]]
    n_texts: int
    length: int

    @classmethod
    def of(cls, excerpts: Excerpts) -> Text:
        """Excerpts that are in memory."""
        return cls(excerpts.tokens, *excerpts.is_text.shape)

    @classmethod
    def of_part(cls, corpus: Path, part: Part, cfg: SimulateConfig) -> Text:
        """A part that may be larger than memory."""
        indices, length = chosen_blocks(corpus, part, cfg)
        slices = excerpt_slices(corpus, part, cfg)
        return cls((text for excerpts in slices for text in excerpts.tokens), len(indices), length)


def run(texts: Mapping[str, Text], encoder: TextEncoder, out: Path) -> dict[str, Any]:
    """texts: by name. Writes `<name>.npy`, float16 [token, width], and `encoder.json`, the size of
    the encoder."""
    metrics: dict[str, Any] = {"n_features": encoder.n_features, "width": encoder.width}
    n_read, n_before = 0, encoder.n_tokens
    for name, text in texts.items():
        shape = (text.n_texts * text.length, encoder.width)
        file = out / f"{name}.npy"
        stored = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
        read = track(encoder.encode(text.tokens), f"encode {name}", total=text.n_texts)
        for i, rows in enumerate(read):
            stored[i * text.length : (i + 1) * text.length] = rows
        stored.flush()
        metrics[f"n_{name}_tokens"] = len(stored)
        n_read += len(stored)
    size = {
        "layers": list(encoder.layers),
        "multiply_adds_per_token": encoder.multiply_adds,
        "tokens_per_subject_token": (encoder.n_tokens - n_before) / n_read,
    }
    (out / "encoder.json").write_text(json.dumps(size))
    return metrics | size
