"""Paths as people type them."""

from __future__ import annotations

from pathlib import Path

from interp_by_construction.errors import ConfigError

PATH_FIELDS = frozenset(
    "paths.root data.path subject.path nodes.path simulate.head simulate.encoder labeler.model "
    "judge.model".split()
)
"""Settings that hold a path, or a name on a hub."""


def user_path(typed: str, name: str) -> Path:
    """The path behind a leading `~`. name: the setting that holds it.

    Raises ConfigError where `~` stands for no directory, as for a user without an entry in the
    system's list of users.
    """
    try:
        return Path(typed).expanduser()
    except RuntimeError as error:
        if Path(typed).parts[:1] != ("~",):
            # No user is called so: it is the name of a file.
            return Path(typed)
        raise ConfigError(
            f"{name}={typed}: this user has no home directory: give a path without ~, or set HOME"
        ) from error
