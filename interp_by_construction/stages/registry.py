"""All stages by name. A file in this room is all that a new stage needs to be found."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from interp_by_construction import stages
from interp_by_construction.engine.stage import Stage


def all_stages() -> dict[str, type[Stage[Any]]]:
    """Name -> class. Imports every file of this room, so it is not for what must be fast."""
    found: dict[str, type[Stage[Any]]] = {}
    for info in pkgutil.iter_modules(stages.__path__):
        module = importlib.import_module(f"{stages.__name__}.{info.name}")
        for kind in vars(module).values():
            own = isinstance(kind, type) and issubclass(kind, Stage)
            if own and kind.__module__ == module.__name__ and "name" in vars(kind):
                found[kind.name] = kind
    return found
