"""What a newcomer touches first: configs, help, wheel, set-up, import times, direction of
imports. The pages have tests of their own in `test_docs`."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "interp_by_construction"
COMMANDS = (
    "run",
    "status",
    "show",
    "verify",
    "report",
    "explain",
    "export",
    "gc",
    "simulate",
    "bench",
    "serve",
)
REQUIRED = {
    ("subject", "hf"): ["subject.path=some/model"],
    ("data", "text"): ["data.path=some/text.txt"],
    ("labeler", "endpoint"): [
        "labeler.url=http://127.0.0.1:1",
        "labeler.classify_url=http://127.0.0.1:2",
    ],
}
"""What a choice needs beside itself."""


def config_choices() -> list[tuple[str, str]]:
    files = sorted((ROOT / "conf").glob("*/*.yaml"))
    return [(file.parent.name, file.stem) for file in files if file.parent.name != "hydra"]


def test_help_names_every_command() -> None:
    command = [sys.executable, "-m", "interp_by_construction", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert not [name for name in COMMANDS if not re.search(rf"\b{name}\b", done.stdout)]


@pytest.mark.parametrize(("group", "choice"), config_choices())
def test_every_config_composes(group: str, choice: str) -> None:
    from interp_by_construction.config import Config, compose

    config = compose([f"{group}={choice}", *REQUIRED.get((group, choice), [])])
    assert isinstance(config, Config)
    if group == "logger":
        assert config.logger.kind == choice


def test_wheel_holds_package_configs_and_data(tmp_path: Path) -> None:
    """Built outside the repository, so that a build leaves nothing behind."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", ".gitignore"):
        shutil.copy(ROOT / name, source)
    for name in ("conf", "hydra_plugins", "interp_by_construction"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(tmp_path / "dist"),
    ]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    data = [
        file
        for kind in ("gz", "safetensors", "tsv", "json", "txt", "md", "html", "css", "js")
        for file in PACKAGE.rglob(f"*.{kind}")
    ]
    for file in [
        *(ROOT / "conf").rglob("*.yaml"),
        *PACKAGE.rglob("*.py"),
        *(ROOT / "hydra_plugins").rglob("*.py"),
        *data,
    ]:
        relative = file.relative_to(ROOT).as_posix()
        relative = (
            f"interp_by_construction/{relative}" if relative.startswith("conf/") else relative
        )
        assert relative in names
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    assert (
        "ibc = interp_by_construction.cli:main"
        in zipfile.ZipFile(wheel).read(entry_points).decode()
    )


def test_the_package_never_prints() -> None:
    """T20, and pickle is banned: artifacts hold none. Fails when the linter is told to look away,
    too."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--select",
        "T20,TID251",
        "--ignore-noqa",
        str(PACKAGE),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


LIGHT = (
    "config",
    "errors",
    "engine.store",
    "engine.progress",
    "engine.tracking",
    "sweeps.job",
    "report.terminal",
    "report.sweep",
    "report.show",
    "cli",
)
HEAVY = ("torch", "transformers", "pytorch_lightning", "vllm")


def test_light_modules_import_nothing_heavy() -> None:
    """One after the other in one process, which says what is there after each."""
    code = (
        "import importlib, sys\n"
        f"for module in {LIGHT}:\n"
        "    importlib.import_module(f'interp_by_construction.{module}')\n"
        f"    print(module, *[heavy for heavy in {HEAVY} if heavy in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == [*LIGHT, ""]


ROOMS = [
    {"errors", "shown", "stats", "usage", "version"},
    {"config"},
    {"engine"},
    {"llm"},
    {"corpus"},
    {"subject"},
    {"truth"},
    {"simulators"},
    {"training"},
    {"scoring"},
    {"labelling"},
    {"stages"},
    {"schedules"},
    {"results"},
    {"pipeline"},
    {"loaded"},
    {"report", "explain", "export", "sweeps"},
    {"cli", "__main__"},
]
"""Data moves one way; a module imports from its own room and from those above."""


def imports(file: Path) -> list[tuple[int, str]]:
    """Line and module of every import of this package, those inside functions included."""
    name = f"{PACKAGE.name}."
    return [
        (node.lineno, (node.module or "").removeprefix(name))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(name)
    ]


def test_no_module_imports_from_a_later_room() -> None:
    rank = {name: index for index, room in enumerate(ROOMS) for name in room}
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).with_suffix("").parts[0]
        if room != "__init__":
            wrong += [
                f"{file.relative_to(ROOT)}:{line} imports {target}"
                for line, target in imports(file)
                if rank[target.split(".")[0]] > rank[room]
            ]
    assert not wrong, "\n".join(wrong)


def test_uv_is_told_what_pip_is_configured_to_do(tmp_path: Path) -> None:
    """Variables come before a file, and a file's section `install` before `global`."""
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://one.example/simple\nfind-links = /global\n"
        "extra-index-url =\n  https://two.example/simple\n  https://three.example/simple\n"
        "[install]\nfind-links = /install\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import setup as s\n"
        f"s.PYTHON = {sys.executable!r}; print(*s.uv_options(s.pip_settings()))"
    )
    environment = {"PIP_CONFIG_FILE": str(file), "PIP_CONSTRAINT": "/pins", "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    told = done.stdout.partition("unsafe-best-match ")[2].strip()
    assert told == (
        "--index-url https://one.example/simple --extra-index-url https://two.example/simple "
        "--extra-index-url https://three.example/simple --find-links /install --constraints /pins "
        "--no-index"
    )


def test_setup_is_a_no_op_where_the_stamp_fits_and_refuses_unknown_devices(tmp_path: Path) -> None:
    """On a copy with an empty environment: neither path may reach pip."""
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "setup.py", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    code = f"import sys; sys.path.insert(0, {str(Path(script).parent)!r}); import setup as s; {{}}"
    stamp = code.format("s.STAMP.write_text(s.fingerprint('cpu'))")
    subprocess.run([sys.executable, "-c", stamp], check=True)
    run = [sys.executable, script]
    done = subprocess.run(
        run, env={"IBC_DEVICE": "cpu"}, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = subprocess.run(
        run, env={"IBC_DEVICE": "tpu"}, capture_output=True, text=True, timeout=30, check=False
    )
    assert (
        done.returncode == 2 and "IBC_DEVICE=tpu" in done.stderr and "Traceback" not in done.stderr
    )
