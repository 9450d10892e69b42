"""Pages say what is there: their commands are understood, their links lead somewhere, and the made
ones are what the code makes. That the tutorial runs is tested in test_server_vllm.py."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_cli import Here
from test_project import COMMANDS, PACKAGE, ROOT, config_choices

import interp_by_construction
from interp_by_construction.config import compose

DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tools/README.md")),
    *sorted(DOCS.glob("*.md")),
]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FLAGS = {"-m", "--cfg", "job", "--resolve", "--help", "--help=all"}
"""What may stand beside settings in `ibc run`."""
HEREDOC = re.compile(r"^python - <<'END'\n(.*?)^END$", flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks, also those inside lists."""
    fenced = rf"^ *```{language}\n(.*?)^ *```$"
    return re.findall(fenced, page.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Page and words of each command in a bash block, without comments and Python programs. Those
    of tools/README.md have a test of their own."""
    for page in PAGES:
        for block in blocks(page, "bash") if page.parent.name != "tools" else []:
            for line in HEREDOC.sub("", block).replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield str(page.relative_to(ROOT)), words


def programs() -> Iterator[tuple[str, str]]:
    """Page and text of each Python program."""
    for page in PAGES:
        within = [text for block in blocks(page, "bash") for text in HEREDOC.findall(block)]
        for text in (*blocks(page, "python"), *within):
            yield str(page.relative_to(ROOT)), text


@pytest.mark.parametrize(("page", "words"), list(commands()), ids=str)
def test_a_command_is_understood(
    page: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Make targets and extras exist. `ibc` takes the command up to where it misses the run."""
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{words[1]}:", makefile, flags=re.MULTILINE)
    elif words[0] == "pip":
        extras = re.findall(r"\.\[([\w-]+)\]", " ".join(words))
        assert set(extras) <= PROJECT["optional-dependencies"].keys()
    elif words[0] == "ibc":
        assert words[1] in COMMANDS
        if words[1] in ("run", "serve", "bench"):
            compose(settings_of(words[2:]))
        else:
            monkeypatch.chdir(tmp_path)
            error = Here(tmp_path, capsys).refused(*words[1:])
            assert re.search("not found in|no such file", error)
    else:
        assert words[0] in ("source", "pre-commit"), f"{page}: no test knows `{' '.join(words)}`"


def settings_of(arguments: list[str]) -> list[str]:
    """What a command composes; of a sweep the first job, without its launcher."""
    settings = [each for each in arguments if each not in (*FLAGS, "truth")]
    assert all("=" in each for each in settings)
    if launchers := [each for each in settings if each.startswith("hydra/launcher=")]:
        package = launchers[0].partition("=")[2].partition("_")[0]
        assert f'"hydra-{package}-launcher>' in (ROOT / "pyproject.toml").read_text()
    own = ("kind=", "planted=", "simulator=", "hydra")
    settings = [each for each in settings if not each.startswith(own)]
    if "-m" in arguments:
        settings = [re.sub(r"=([^,\[]+),.*", r"=\1", each) for each in settings]
    return settings


@pytest.mark.parametrize(("page", "text"), list(programs()))
def test_a_program_is_python(page: str, text: str) -> None:
    """And it imports from this package only what is there."""
    for node in ast.walk(compile(text, page, "exec", ast.PyCF_ONLY_AST)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, each.name) for each in node.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_the_tests_that_keep_a_promise_are_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", (DOCS / "reliability.md").read_text()))
    assert len(named) > 15 and not [name for name in sorted(named) if not (ROOT / name).is_file()]


def test_the_readme_is_short_and_names_every_choice_and_target() -> None:
    assert len(README.splitlines()) <= 150
    for group, choice in config_choices():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{group}`"))
        assert f"`{choice}`" in row, f"README's table misses {group}={choice}"
    shown = [words for page, words in commands() if page == "README.md"]
    for target in ("setup", "demo", "test", "lint", "bench", "clean"):
        assert ["make", target] in shown


def test_made_pages_are_what_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts" / "write_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in module.pages().items():
        assert (DOCS / name).read_text() == text, f"{name}: run `make docs`"


def said_by_the_package() -> str:
    """All text in its code, with `...` for what is put in, one piece a line."""
    pieces = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                pieces.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", None) for part in node.values]
                pieces.append("".join(p if isinstance(p, str) else "..." for p in parts))
    return "\n".join(pieces)


def test_messages_that_questions_name_are_in_the_code() -> None:
    text = (DOCS / "questions.md").read_text()
    headings = re.findall(r"^### (.*`.*)$", text, flags=re.MULTILINE)
    messages = [m for heading in headings for m in re.findall("`([^`]*)`", heading) if " " in m]
    assert len(messages) > 20
    said = said_by_the_package()
    assert not [message for message in messages if message not in said]


def test_the_citation_and_the_yaml_files_are_well_formed() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == interp_by_construction.__version__
    assert (
        citation["license"] == PROJECT["license"] and citation["abstract"] == PROJECT["description"]
    )
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    for reference in citation["references"]:
        assert {"type", "title", "authors", "url"} <= reference.keys()
    workflow: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert all(
        (3, 11) <= tuple(map(int, each.split("."))) < (3, 15)
        for each in job["strategy"]["matrix"]["python"]
    )
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"], "hooks need no network"
    entries = [hook["entry"].split()[0] for repo in hooks for hook in repo["hooks"]]
    assert set(entries) <= {".venv/bin/ruff", ".venv/bin/mypy"}


TINY = (
    "nodes.count=4 subject.adapt_steps=5 align.local_steps=3 align.steps=3 align.batch_size=2 continue.steps=3 "
    "continue.batch_size=2 simulate.n_score_tokens=32 simulate.excerpt_tokens=16 simulate.n_label_tokens=640 "
    "simulate.n_head_score_tokens=512 simulate.max_align_tokens=640 label.head_select_tokens=640 "
    "label.general_pool=false label.min_tokens=0 evaluate.max_test_blocks=4 evaluate.n_bootstrap=50 "
    "collect.max_blocks=16 function.n_clamp_tokens=640 trainer.checkpoint_seconds=0"
)
"""Stands behind each `ibc run` of the tutorial when it is tested."""


def tutorial(more: str) -> Iterator[list[str] | str]:
    """The exercise's commands in their order: the words behind `ibc`, or a program for Python.
    `more` is added to each run. What `make` sets up is there already."""
    exercise = (DOCS / "tutorial.md").read_text().partition("\n## Beyond the exercise")[0]
    for block in re.findall(r"^```bash\n(.*?)^```$", exercise, flags=re.MULTILINE | re.DOTALL):
        # HEREDOC has one group: every second part is a program.
        for number, part in enumerate(HEREDOC.split(block)):
            if number % 2:
                yield part
                continue
            for line in part.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["ibc"]:
                    yield words[1:] + (more.split() if words[1] == "run" else [])
                else:
                    assert words[:1] in ([], ["make"], ["source"]), line
