"""Files, names and texts of strangers: no code of theirs runs, nothing is written outside the root,
and nothing steers a terminal, a spreadsheet or a page."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
from pathlib import Path

import pytest
import torch
from rich.table import Table
from rich.text import Text
from test_project import PACKAGE
from tiny_subjects import random_model

from interp_by_construction.cli import main
from interp_by_construction.config import compose
from interp_by_construction.engine.console import PlainConsole
from interp_by_construction.engine.run_directory import find_runs, place_of
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError, IbcError, StoreError, SubjectError
from interp_by_construction.report.charts import svg, text
from interp_by_construction.report.site import environment
from interp_by_construction.report.trees import tree
from interp_by_construction.shown import cell, excerpt, visible
from interp_by_construction.subject.load import load_subject, source_tokenizer
from interp_by_construction.sweeps.record import SweepDirectory

ESC, BIDI = "\x1b]0;owned\x07\x1b[2J", "\u202ecod.exe\u2066"


def test_no_checkpoint_may_bring_code() -> None:
    """Said at every place, so that no setting of the environment or later default changes it."""
    silent = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
        and not any(
            each.arg == "trust_remote_code" and ast.unparse(each.value) == "False"
            for each in node.keywords
        )
    ]
    assert not silent


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def test_neither_pickles_nor_code_of_a_checkpoint_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "subject"
    code = f"import os; os.mkdir({str(mark)!r})\n"
    random_model("gpt2").save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    autos = {
        "AutoConfig": "trap.C",
        "AutoModelForCausalLM": "trap.M",
        "AutoTokenizer": ["trap.T", None],
    }
    (path / "trap.py").write_text(code)
    (path / "config.json").write_text(json.dumps(config | {"auto_map": autos}))
    (path / "tokenizer_config.json").write_text(json.dumps({"auto_map": autos}))
    # A known family is read by transformers' own code, whatever the checkpoint brings.
    assert load_subject(path).config.model_type == "gpt2"
    with contextlib.suppress(SubjectError):
        source_tokenizer(str(path))
    (path / "config.json").write_text(json.dumps({"model_type": "trap", "auto_map": autos}))
    with pytest.raises(SubjectError):
        load_subject(path)
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Trap(mark)}, path / "pytorch_model.bin")
    with pytest.raises(SubjectError, match=r"weights cannot be loaded"):
        load_subject(path)
    assert not mark.exists()


NAMES = [
    "../x",
    "/tmp/x",
    "a/../../x",
    ".hidden",
    "a/.b",
    "a//b",
    "",
    "x\n",
    ESC,
    "a\\b",
    "n" * 300,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_cannot_leave_its_place(name: str, tmp_path: Path) -> None:
    for call in (
        lambda: place_of(tmp_path / "runs", name),
        lambda: find_runs(tmp_path / "runs", name),
        lambda: SweepDirectory.of({"run": name or ".", "paths": {"root": str(tmp_path)}}),
    ):
        with pytest.raises(ConfigError, match="give a plain name") as error:
            call()
        assert "\x1b" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_links_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "big").mkdir()
    # The folder of all runs may be on another disk.
    (tmp_path / "runs").symlink_to(tmp_path / "big")
    assert place_of(tmp_path / "runs", "sweep/3") == tmp_path / "runs" / "sweep" / "3"
    (tmp_path / "big" / "x").symlink_to(tmp_path / "elsewhere")
    for name in ("x", "x/3"):
        with pytest.raises(ConfigError, match="is a link that leads out"):
            place_of(tmp_path / "runs", name)
    for stage, fingerprint in (("..", "x"), ("label", "../../x"), ("/tmp", "0a"), ("label", "")):
        with pytest.raises(StoreError, match="is no artifact"):
            Store(tmp_path / "store").path(stage, fingerprint)


@pytest.mark.parametrize("mode", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_nothing_is_written_for_a_run_elsewhere(
    mode: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "root").mkdir()
    monkeypatch.chdir(tmp_path / "root")
    with pytest.raises(SystemExit) as ended:
        main(["run", *mode, "run=../../x"])
    assert ended.value.code == 2
    assert "run=../../x: give a plain name" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_nothing_steers_the_terminal() -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    for hostile in (ESC, BIDI, "\x9b2J", "a\rb", "\ud800"):
        table = Table("label", title=hostile)
        table.add_row(Text(hostile, "red"))
        out = io.StringIO()
        console = PlainConsole(file=out, force_terminal=True, color_system="standard", width=60)
        console.print(table)
        console.print(hostile, markup=False, soft_wrap=True)
        shown = out.getvalue()
        shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        for text_shown in (shown, str(IbcError(hostile)), excerpt(hostile)):
            assert all(each.isprintable() or each in "\n\ufffd" for each in text_shown)
            assert not set(text_shown) & set("\u202e\u2066\x1b\x9b\r\ud800")


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_is_a_formula(value: str) -> None:
    assert cell(value) == f"'{value}"
    assert cell("animals") == "animals" and cell(-1.5) == -1.5 and cell(None) is None


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=x onerror=a()>', "</title><b>"]
)
def test_pages_escape_text_wherever_it_stands(hostile: str) -> None:
    page = environment().from_string('<a title="{{ x }}">{{ x }}</a>').render(x=hostile)
    tables = tree(
        {"a": hostile, hostile: {"b": hostile}, "c": [hostile], "d": [{hostile: hostile}]}
    )
    for made in (page, svg(text("s", hostile, 0, 0), 1, 1, hostile), tables):
        assert hostile not in str(made) and ("&lt;" in str(made))


def test_a_name_is_checked_in_a_configuration() -> None:
    assert compose(["run=my sweep/3"]).run == "my sweep/3"
