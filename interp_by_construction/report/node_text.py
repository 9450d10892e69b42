"""One node of a finished run on the terminal. Light to import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from interp_by_construction.report.excerpt_lines import excerpt_lines
from interp_by_construction.report.facts import RunFacts
from interp_by_construction.report.label_source import label_source
from interp_by_construction.report.layer_view import LayerView
from interp_by_construction.report.node_scores import MOMENTS, TRUTH_TEXT, ScoreRow, score_rows
from interp_by_construction.report.painted import in_color, legend
from interp_by_construction.report.tables import one_line, or_dash
from interp_by_construction.report.viewed import neighbours_of

HEIGHT, WIDTH = 60, 100
"""At most so many lines and cells are printed."""
NAME = 12
"""Width of the column of names."""
N_SCORES, N_EDGES = 8, 3
GROUPS = (
    ("top", "strongest", "where it is most active", 4),
    ("simulated", "label", "where its label predicts most", 3),
    ("differs", "differences", "where it differs most from what its label predicts", 3),
)
"""Kind of an excerpt, name, meaning, and how many are shown."""
Labels = Mapping[tuple[int, int], str | None]
"""(Layer, node) -> label."""


def show_node(out: Console, facts: RunFacts, view: LayerView, node: int, labels: Labels) -> None:
    """Label, where it comes from, scores, excerpts, effects and neighbours, in at most `HEIGHT`
    lines. labels: of all nodes of the run."""
    lines = [
        *_head(out, view, node),
        *_scores(view, node),
        *_excerpts(out, view, node),
        *_effects(facts, view, node, labels),
    ]
    page = facts.path / "report" / "nodes" / f"L{view.layer}" / f"{node}.html"
    more = str(page) if page.is_file() else f"`ibc report {facts.name}` makes a page for it"
    for line in lines[: HEIGHT - 1]:
        line.truncate(min(out.width, WIDTH), overflow="ellipsis")
        out.print(line, soft_wrap=True)
    out.print(_named("page", more), soft_wrap=True)


def _named(name: str, text: str | Text) -> Text:
    return Text.assemble((f"{name:<{NAME}}", "bold"), text)


def _head(out: Console, view: LayerView, node: int) -> Iterator[Text]:
    row, viewer = view.rows[node], view.viewer[node]
    status = {"aligned": "labelled", "failed": "failed: no label", "free": "free: no label"}
    title = f"L{view.layer}/{node}  "
    label = "" if row["label"] is None else f"{one_line(row['label'])}  "
    yield Text.assemble((title + label, "bold"), (f"({status[row['status']]})", "dim"))
    source = Text(one_line(label_source(view, node))).wrap(out, min(out.width, WIDTH) - NAME)
    yield from (_named("" if i else "source", line) for i, line in enumerate(source[:3]))
    if row["pole"] == -1:
        yield _named("sign", "its label describes its negative activations, shown as positive here")
    n = sum(viewer["histogram"])
    yield _named(
        "activity", f"{viewer['low']:g} to {viewer['high']:g} on {n:,} tokens of held-out text"
    )


def _scores(view: LayerView, node: int) -> Iterator[Text]:
    row = view.rows[node]
    if row["status"] != "aligned":
        return
    found = [each for each in score_rows(row, view.titles) if each.defined]
    wide = max((len(_by(each)) for each in found[:N_SCORES]), default=0)
    yield _named("scores", " " * wide + "".join(f"{moment:>10}" for moment in MOMENTS))
    for each in found[:N_SCORES]:
        values = (
            f"{or_dash(each.moments[moment]) if moment in each.moments else '':>10}"
            for moment in MOMENTS
        )
        yield _named("", f"{_by(each):<{wide}}{''.join(values)}")
    if len(found) > N_SCORES:
        yield _named("", f"{len(found) - N_SCORES} more on the page")
    truth = [f"{what} “{row[name]}”" for name, what in TRUTH_TEXT.items() if row.get(name)]
    if truth:
        yield _named("", f"ground truth: {', '.join(truth)}")


def _by(score: ScoreRow) -> str:
    return f"{score.name} ({score.by})" if score.by else score.name


def _excerpts(out: Console, view: LayerView, node: int) -> Iterator[Text]:
    viewer, color = view.viewer[node], in_color(out)
    labelled = view.rows[node]["status"] == "aligned"
    how = "Upper line: the neuron. Lower line: what its label predicts. " if labelled else ""
    yield Text()
    yield Text(f"Held-out text. {how}Numbers: at the peak.", "dim")
    yield Text(legend(color), "dim")
    for kind, name, meaning, n in GROUPS:
        found = [each for each in viewer["excerpts"] if each["kind"] == kind][:n]
        if found:
            yield _named(name, Text(meaning, "dim"))
        for each in found:
            room = min(out.width, WIDTH) - NAME
            lines = excerpt_lines(each, viewer["largest"], room, color)
            for which, line in lines.items():
                value = each[which][each["peak"]]
                yield Text.assemble((f"{value:>{NAME - 2}.3g}  ", "dim"), line)


def _effects(facts: RunFacts, view: LayerView, node: int, labels: Labels) -> Iterator[Text]:
    yield Text()
    promoted = view.promoted.get(node)
    for key in ("promotes", "suppresses") if promoted else ():
        assert promoted is not None
        yield _named(key, ", ".join(one_line(each) or repr(each) for each in promoted[key]))
    beside = neighbours_of(facts, view.layer)
    sides: Sequence[tuple[str, str, str]] = (
        ("below", "incoming", "reads from"),
        ("above", "outgoing", "writes to"),
    )
    for side, edges, name in sides:
        for i, (other, weight) in enumerate(view.viewer[node][edges][:N_EDGES]):
            label = one_line(labels.get((beside[side], other)) or "")
            text = f"L{beside[side]}/{other}  {label}  ({weight:+.2g})"
            yield _named("" if i else name, text)
