"""Conversations for models that do not know all of the chat API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

Messages = list[dict[str, str]]

NO_TEMPLATE = (
    "the model has no chat template, so it cannot be asked in messages: give "
    "label.style=completion, or an instruct model"
)


def has_system(messages: Sequence[Mapping[str, str]]) -> bool:
    """Whether a conversation has a system message, which some chat templates refuse."""
    return any(message["role"] == "system" for message in messages)


def without_system(messages: Sequence[Mapping[str, str]]) -> Messages:
    """The same conversation with each system message at the head of the turn that follows it."""
    merged: Messages = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
        else:
            content = "\n\n".join([*waiting, message["content"]])
            merged.append({"role": message["role"], "content": content})
            waiting = []
    return merged if not waiting else [*merged, {"role": "user", "content": "\n\n".join(waiting)}]


def _without_format(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in payload.items() if key != "response_format"}


def _without_system(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {**payload, "messages": without_system(payload["messages"])}


Plainer = Callable[[Mapping[str, Any]], dict[str, Any]]

EXTRAS: dict[str, Plainer] = {"response_format": _without_format, "system message": _without_system}
"""What a server may refuse -> the payload without it."""


def extras_of(payload: Mapping[str, Any]) -> list[str]:
    """Which of `EXTRAS` a payload has."""
    found = {
        "response_format": "response_format" in payload,
        "system message": has_system(payload.get("messages", ())),
    }
    return [name for name in EXTRAS if found[name]]


def without(payload: Mapping[str, Any], extras: Sequence[str]) -> dict[str, Any]:
    """The payload without some of `EXTRAS`."""
    plain = dict(payload)
    for name in extras:
        plain = EXTRAS[name](plain)
    return plain


def subsets(extras: Sequence[str]) -> list[tuple[str, ...]]:
    """All that can be left out, least first."""
    return [chosen for n in range(len(extras) + 1) for chosen in combinations(extras, n)]
