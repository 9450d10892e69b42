"""A text whose tokens are painted by how active a node is on them, on a terminal or in a file."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.style import Style
from rich.text import Text

from interp_by_construction.report.letters import visible

STEPS = 5
"""Shades of the background, from the weakest that is shown to `top`."""
FAINT, HOT = (255, 238, 214), (224, 96, 16)
"""RGB of the weakest and of the strongest shade: the orange of the report."""
INK = "#1d1c1a"
"""Letters on a shade. Dark, as every shade is light, whatever background the terminal has."""
HALF, QUARTER = 0.5, 0.25
"""Shares of `top` from which a token stands in brackets or in parentheses."""


def painted(tokens: Sequence[str], values: Sequence[float], top: float, color: bool) -> Text:
    """The tokens in one line, each painted by its value.

    tokens: the text, cut as the model reads it; leading spaces are kept, line breaks become `⏎`.
    values: one for each token. top: the value of the strongest shade; higher ones look the same.
    color: paint backgrounds, in `STEPS` shades. Else a token whose value is at least half of `top`
    stands in [brackets], and at least a quarter in (parentheses), without its leading space.
    Values of zero and below, and NaN, are not marked. Without a positive `top` nothing is.
    Raises ValueError unless tokens and values are equally many.
    """
    text = Text()
    for token, value in zip(tokens, values, strict=True):
        share = value / top if top > 0 else 0.0
        visible = _visible(token)
        if color:
            text.append(visible, _shade(share))
        else:
            text.append(_marked(visible, share))
    return text


def in_color(out: Console) -> bool:
    """Whether `out` shows backgrounds: a terminal with colours, and no `NO_COLOR`."""
    return out.is_terminal and out.color_system is not None and not out.no_color


def legend(color: bool) -> str:
    """One line that says how to read what `painted` shows."""
    if color:
        return "the darker a token's background, the more active the neuron is on it"
    return "[token]: at least half of the neuron's largest value, (token): at least a quarter"


def _shade(share: float) -> Style | None:
    step = _step(share)
    if step == 0:
        return None
    mix = (step - 1) / (STEPS - 1)
    red, green, blue = (
        round(low + mix * (high - low)) for low, high in zip(FAINT, HOT, strict=True)
    )
    return Style(color=INK, bgcolor=f"rgb({red},{green},{blue})")


def _step(share: float) -> int:
    """0 for nothing, else 1 to `STEPS`. Comparisons with NaN are false, so it is nothing."""
    if not share > 0:
        return 0
    return min(int(share * (STEPS + 1)), STEPS)


def _marked(token: str, share: float) -> str:
    brackets = "[]" if share >= HALF else "()" if share >= QUARTER else None
    if brackets is None or not token.strip():
        return token
    word = token.lstrip(" ")
    return token[: len(token) - len(word)] + brackets[0] + word + brackets[1]


def _visible(token: str) -> str:
    """The token on one line."""
    lines = token.replace("\r\n", "⏎").replace("\n", "⏎").replace("\t", " ")
    return visible(lines)
