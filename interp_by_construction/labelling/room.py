"""Whether the questions of a run can be asked of its labeler, before anything is computed."""

from __future__ import annotations

from typing import Any

from interp_by_construction.config import Config, LabelerConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.labelling.prompts import worked_examples
from interp_by_construction.llm.adapted import adapter_of, labeler_source
from interp_by_construction.llm.chat import NO_TEMPLATE
from interp_by_construction.llm.context import check_context
from interp_by_construction.llm.digits import resolve_digits
from interp_by_construction.llm.embedded import load_tokenizer
from interp_by_construction.simulators import simulator_class
from interp_by_construction.simulators.prompt import HEADING_ROOM, PromptBuilder


def check_room(cfg: Config) -> None:
    """Raises LabelerError for a labeler or judge whose context is shorter than its `max_model_len`,
    and for a labeler that has no room for worked examples, no chat template though `label.style` is
    chat, or no digits though it simulates. What an endpoint serves is not known."""
    for each in (cfg.labeler, cfg.judge):
        if each is not None:
            check_context(each)
    own = cfg.labeler
    if own.backend == "endpoint":
        return
    tokenizer = load_tokenizer(labeler_source(own), own.model)
    if cfg.label.style == "chat":
        if not tokenizer.chat_template:
            raise LabelerError(f"labeler.model={own.model}: {NO_TEMPLATE}")
    else:
        examples = "" if adapter_of(own) else worked_examples()
        written = len(tokenizer.encode(examples))
        _require(own, written + cfg.label.max_tokens, "a question with its worked examples")
    if not simulator_class(cfg.simulate.simulator).any_text:
        _require(own, _rated_texts(own, tokenizer), "a simulation with its rated texts")


def _rated_texts(cfg: LabelerConfig, tokenizer: Any) -> int:
    """Tokens of a simulation prompt without its text."""
    digits = resolve_digits(tokenizer, cfg.model)
    return len(PromptBuilder(tokenizer, digits).shots) + HEADING_ROOM


def _require(cfg: LabelerConfig, needed: int, what: str) -> None:
    if needed >= cfg.max_model_len:
        raise LabelerError(
            f"labeler.max_model_len={cfg.max_model_len}: {what} takes {needed} tokens of "
            f"labeler.model={cfg.model} before any text; raise it, or give a labeler.model with a "
            "longer context"
        )
