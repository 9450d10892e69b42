"""How the secrets of an endpoint are given: its API key, and user and password in its URL.

They are used for its requests and stand in no configuration, so that nothing that writes or shows a
configuration can write or show them. `without_login` takes user and password out of a URL. It keeps
them in this process and, by an environment variable, in the processes that it starts, such as the
jobs of a sweep.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from interp_by_construction.shown import hide

KEYS = {"labeler": "IBC_LABELER_API_KEY", "judge": "IBC_JUDGE_API_KEY"}
"""Group -> the environment variable that holds the API key of its endpoints."""
VARIABLE = "IBC_URL_LOGINS"
"""JSON: `http://host:port` -> `user:password`."""
SECRET_VARIABLES = (*KEYS.values(), VARIABLE)
"""What a program that needs no endpoint need not inherit."""
_URL = re.compile(r"(\w+://)([^\s/?#'\"<>]*)@([^\s/?#'\",]+)")
"""Scheme, user and password, and host with port."""


def without_login(url: str) -> str:
    """The URL without user and password, which are kept for `login_of`. Also of each URL in a list
    of a sweep."""
    return _URL.sub(_kept, url)


def _kept(found: re.Match[str]) -> str:
    scheme, login, host = found.groups()
    os.environ[VARIABLE] = json.dumps(_logins() | {_place(scheme + host): login})
    _hide(login)
    return f"{scheme}{host}"


def login_of(url: str) -> tuple[str, str] | None:
    """User and password for a URL that `without_login` gave."""
    login = _logins().get(_place(url))
    if login is None:
        return None
    _hide(login)
    user, _, password = (unquote(part) for part in login.partition(":"))
    return user, password


def key_ways(group: str) -> str:
    """How a key is given, in words."""
    return f"set the environment variable {KEYS[group]}, or {group}.api_key_file=FILE"


def without_logins(arguments: Sequence[str]) -> list[str]:
    """A command line whose URLs of endpoints have no user and password. Other arguments stay."""
    pairs = (argument.partition("=") for argument in arguments)
    return [
        f"{key}={without_login(value)}" if is_url(key) else f"{key}{separator}{value}"
        for key, separator, value in pairs
    ]


def is_url(key: str) -> bool:
    """Whether an override with this key gives the URL of an endpoint."""
    group, _, name = key.lstrip("+").partition(".")
    return group in ("labeler", "judge") and name in ("url", "classify_url")


def _hide(login: str) -> None:
    user, colon, password = login.partition(":")
    for secret in (password if colon else user, unquote(password)):
        hide(secret)


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _logins() -> dict[str, str]:
    return dict(json.loads(os.environ.get(VARIABLE, "{}")))
