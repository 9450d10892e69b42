"""The end of `ibc run` on the terminal: what was made, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.report.ending import Ending, Neuron
from interp_by_construction.report.excerpt_lines import excerpt_lines
from interp_by_construction.report.painted import in_color, legend
from interp_by_construction.report.tables import one_line

WIDTH, HEIGHT = 100, 30
"""The screen that it fits on, in cells and lines."""
NAME, LABEL = 9, 26
"""Widths of the columns with names of facts, and with labels."""
CAPTION = (
    "Neurons from best to worst, on held-out text. Upper line: real. Lower line: what the label "
    "predicts."
)


def show_ending(out: Console, ending: Ending, run: RunDirectory, page: Path | None) -> None:
    """At most `HEIGHT` lines, each at most as wide as the terminal and `WIDTH`; paths alone may be
    longer. page: of the report, None where it has not been written."""
    closing = closing_lines(ending, run, page, min(out.width, WIDTH))
    for line in ending_lines(out, ending, closing):
        line.rstrip()
        out.print(line, soft_wrap=True)


def ending_lines(out: Console, ending: Ending, closing: Sequence[Text]) -> list[Text]:
    """closing: the last lines. Where the screen is too small for all neurons, some are left out."""
    width = min(out.width, WIDTH)
    head = [*Text(ending.sentence, "bold").wrap(out, width), Text()]
    for fact in ending.facts:
        head += _titled(fact.name, list(Text(fact.text).wrap(out, width - NAME)))
    every = list(_neurons(out, ending.neurons, width))
    for n in range(len(every), -1, -1):
        # The best and the worst stay.
        shown = every[: n - 1] + every[-1:] if 0 < n < len(every) else every[:n]
        middle = [Text(), *_caption(out, width), *(line for each in shown for line in each)]
        lines = [*head, *(middle if shown else []), Text(), *closing]
        while len(lines) > HEIGHT and Text() in lines:
            lines.remove(Text())
        if len(lines) <= HEIGHT:
            break
    return lines


def closing_lines(ending: Ending, run: RunDirectory, page: Path | None, width: int) -> list[Text]:
    """Where the report is, and what to do next, with words on it where they fit."""
    name, root = run.name, run.store.root.parent
    best = ending.neurons[0] if ending.neurons else None
    place = f" {best.layer} {best.node}" if best else ""
    commands = [
        (f"ibc show {name}{place}", "one neuron, with more of its text" if best else "all tables"),
        (f'ibc explain {name} "any text of yours"', "which labelled neurons it activates"),
        (f"ibc verify {name}", "recomputes hashes and results"),
    ]
    lines = _titled("report", [Text(f"ibc report {name}" if page is None else str(page))])
    if root != Path.cwd():
        lines += _titled("next", [Text(f"cd {root}")])
    column = max(len(command) for command, _ in commands) + 2
    fits = NAME + column + max(len(what) for _, what in commands) <= width
    said = [Text(f"{command:<{column}}{what}" if fits else command) for command, what in commands]
    return lines + _titled("next" if root == Path.cwd() else "", said)


def _titled(name: str, lines: Sequence[Text]) -> list[Text]:
    """The lines, indented, with a name before the first one."""
    names = [Text(f"{name:<{NAME}}", "bold"), *[Text(" " * NAME)] * (len(lines) - 1)]
    return [Text.assemble(*pair) for pair in zip(names, lines, strict=True)]


def _caption(out: Console, width: int) -> list[Text]:
    said = [CAPTION, f"{legend(in_color(out))}."]
    return [line for each in said for line in Text(each, "dim").wrap(out, width)]


def _neurons(out: Console, neurons: Sequence[Neuron], width: int) -> Iterator[list[Text]]:
    """Two lines for each; one where it has no excerpt and a short label."""
    names = [(f"L{each.layer}/{each.node}", f"r {each.score:.2f}") for each in neurons]
    before = max((len(part) for pair in names for part in pair), default=0) + 2
    for each, name in zip(neurons, names, strict=True):
        label = two_lines(out, one_line(each.label), LABEL)
        text = [Text(), Text()]
        if each.excerpt is not None:
            room = max(width - before - LABEL - 2, 1)
            text = [
                *excerpt_lines(each.excerpt, each.largest, room, in_color(out)).values(),
                Text(),
            ][:2]
        yield [
            Text.assemble((f"{name[i]:<{before}}", "dim" if i else "bold"), label[i], text[i])
            for i in (0, 1)
        ]


def two_lines(out: Console, label: str, width: int) -> list[Text]:
    """The label in two lines of `width` and two blanks; what is longer ends with an ellipsis."""
    wrapped = list(Text(label).wrap(out, width))
    lines = [*wrapped, Text(), Text()][:2]
    if len(wrapped) > 2:
        lines[1] = Text.assemble(lines[1], "…")
        lines[1].truncate(width, overflow="ellipsis")
    for line in lines:
        line.truncate(width)
        line.pad_right(width + 2 - line.cell_len)
    return lines
