"""Errors a user can act on. The command line prints them without a traceback and exits with code
2."""

from __future__ import annotations


class IbcError(Exception):
    """A problem with the input or the machine; the message names the offending value and the
    fix."""


class ConfigError(IbcError):
    """A configuration value that cannot work."""


class CorpusError(IbcError):
    """Text that is missing, unreadable, empty or too small."""


class SubjectError(IbcError):
    """A model that is missing or of an unsupported architecture."""


class LabelerError(IbcError):
    """The labeler is missing, dead, unreachable, or serves something else than what was asked
    for."""


class StoreError(IbcError):
    """The store or the run directory cannot be read or written."""


class CorruptArtifact(StoreError):
    """A file of an artifact differs from its manifest."""
