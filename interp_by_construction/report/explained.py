"""`ibc explain` on the terminal: the labelled neurons that a text activates, real beside
simulated."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from interp_by_construction.loaded.explanation import Explanation, Firing
from interp_by_construction.report.painted import in_color, legend, painted
from interp_by_construction.report.tables import console
from interp_by_construction.subject.nodes import shown_at

INDENT = 13
"""Characters before a painted text."""


def show_explanation(run: str, found: Explanation) -> None:
    """Two painted lines for each neuron. Of a long text they show what is around its strongest
    token."""
    out = console()
    for line in _head(run, found):
        out.print(line, markup=False, soft_wrap=True)
    if found.firings:
        out.print(legend(in_color(out)), markup=False, soft_wrap=True)
    for each in found.firings:
        _show(out, found.tokens, each)
    of_layers = _layers(found.layers)
    out.print(
        f"\n{found.n_free_strong} free neurons of {of_layers} reach half of their largest activation.",
        markup=False,
        soft_wrap=True,
    )


def _head(run: str, found: Explanation) -> list[str]:
    n, of_layers = len(found.firings), _layers(found.layers)
    read = f"The final model of {run} reads {len(found.tokens)} tokens."
    if not found.n_labelled:
        return [f"{read} No neuron of {of_layers} has a label."]
    if not n:
        return [f"{read} None of the {found.n_labelled} labelled neurons of {of_layers} is active."]
    return [
        f"{read} Of {found.n_labelled} labelled neurons of {of_layers}, these {n} are the most active.",
        "The percentage compares a neuron's strongest token here with its largest activation on "
        f"{found.n_held_out:,} tokens of held-out text.",
        "real: its activation. simulated: what its label alone predicts, brought to the same scale.",
    ]


def _layers(layers: Sequence[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


def _show(out: Console, tokens: Sequence[str], each: Firing) -> None:
    color = in_color(out)
    head = Text(f"\nL{each.layer}/{each.node}  ")
    head.append(each.label, "bold")
    token = tokens[shown_at(tokens, each.strongest)].strip()
    head.append(f"  {each.share:.0%} on {token!r}")
    out.print(head, soft_wrap=True)
    part = around(tokens, each.strongest, out.width - INDENT - 2)
    for name, values in (("real", each.real), ("simulated", each.simulated)):
        line = Text(f"  {name:<{INDENT - 2}}")
        line.append("…" if part.start else "")
        line.append(painted(tokens[part], values[part].tolist(), each.largest, color))
        line.append("…" if part.stop < len(tokens) else "")
        out.print(line, soft_wrap=True)


def around(tokens: Sequence[str], position: int, room: int) -> slice:
    """As many tokens around `position` as fit into `room` characters, at least that one. The window
    grows by turns to the left and to the right."""
    start, stop, used = position, position + 1, len(tokens[position])
    grown = True
    while grown:
        grown = False
        for left in (True, False):
            more = start - 1 if left else stop
            if 0 <= more < len(tokens) and used + len(tokens[more]) <= room:
                start, stop = (more, stop) if left else (start, more + 1)
                used, grown = used + len(tokens[more]), True
    return slice(start, stop)
