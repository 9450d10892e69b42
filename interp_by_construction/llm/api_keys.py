"""API keys of endpoints: from a private file or from the environment, and nowhere else."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from interp_by_construction.config import LabelerConfig
from interp_by_construction.config.credentials import KEYS, key_ways
from interp_by_construction.errors import LabelerError
from interp_by_construction.shown import hide

MOST_CHARACTERS = 4096


def api_key(cfg: LabelerConfig, group: str) -> str | None:
    """The key of the endpoints of `group`, labeler or judge; None where none is given. The file
    goes before the environment.

    Raises LabelerError, without the key, for a file that is missing or that others can read, and
    for what no HTTP header can hold.
    """
    given: str | None
    if cfg.api_key_file is not None:
        file = Path(cfg.api_key_file).expanduser()
        where, given = f"{group}.api_key_file={file}", _private_text(file, group)
    else:
        where, given = KEYS[group], os.environ.get(KEYS[group])
    if not given:
        return None
    key = given.strip()
    if not (0 < len(key) <= MOST_CHARACTERS and key.isascii() and key.isprintable()) or " " in key:
        raise LabelerError(f"{where} holds no API key: give one line of letters, digits and signs")
    hide(key)
    return key


def _private_text(file: Path, group: str) -> str:
    """What the file holds, at least a line break."""
    where = f"{group}.api_key_file={file}"
    try:
        # Opened first, so that what is checked is what is read. A pipe must not block.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), encoding="utf-8") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise LabelerError(f"{where} is no file: {key_ways(group)}")
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise LabelerError(
                    f"{where} can be read by others: run `chmod 600 {shlex.quote(str(file))}`"
                )
            return opened.read(MOST_CHARACTERS + 2) or "\n"
    except OSError as error:
        raise LabelerError(
            f"{where} cannot be read ({error.strerror}): {key_ways(group)}"
        ) from error
    except UnicodeDecodeError:
        raise LabelerError(f"{where} holds no API key: it is no text") from None
