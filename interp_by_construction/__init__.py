"""Interpretability by construction: language models whose neurons do what their labels say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from interp_by_construction.version import __version__ as __version__

if TYPE_CHECKING:
    from interp_by_construction.loaded import LoadedRun


def load(path: str | Path) -> LoadedRun:
    """A finished run, such as `runs/demo`, for notebooks; see `loaded.LoadedRun`.

    Raises ConfigError for a path that is no run, a run that is not finished, and one that another
    version wrote; StoreError where an artifact of it is gone.
    """
    # It imports torch, which `import interp_by_construction` does without.
    from interp_by_construction.loaded import load as load_run

    return load_run(path)
