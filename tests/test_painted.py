"""Painted texts: shades on a terminal, brackets in a file."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from interp_by_construction.report.painted import HOT, STEPS, legend, painted

TOKENS = ["The", " king", "s", " sat", "\n"]


def test_without_colour_strong_tokens_stand_in_brackets_and_weaker_ones_in_parentheses() -> None:
    text = painted(TOKENS, [0.0, 4.0, 2.0, 1.0, 9.0], top=4.0, color=False)
    assert text.plain == "The [king][s] (sat)[⏎]" and not text.spans
    assert "brackets" not in legend(True) and "[token]" in legend(False)


def test_colour_grows_with_the_value_and_leaves_the_words_as_they_are() -> None:
    text = painted(TOKENS, [0.0, 0.2, 0.5, 0.99, 7.0], top=1.0, color=True)
    assert text.plain == "The kings sat⏎"
    shades = [span.style.bgcolor.triplet for span in text.spans if not isinstance(span.style, str)]
    assert [text.plain[span.start : span.end] for span in text.spans] == [" king", "s", " sat", "⏎"]
    greens = [shade[1] for shade in shades]
    assert greens == sorted(greens, reverse=True) and shades[-1] == HOT
    assert len(set(shades)) == 3 < STEPS


@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize("values", [[0.0] * 5, [-3.0] * 5, [math.nan] * 5])
@pytest.mark.parametrize("top", [1.0, 0.0, -1.0])
def test_what_is_not_positive_is_not_painted(color: bool, values: list[float], top: float) -> None:
    text = painted(TOKENS, values, top, color)
    assert text.plain == "The kings sat⏎" and not text.spans


def test_markup_and_control_characters_of_the_text_do_nothing() -> None:
    tokens = ["[bold]", "\x1b[2J", " [/x]", "\t"]
    text = painted(tokens, [0.0] * 4, 1.0, color=False)
    file = io.StringIO()
    Console(file=file, width=80).print(text)
    assert file.getvalue() == "[bold]�[2J [/x] \n"


def test_every_token_has_a_value() -> None:
    with pytest.raises(ValueError, match="zip"):
        painted(TOKENS, [1.0], 1.0, color=True)
