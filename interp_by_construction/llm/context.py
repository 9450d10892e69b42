"""How long a text a labeler can read."""

from __future__ import annotations

from typing import Any

from interp_by_construction.config import LabelerConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.adapted import labeler_source
from interp_by_construction.llm.pretrained import read_config


def context_of(config: Any) -> int | None:
    """Positions of a model with this transformers config; None where it sets no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return None
    scaling = getattr(config, "rope_parameters", None) or {}
    # llama3 counts the scaled positions already.
    stretched = scaling.get("rope_type") not in ("default", "llama3")
    factor = scaling.get("factor") if stretched else None
    return round(positions * max(1.0, float(factor or 1.0)))


def check_context(cfg: LabelerConfig) -> None:
    """Raises LabelerError if `labeler.max_model_len` is more than the model has positions. What an
    endpoint serves is not known."""
    if cfg.backend == "endpoint":
        return
    try:
        context = context_of(read_config(labeler_source(cfg)))
    except (OSError, ValueError):
        # Whoever loads the model says what is wrong with it.
        return
    if context is not None and cfg.max_model_len > context:
        raise LabelerError(
            f"labeler.max_model_len={cfg.max_model_len}: labeler.model={cfg.model} reads at most "
            f"{context} tokens; give labeler.max_model_len={context}, or another labeler.model"
        )
