"""How a checkpoint says that text is to be generated, made so that it can be saved again."""

from __future__ import annotations

import logging
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

_LOG = logging.getLogger(__name__)

TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def make_savable(model: PreTrainedModel) -> None:
    """Replaces a generation config that transformers loads and refuses to save.

    Llama 2's is one: it gives a temperature and says that nothing is sampled. Only its tokens stay,
    which is all of it that counts where nothing is sampled.
    """
    config = getattr(model, "generation_config", None)
    if config is None:
        return
    try:
        config.validate(strict=True)
    except ValueError as error:
        _LOG.info(
            "generation_config.json cannot be saved as it is; only its tokens are kept: %s", error
        )
        tokens = {name: getattr(config, name, None) for name in TOKENS}
        fresh = GenerationConfig(**{name: each for name, each in tokens.items() if _is_known(each)})
        model.generation_config = fresh


def _is_known(token: Any) -> bool:
    """Whether it is an id, or some. Some configs write -1 for none."""
    every = token if isinstance(token, list) else [token]
    return bool(every) and all(isinstance(each, int) and each >= 0 for each in every)
