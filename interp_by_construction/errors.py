"""Errors a user can act on: `ibc` prints them without a traceback, with exit code 2."""

from __future__ import annotations

from interp_by_construction.shown import plain


class IbcError(Exception):
    """Bad input, or a problem of the machine. The message names the value and the fix.

    The message may quote what others have written, such as a server, so it is shown `plain`.
    """

    def __str__(self) -> str:
        return plain(super().__str__())


class ConfigError(IbcError):
    """A configuration value that cannot work."""


class CorpusError(IbcError):
    """Text that is missing, unreadable, empty or too small."""


class SubjectError(IbcError):
    """A model that is missing or of an unsupported architecture."""


class LabelerError(IbcError):
    """The labeler is missing, dead, unreachable, or serves another model than asked for."""


class StoreError(IbcError):
    """The store or the run directory cannot be read or written."""


class CorruptArtifact(StoreError):
    """A file of an artifact differs from its manifest."""
