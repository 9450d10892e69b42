"""The form of the files of a run's directory: `state.json` and `summary.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from interp_by_construction.errors import ConfigError, StoreError

SCHEMA = 2
"""Of the run directories that this version writes and reads."""
AFRESH = (
    "give a new run=NAME, or another paths.root, to start afresh; "
    "nothing of the old run is changed or deleted"
)
WANTED = "run complete subject labeler loss layers invariants".split()
WANTED_LOSS = "original control freeze_only final tax tax_ci95".split()
WANTED_LAYER = (
    "layer n_nodes n_aligned n_free n_failed_labels n_distinct_labels score seconds artifacts"
).split()
"""What the rest of the package reads of a summary, of its losses, and of each of its layers."""


def groups(part: dict[str, Any]) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Layer (None: the whole run) and its links by name, of a state or of its plan."""
    yield None, part["shared"]
    for layer in sorted(part["layers"], key=int):
        yield int(layer), part["layers"][layer]


def is_state(state: Any) -> bool:
    """Whether it has the form of a state."""

    def links(group: Any, each: Callable[[Any], bool]) -> bool:
        return isinstance(group, dict) and all(map(each, group.values()))

    def whole(part: Any, each: Callable[[Any], bool]) -> bool:
        return (
            isinstance(part, dict)
            and links(part.get("shared"), each)
            and links(part.get("layers"), lambda group: links(group, each))
            and all(key.isdecimal() for key in part["layers"])
        )

    def numbers(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(each, int) for each in value)

    def planned(link: Any) -> bool:
        return isinstance(link, list) and [type(each) for each in link] == [str, str]

    running = state.get("running", 0) if isinstance(state, dict) else 0
    return (
        whole(state, lambda link: isinstance(link, str))
        and isinstance(state.get("start_layer", 0.5), int | None)
        and numbers(state.get("planned"))
        and numbers(state.get("done"))
        and (running is None or (isinstance(running, dict) and {"stage", "layer"} <= set(running)))
        and ("plan" not in state or whole(state["plan"], planned))
    )


def read_json(file: Path, fix: str) -> dict[str, Any]:
    """Raises StoreError, with the fix, for a damaged file."""
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise StoreError(f"{file} is damaged: {fix}; nothing is recomputed") from error


def check_summary(file: Path, summary: Any) -> None:
    """Raises ConfigError, with the fix, where the rest of the package could not index `summary`."""
    schema = summary.get("schema") if isinstance(summary, dict) else None
    if schema != SCHEMA:
        raise ConfigError(
            f"{file}: schema={schema}, but this version reads schema {SCHEMA}; {AFRESH}"
        )
    missing = ", ".join(_missing(summary))
    if missing:
        raise ConfigError(f"{file}: it lacks {missing}: another version wrote it; {AFRESH}")


def _missing(summary: dict[str, Any]) -> Iterator[str]:
    yield from (key for key in WANTED if key not in summary)
    yield from (f"loss.{key}" for key in WANTED_LOSS if key not in summary.get("loss", WANTED_LOSS))
    for i, record in enumerate(summary.get("layers", [])):
        yield from (f"layers[{i}].{key}" for key in WANTED_LAYER if key not in record)
