"""The output tokens that each node promotes and suppresses, along the direct path to the logits
(`subject.direct_path`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from interp_by_construction.corpus import load_tokenizer
from interp_by_construction.subject.direct_path import direct_logits


def promoted_tokens(
    model: PreTrainedModel,
    corpus: Path,
    layer: int,
    nodes: NDArray[np.int64],
    poles: NDArray[np.int64],
    n: int,
) -> list[dict[str, Any]]:
    """Per node the `n` tokens whose logits rise most, and fall most, when it is active in the
    direction of its pole.

    Strongest first, see `direct_logits`; `promotes` and `suppresses` are token strings, `*_logits`
    the changes up to one factor.
    """
    tokenizer = load_tokenizer(corpus)
    # A head may have more rows than there are tokens.
    effects = (
        direct_logits(model, layer, nodes)[:, : len(tokenizer)] * torch.as_tensor(poles)[:, None]
    )
    order = torch.argsort(effects, dim=1, descending=True, stable=True)
    records: list[dict[str, Any]] = []
    for node, effect, ids in zip(nodes.tolist(), effects, order, strict=True):
        record: dict[str, Any] = {"node": node}
        for name, chosen in (("promotes", ids[:n]), ("suppresses", ids.flip(0)[:n])):
            record[name] = [str(tokenizer.decode([token])) for token in chosen.tolist()]
            record[f"{name}_logits"] = [float(f"{value:.6g}") for value in effect[chosen].tolist()]
        records.append(record)
    return records
