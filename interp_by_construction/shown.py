"""What may be shown of text that others have made, on the terminal, in logs and in tables.

Labels, tokens, file names and the replies of servers are such text. Errors, consoles, logs and CSV
files pass it through the functions of this file:

1. `without_secrets` leaves out API keys, and the user and password in a URL.
2. `visible` makes characters visible that would steer a terminal or turn the direction of writing.
3. `page` does so for a page of HTML, where fewer characters steer.
4. `cell` keeps a spreadsheet from reading a text as a formula.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

HIDDEN = "***"
"""Stands where a secret stood."""
LOGIN = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")
"""User and password of a URL, with the @ behind them."""
LEAST_SECRET = 4
"""Characters. Shorter ones also occur in other words, and protect nothing."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a cell begins that a spreadsheet may compute."""
_C0 = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}
_TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Marks that turn the direction of all that stands behind them."""
_STEERING = (0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *_TURNING)
"""Marks that change the direction of writing or end a line."""
_HALVES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
"""Halves of characters, which no file can hold."""
_C1 = dict.fromkeys(range(0x80, 0xA0), "\ufffd")
_VISIBLE = {**_C0, 0x7F: "\u2421", **_C1, **_HALVES, **dict.fromkeys(_STEERING, "\ufffd")}
_ON_PAGES = {**_C0, 0x7F: "\u2421", **_C1, **_HALVES, **dict.fromkeys(_TURNING, "\ufffd")}
_secrets: set[str] = set()


def hide(secret: str) -> None:
    """From now on `without_secrets` leaves this text out, wherever it stands."""
    if len(secret) >= LEAST_SECRET:
        _secrets.add(secret)


def without_secrets(text: str) -> str:
    """The text without all that `hide` got, and without users and passwords in URLs."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return LOGIN.sub("", text)


def visible(text: str) -> str:
    """The text with one visible character for each control character, bidirectional mark and half
    of a character. Line breaks and tabs stay."""
    return text.translate(_VISIBLE)


def page(html: str) -> str:
    """A page with one visible character for each that HTML cannot hold, and for each mark that
    turns what stands behind a label. Marks of single letters stay."""
    return html.translate(_ON_PAGES)


def plain(text: str) -> str:
    """Without secrets, and visible."""
    return visible(without_secrets(text))


def excerpt(text: str, length: int = 300) -> str:
    """The beginning of what a server said, as part of one line."""
    return plain(" ".join(text[: 4 * length].split()))[:length]


def cell(value: Any) -> Any:
    """A value as a cell of a CSV file: a text that a spreadsheet might compute gets an apostrophe
    before it, as https://owasp.org/www-community/attacks/CSV_Injection says.

    Spreadsheets leave out characters without a shape, and read wide letters as their plain ones.
    """
    if not isinstance(value, str):
        return value
    text = value.translate(_HALVES)
    begin = "".join(each for each in text if each.isprintable()).lstrip()[:1]
    begins = (text, unicodedata.normalize("NFKC", begin))
    return f"'{text}" if any(each.startswith(FORMULA) for each in begins) else text
