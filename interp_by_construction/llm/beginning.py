"""The token that a model saw before every text in training."""

from __future__ import annotations

from typing import Any

TEXT = "a"
"""Any text: what stands before it does not depend on it."""


def beginning(tokenizer: Any) -> list[int]:
    """The beginning-of-sequence token where a transformers tokenizer puts it before a text, else
    nothing.

    Models of such tokenizers (Llama, Mistral, Gemma, OPT) saw it before every text in training, and
    read badly without it. `add_special_tokens=False` leaves it out.
    """
    begin = getattr(tokenizer, "bos_token_id", None)
    if begin is None:
        return []
    whole = list(tokenizer.encode(TEXT))
    bare = list(tokenizer.encode(TEXT, add_special_tokens=False))
    return [int(begin)] if whole[:1] == [begin] and bare[:1] != [begin] else []
