"""encode: what an encoder reads of some text, once for all labels. Simulations of any label then
cost one product per token.

Nothing here reads a label or an activation of the subject.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interp_by_construction.corpus.passage import Passage
from interp_by_construction.engine.progress import track
from interp_by_construction.simulators.base import TextEncoder


def run(texts: Mapping[str, Passage], encoder: TextEncoder, out: Path) -> dict[str, Any]:
    """texts: by name. Writes `<name>.npy`, float16 [token, width], and `encoder.json`, the size of
    the encoder."""
    metrics: dict[str, Any] = {"n_features": encoder.n_features, "width": encoder.width}
    n_read, n_before = 0, encoder.n_tokens
    for name, text in texts.items():
        shape = (len(text) * text.length, encoder.width)
        file = out / f"{name}.npy"
        stored = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
        tokens = (row for piece in text.slices() for row in piece.tokens)
        read = track(encoder.encode(tokens), f"encode {name}", total=len(text))
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
