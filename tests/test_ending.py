"""What a finished run says: one screen, the same facts in report and terminal, whatever the run."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_run import copy_of, draw_nothing
from rich.console import Console
from rich.text import Text

from interp_by_construction.engine.rows import read_rows
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.report import closing, ending_text
from interp_by_construction.report.closing import close_run
from interp_by_construction.report.ending import Ending, ending_of, layers_named
from interp_by_construction.report.ending_text import closing_lines, ending_lines, two_lines
from interp_by_construction.report.excerpt_lines import excerpt_lines
from interp_by_construction.report.facts import RunFacts, examples, node_rows, score_of
from interp_by_construction.report.html import write_report
from interp_by_construction.report.loss_chart import loss_bars
from interp_by_construction.report.viewed import VIEWED, find_viewer
from interp_by_construction.report.viewer import build_viewer

Rows = list[dict[str, Any]]
Change = Callable[[dict[str, Any], Rows], None]


@pytest.fixture(scope="module")
def facts(shared_run: tuple[Path, RunDirectory]) -> RunFacts:
    _, run = shared_run
    return RunFacts(run, run.finished_summary(), run.store)


def screen(color: bool, width: int = 100) -> Console:
    kind: Any = "truecolor" if color else None
    return Console(
        file=io.StringIO(), force_terminal=color, color_system=kind, width=width, highlight=False
    )


def shown(out: Console) -> list[str]:
    file = out.file
    assert isinstance(file, io.StringIO)
    return [Text.from_ansi(line).plain for line in file.getvalue().splitlines()]


def changed(facts: RunFacts, change: Change | None) -> Ending:
    """The ending of the run with another summary and other rows."""
    summary, rows = copy.deepcopy(facts.summary), node_rows(facts.directory)
    records = {
        layer: {
            record["node"]: record for record in read_rows(build_viewer(facts, layer).path / VIEWED)
        }
        for layer in facts.layers
    }
    if change is not None:
        change(summary, rows)
    for layer in summary["layers"]:
        records.setdefault(layer["layer"], records[1])
    return ending_of(dataclasses.replace(facts, summary=summary), rows, records)


def twelve_layers(summary: dict[str, Any], rows: Rows) -> None:
    one, ones = summary["layers"][0], [row for row in rows if row["layer"] == 1]
    summary["layers"] = [one | {"layer": layer} for layer in range(12)]
    rows[:] = [row | {"layer": layer} for layer in range(12) for row in ones]


def without_work(summary: dict[str, Any], rows: Rows) -> None:
    summary["work"] = None


def without_intervals(summary: dict[str, Any], rows: Rows) -> None:
    summary["loss"]["tax_ci95"] = None
    summary["layers"] = summary["layers"][:1]
    for each in summary["layers"][0]["score"].values():
        each["ci95"] = None
    for each in summary["work"]["ablation"].values():
        each["ci95"] = None


def undefined(summary: dict[str, Any], rows: Rows) -> None:
    for layer in summary["layers"]:
        for each in layer["score"].values():
            each |= {"mean": None, "ci95": None, "n_undefined": 4, "n": 0}
    for row in rows:
        row["score_final"] = None


def nothing_aligned(summary: dict[str, Any], rows: Rows) -> None:
    undefined(summary, rows)
    for layer in summary["layers"]:
        layer |= {"n_aligned": 0, "n_free": layer["n_nodes"]}
    summary["align"]["control"] = "no_alignment"


def long_labels(summary: dict[str, Any], rows: Rows) -> None:
    for row in rows:
        row["label"] = (
            row["label"] and "words of old kings and their many queens in the tales, " * 2
        )


def labels_with_markup(summary: dict[str, Any], rows: Rows) -> None:
    for row in rows:
        row["label"] = row["label"] and "[bold]x[/bold] [link=a]y\n\x1b[2Jz"


def everything(summary: dict[str, Any], rows: Rows) -> None:
    """All facts that there are."""
    long_labels(summary, rows)
    summary["align"]["distill"] = 1.0
    truth = {"r_mean": 0.81}
    rise = {"loss": 3.9, "loss_before": 3.8}
    for layer in summary["layers"]:
        layer |= {"truth": truth, "dictionary": rise, "n_failed_labels": 17}
        layer["score"]["final"]["n_undefined"] = 3
    models = [("original", None), ("align", 1), ("continue", 1), ("continue", 2), ("control", 2)]
    summary["trigger"] = {
        "rows": [
            {"role": role, "layer": layer, "ablated": None, "with": {"greedy": 0.1 * i}}
            for i, (role, layer) in enumerate(models)
        ]
    }


def broken(summary: dict[str, Any], rows: Rows) -> None:
    everything(summary, rows)
    summary["invariants"]["frozen_identical"] = False


CHANGES: list[Change | None] = [
    None,
    twelve_layers,
    without_work,
    without_intervals,
    undefined,
    nothing_aligned,
    long_labels,
    labels_with_markup,
    everything,
    broken,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: getattr(each, "__name__", "as it is"))
@pytest.mark.parametrize("color", [True, False], ids=["terminal", "piped"])
def test_the_ending_fits_on_one_screen(facts: RunFacts, change: Change | None, color: bool) -> None:
    ending, out, run = changed(facts, change), screen(color), facts.directory
    ending_text.show_ending(out, ending, run, run.path / "report" / "index.html")
    lines = shown(out)
    assert len(lines) <= 30 and max(len(line) for line in lines) <= 100
    text = " ".join(" ".join(lines).split())
    assert ending.sentence in text and all(fact.text in text for fact in ending.facts)
    assert "ibc verify small" in text and "report/index.html" in text
    n_shown = sum(line.startswith("L") for line in lines)
    # Where all facts stand, and a warning, little room is left.
    wanted = {everything: 3, broken: 2}.get(change, 5)
    assert n_shown == len(ending.neurons) or n_shown >= wanted
    assert not any("\x1b" in line for line in lines)


def test_the_numbers_are_those_of_the_summary(facts: RunFacts) -> None:
    ending, loss = changed(facts, None), facts.summary["loss"]
    said = {fact.name: fact.text for fact in ending.facts}
    assert ending.sentence.startswith("small: 8 of the 64 neurons of layers 1 and 2 of the model ")
    for key in ("original", "final", "control"):
        assert f"{loss[key]:.3f}" in said["loss"]
    assert f"{loss['tax']:+.4f} [{loss['tax_ci95'][0]:+.4f}, " in said["tax"]
    for moment in ("final", "before", "shuffled"):
        assert f"{score_of(facts.summary, moment):.2f}" in said["score"]
    whole = facts.summary["work"]["ablation"]["all_mean"]["loss_increase"]
    assert f"{whole:.4f} [" in said["MLPs"] and "Attention" in said["MLPs"]
    bars = {bar.name: bar for bar in ending.bars}
    assert bars["control"].over == 0 and bars["after"].over == loss["tax"]
    assert bars["after, without these MLPs"].loss == loss["final"] + whole
    assert "work.enabled=true" in changed(facts, without_work).facts[2].text
    assert len(changed(facts, without_work).bars) == 3
    assert "no interval" in changed(facts, without_intervals).facts[1].text


@pytest.mark.parametrize(
    ("control", "said"),
    [("shuffled", "labels of others"), ("random", "random targets"), (None, "trained to follow.")],
)
def test_a_control_says_that_it_is_one(facts: RunFacts, control: str | None, said: str) -> None:
    def change(summary: dict[str, Any], rows: Rows) -> None:
        summary["align"]["control"] = control

    sentence = changed(facts, change).sentence
    assert said in sentence and ("This run is a control" in sentence) == (control is not None)
    assert "none of the 64" in changed(facts, nothing_aligned).sentence


def test_neurons_are_spread_from_the_best_to_the_worst() -> None:
    rows = [{"layer": 1, "node": i, "score_final": None if i % 3 else i / 100} for i in range(90)]
    scores = [row["score_final"] for row in examples(rows)]
    assert scores == sorted(scores, reverse=True) and len(scores) == 5
    assert (scores[0], scores[-1]) == (0.87, 0.0)
    assert [row["node"] for row in examples(rows[:7])] == [6, 3, 0]


def test_report_and_terminal_say_the_same(facts: RunFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    ending = changed(facts, None)
    page = write_report(facts.store.root.parent, "small").read_text()
    opening = page[page.index('id="made"') : page.index('id="layers"')]
    assert ending.sentence in opening and str(loss_bars(ending.bars)) in opening
    for fact in ending.facts:
        assert fact.text.replace("'", "&#39;") in opening
    assert opening.count('<figure class="excerpt"') == len(ending.neurons) == 5
    for each in ending.neurons:
        assert f'href="nodes/L{each.layer}/{each.node}.html"' in opening


@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize("width", [1, 12, 60])
def test_both_lines_of_an_excerpt_show_the_same_text_and_fit(width: int, color: bool) -> None:
    tokens = ["Once", " upon", " a", " time", " the", " king", "'s", " daughter", "\n", " [x]"]
    record = {
        "tokens": tokens,
        "peak": 5,
        "real": [0.0, 0.1, 0.2, 0.9, 0.0, 1.0, 0.6, 0.5, -1.0, 0.3],
        "simulated": [0.0] * 5 + [0.4] * 5,
    }
    found = excerpt_lines(record, 1.0, width, color)
    assert list(found) == ["real", "simulated"]
    real, simulated = (line.plain for line in found.values())
    assert max(line.cell_len for line in found.values()) <= width
    if color:
        assert real == simulated
    if width > 6:
        assert "king" in real and "king" in simulated
    if width == 60 and color:
        assert real == "Once upon a time the king's daughter⏎ [x]"
    assert list(excerpt_lines(record | {"simulated": None}, 1.0, width, color)) == ["real"]


def test_long_labels_take_two_lines() -> None:
    out = screen(False)
    for label in ("kings", "kings and queens of the old tales", "w" * 200, "王" * 60, ""):
        lines = two_lines(out, label, 26)
        assert [line.cell_len for line in lines] == [28, 28]
        assert ("…" in lines[1].plain) == (len(label) > 52)


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ([3], "layer 3"),
        ([1, 2], "layers 1 and 2"),
        ([0, 1, 2, 3], "layers 0 to 3"),
        ([1, 3, 7], "layers 1, 3 and 7"),
        ([*range(6), 9], "7 layers"),
    ],
)
def test_layers_are_named_shortly(layers: list[int], named: str) -> None:
    assert layers_named(layers) == named


def test_the_viewer_is_found_without_its_stage(facts: RunFacts) -> None:
    for layer in facts.layers:
        found = find_viewer(facts, layer)
        assert found is not None and found.fingerprint == build_viewer(facts, layer).fingerprint
    other = RunFacts(facts.directory, facts.summary, facts.store)
    function = dataclasses.replace(facts.config.function, n_promoted=3)
    other.__dict__["config"] = dataclasses.replace(facts.config, function=function)
    assert find_viewer(other, 1) is None


@pytest.mark.parametrize("error", [ValueError("no such thing"), KeyboardInterrupt()])
def test_a_run_without_its_report_is_finished_all_the_same(
    facts: RunFacts,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing(*_: Any) -> None:
        raise error

    run = copy_of(facts.directory, "unviewed")
    monkeypatch.setattr(closing, "build_viewer", failing)
    close_run(run)
    said = capsys.readouterr()
    assert "unviewed: 8 of the 64" in said.out and "`ibc report unviewed` writes it" in said.err
    assert ("no such thing" in said.err) == isinstance(error, ValueError)
    assert "report   ibc report unviewed" in said.out and said.out.count("\nL") == 5
    assert not (run.path / "report").exists()


def test_the_end_of_a_run_writes_the_report(
    facts: RunFacts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless it has very many nodes."""
    draw_nothing(monkeypatch)
    run = copy_of(facts.directory, "closed")
    monkeypatch.setattr(closing, "MAX_PAGES", 63)
    close_run(run)
    assert "report   ibc report closed" in capsys.readouterr().out
    monkeypatch.setattr(closing, "MAX_PAGES", 64)
    monkeypatch.chdir(run.store.root.parent)
    close_run(run)
    out = capsys.readouterr().out
    page = Path(next(line for line in out.splitlines() if line.startswith("report")).split()[1])
    assert page.is_file() and "\nnext     ibc show closed " in out and "\nnext     cd" not in out
    best = changed(facts, None).neurons[0]
    said = [line.plain for line in closing_lines(changed(facts, None), run, None, 100)]
    assert f"next     ibc show closed {best.layer} {best.node}" in said[1]


def test_a_narrow_terminal_shows_fewer_neurons_and_no_longer_ending(facts: RunFacts) -> None:
    ending, out = changed(facts, None), screen(True, 72)
    lines = ending_lines(out, ending, closing_lines(ending, facts.directory, None, 72))
    assert len(lines) <= 30 and max(line.cell_len for line in lines) <= 72
