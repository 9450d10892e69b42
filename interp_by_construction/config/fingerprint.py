"""The part of a config that decides a stage's output, for its fingerprint."""

from __future__ import annotations

import dataclasses
from typing import Any

from interp_by_construction.config.training import AlignConfig

NEUTRAL: dict[type, dict[str, Any]] = {
    AlignConfig: {
        "objective": "correlation",
        "distill": 0.0,
        "ablate_free": 0.0,
        "start": "node",
        "target": "label",
    },
}
"""Fields that came later than artifacts of their stage, each with the value under which the stage
does what it did before there was the field. These are no defaults: a default may change, and then a
value that is left out, here or in an old run's `config.yaml` (`from_saved`), must still mean the
same."""


def fingerprinted(config: Any) -> dict[str, Any]:
    """`config`, a dataclass, as a dict without the later fields that have their neutral value: what
    was computed before a field existed stays valid where the field changes nothing."""
    neutral = NEUTRAL.get(type(config), {})
    values = dataclasses.asdict(config)
    return {
        key: value for key, value in values.items() if key not in neutral or value != neutral[key]
    }
