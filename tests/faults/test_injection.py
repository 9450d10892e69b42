"""Labels, tokens, names of models and names of runs that mean something to a page or a terminal do
there what letters do: the pages have the tags and attributes of a harmless twin, no control
character reaches the terminal, and no cell is a formula."""

from __future__ import annotations

import csv
import functools
import json
import logging
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults.campaign import drawn
from faults.hostile import TABLES, TEXTS, harmless
from matplotlib.figure import Figure
from report_run import draw_nothing
from stock import Stock

from interp_by_construction.cli import main
from interp_by_construction.config.group import is_plain_name
from interp_by_construction.config.run import LoggerConfig
from interp_by_construction.engine.chatter import run_log
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import MANIFEST
from interp_by_construction.engine.tracking import log_table, tracked
from interp_by_construction.loaded.explanation import Explanation, Firing
from interp_by_construction.report.closing import close_run
from interp_by_construction.report.explained import show_explanation
from interp_by_construction.report.figures import write_figures
from interp_by_construction.report.pareto import Point
from interp_by_construction.shown import visible

AT_ONCE = 8
"""So many labels and tokens are planted for one report. Names of models hold all of them."""
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Bidirectional classes that turn the direction of writing."""
MARKS = "\u200e\u200f\u061c"
COLOR = re.compile(r"\x1b\[[0-9;]*m")
SHOWN = ("title", "aria-label", "data-tip", "d", "points", "x", "y", "class")
"""Attributes that hold text, or places of text."""


class Planted:
    """A finished run whose texts can be replaced."""

    def __init__(self, run: RunDirectory) -> None:
        self.run, self.root = run, run.path.parents[1]
        # The heads stay where they are when the run's folder is moved.
        config = run.path / "config.yaml"
        for name in ("head.safetensors", "second.safetensors"):
            head = self.root.with_name(name)
            (self.root / name).rename(head)
            config.write_text(config.read_text().replace(str(self.root / name), str(head)))
        store = self.root / "store"
        stages = ("label", "assign", "audit", "function", "viewer")
        rows = [file for stage in stages for file in sorted((store / stage).rglob("*.jsonl"))]
        files = [*rows, run.path / "summary.json", run.path / "lines.json"]
        self.files = {file: file.read_text(encoding="utf-8") for file in files}
        self.table = pq.read_table(run.path / "nodes.parquet")
        labels = [row["label"] for row in self.table.to_pylist() if row["label"]]
        proposed = [json.loads(line)["text"] for file in rows if file.name == "history.jsonl"
                    for line in self.files[file].split("\n") if line]  # fmt: skip
        self.labels = list(dict.fromkeys([*labels, *(each for each in proposed if each)]))
        """Every label and proposal, those of aligned nodes first."""
        self.places = [
            (str(row["layer"]), str(row["node"]))
            for row in self.table.to_pylist()
            if row["status"] == "aligned"
        ]

    def plant(self, labels: Sequence[str], tokens: Sequence[str], model: str) -> None:
        """Puts texts in the place of labels, of all tokens, and of the names of models."""
        by_label = {old: labels[i % len(labels)] for i, old in enumerate(self.labels)}
        change = functools.partial(_planted, by_label, tokens, model)
        for file, text in self.files.items():
            if file.suffix == ".jsonl":
                lines = [json.dumps(change(json.loads(line))) for line in text.split("\n") if line]
                file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
                _fit(file)
            else:
                file.write_text(json.dumps(change(json.loads(text))), encoding="utf-8")
        rows = [_whole(change(row)) for row in self.table.to_pylist()]
        new = pa.Table.from_pylist(rows, schema=self.table.schema)
        pq.write_table(new, self.run.path / "nodes.parquet")


def _planted(labels: dict[str, str], tokens: Sequence[str], model: str, value: Any) -> Any:
    """A JSON value with other texts in it."""
    again = functools.partial(_planted, labels, tokens, model)
    if isinstance(value, str):
        return labels.get(value, value)
    if isinstance(value, list):
        return [again(each) for each in value]
    if not isinstance(value, dict):
        return value
    new = {key: again(each) for key, each in value.items()}
    for key in ("tokens", "top_tokens", "promotes", "suppresses"):
        if isinstance(new.get(key), list):
            new[key] = [tokens[i % len(tokens)] for i in range(len(new[key]))]
    for key, name in (("labeler", "model"), ("subject", "name")):
        if isinstance(new.get(key), dict) and name in new[key]:
            new[key][name] = model
    # Lines of a run's stages.
    if "subject" in new and isinstance(new["subject"], list):
        new["subject"] = [model]
    return new


def _fit(file: Path) -> None:
    """Writes the size of a changed file into its manifest."""
    manifest = json.loads((file.parent / MANIFEST).read_text())
    manifest["files"][file.name]["bytes"] = file.stat().st_size
    (file.parent / MANIFEST).write_text(json.dumps(manifest))


def _whole(value: Any) -> Any:
    """Without halves of characters, which a table cannot hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return {k: _whole(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.fixture(scope="module")
def planted(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(stock.viewed(tmp_path_factory.mktemp("planted")))


@pytest.fixture(autouse=True)
def in_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide terminal with colours, and without figures, which take longer than all the rest."""
    draw_nothing(monkeypatch)
    for name, value in (
        ("FORCE_COLOR", "1"),
        ("TTY_INTERACTIVE", "0"),
        ("TERM", "xterm-256color"),
        ("COLUMNS", "250"),
    ):
        monkeypatch.setenv(name, value)


# What is compared.


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[tuple[str, str], ...]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kept = ((name, "" if name in SHOWN else str(value)) for name, value in attrs)
        self.found.append((tag, tuple(kept)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", ()))

    def handle_decl(self, decl: str) -> None:
        self.found.append(("declaration", ()))

    def handle_pi(self, data: str) -> None:
        self.found.append(("instruction", ()))


def structure(report: Path) -> dict[str, Any]:
    """Tags and attributes of each page, without text."""
    pages = sorted(report.rglob("*.html"))
    assert pages
    return {
        page.relative_to(report).as_posix(): _Tags(page.read_text(encoding="utf-8")).found
        for page in pages
    }


def steering(text: str) -> set[str]:
    """The characters of a text that steer a terminal, beside colours, line breaks and tabs."""
    return {
        each
        for each in set(COLOR.sub("", text)) - {"\n", "\t"}
        if unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(each) in TURNS
        or each in MARKS
    }


def literal(text: str, said: str) -> bool:
    """Whether a text stands in what was said as it is. Texts that are changed or cut on purpose
    count as if they did."""
    short = "".join(text.split())
    if not text.isprintable() or len(text) > 60:
        return True
    return short in "".join(COLOR.sub("", said).split())


def said_amiss(texts: Sequence[str], said: str, plain: str) -> Iterator[str]:
    """What is wrong with what was said of texts. plain: what was said of their twins."""
    if "its report is not" in said:
        yield f"no report with {texts}: {said[said.index('its report is not') :]}"
    if marks := steering(said):
        yield f"{marks!r} of {texts} reach the terminal"
    if colors := set(COLOR.findall(said)) - set(COLOR.findall(plain)):
        yield f"{texts} paint {colors!r}"
    yield from (f"{text!r} is not shown as it is" for text in texts if not literal(text, said))


# Labels, tokens and models.


def _said(planted: Planted, capsys: pytest.CaptureFixture[str], texts: Sequence[str]) -> str:
    """What the commands say of the run, with an explanation and a line of the log."""
    root = f"paths.root={planted.root}"
    close_run(planted.run)
    for command in ("show", "status"):
        main([command, planted.run.name, root])
    for place in planted.places:
        main(["show", planted.run.name, *place, root])
    tokens = [*texts, "end"]
    values = np.linspace(1, 0, len(tokens), dtype=np.float32)
    firings = [
        Firing(1, i, each, "aligned", i, 1.0, values, values) for i, each in enumerate(texts)
    ]
    show_explanation(texts[0], Explanation(tokens, firings, [1], len(texts), 0, 100))
    with run_log(planted.run.log):
        for each in texts:
            logging.getLogger("interp_by_construction.strangers").warning("said: %s", each)
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_texts_are_letters_to_pages_and_terminals(
    planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = drawn(TEXTS, 4)
    faults = []
    for first in range(0, len(texts), AT_ONCE):
        batch = texts[first : first + AT_ONCE]
        twins = [harmless(each) for each in batch]
        planted.plant(twins, twins, "/".join(twins))
        plain = _said(planted, capsys, twins)
        expected = structure(planted.run.path / "report")
        planted.plant(batch, batch, "/".join(batch))
        said = _said(planted, capsys, batch)
        found = structure(planted.run.path / "report")
        other = [page for page in expected if found.get(page) != expected[page]]
        faults += [f"{page} has another structure with {batch}" for page in other]
        faults += said_amiss(batch, said, plain)
    assert not faults, "\n".join(faults)


# Names of runs and folders.


def names() -> list[str]:
    """Without options, and without halves of characters, which no command line can hold."""
    return [text for text in TEXTS if not text.startswith("-") and _whole(text) == text]


def _called(
    run: RunDirectory, name: str, capsys: pytest.CaptureFixture[str]
) -> tuple[str, dict[str, Any]]:
    """What the commands say of a copy under another name, in a folder of that name, and the
    structure of its pages."""
    root = run.path.parents[1]
    away = root.with_name(f"in {name.replace('/', '-')}"[:100])
    root.rename(away)
    copy = away / "runs" / name
    try:
        shutil.copytree(away / "runs" / run.name, copy)
        for command in ("show", "status", "report"):
            main([command, name, f"paths.root={away}", *_few_pages(command)])
        pages = structure(copy / "report")
    finally:
        shutil.rmtree(away / "runs" / name.split("/")[0], ignore_errors=True)
        away.rename(root)
    captured = capsys.readouterr()
    return captured.out + captured.err, pages


def _few_pages(command: str) -> list[str]:
    return ["nodes=labelled"] if command == "report" else []


def test_names_are_letters_to_pages_and_terminals(
    planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.plant(["animals"], ["a"], "model")
    shutil.rmtree(planted.run.path / "report", ignore_errors=True)
    faults = []
    for name in drawn(names(), 2):
        if is_plain_name(name):
            plain, expected = _called(planted.run, harmless(name), capsys)
            said, found = _called(planted.run, name, capsys)
            faults += [f"another structure with {name!r}"] if found != expected else []
            faults += said_amiss([name], said, plain)
        elif marks := steering("".join(_refused(planted.root, name, capsys))):
            faults.append(f"{marks!r} of {name!r} reach the terminal")
    assert not faults, "\n".join(faults)


def _refused(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """What the commands say of a name that no run can have: one line."""
    for command in ("status", "show", "report", "verify", "run"):
        given = f"run={name}" if command == "run" else name
        with pytest.raises(SystemExit) as ended:
            main([command, given, f"paths.root={root}"])
        said = capsys.readouterr().err
        assert ended.value.code == 2 and "Traceback" not in said, (command, name)
        yield said


def test_names_are_letters_to_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    legends: list[str] = []

    def drawn_only(figure: Figure, file: Path, **_: Any) -> None:
        figure.draw_without_rendering()
        legend = figure.axes[0].get_legend() or figure.legends[0]
        legends.extend(each.get_text() for each in legend.get_texts())

    monkeypatch.setattr(Figure, "savefig", drawn_only)
    for name in drawn([text for text in TEXTS if text and len(text) < 200], 6):
        point = Point(name, "", 0.1, None, 0.5, None, None, None, (), "", "")
        legends.clear()
        write_figures([point], [], tmp_path)
        assert legends and {each.removeprefix(" _") for each in legends} == {
            visible(name).removeprefix("_")
        }, repr(name)


# Tables.


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path) -> None:
    """Whatever a spreadsheet drops or reads as something else at the beginning of a cell."""
    texts = drawn([*TABLES, *(text for text in TEXTS if text not in TABLES)], 40)
    config = LoggerConfig(kind="csv")
    with tracked(config, "small", "evaluate", 1, tmp_path, {}) as logger:
        log_table(logger, "nodes", ["label", *texts], [[text, *texts] for text in texts])
    (file,) = tmp_path.rglob("nodes.csv")
    with file.open(newline="", encoding="utf-8") as stream:
        cells = [each for row in csv.reader(stream) for each in row]
    assert len(cells) == (len(texts) + 1) ** 2
    begins = {
        each: unicodedata.normalize("NFKC", "".join(filter(str.isprintable, each))).lstrip()
        for each in cells
    }
    formulas = [each for each, begin in begins.items() if begin.startswith(("=", "+", "-", "@"))]
    assert not formulas
