"""Bad input: exit code 2, a message that names the value and the fix, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from interp_by_construction.cli import main


def ibc(
    *arguments: str, cwd: Path | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    command = [sys.executable, "-m", "interp_by_construction", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


@dataclass(frozen=True)
class Here:
    """The commands in this process, which has imported torch already."""

    path: Path
    """The working directory."""
    captured: pytest.CaptureFixture[str]

    def refused(self, *arguments: str) -> str:
        """The error of a command that ends with code 2."""
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        error = self.captured.readouterr().err
        assert ended.value.code == 2, error
        return error


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(tmp_path, capsys)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["runn"], ["runn", "run, status"]),
        (["run", "colour=red"], ["colour"]),
        (["run", "seed=${nosuch}"], ["seed", "nosuch"]),
        (["run", "experiment=nope"], ["nope", "demo"]),
        (["run", "layer=-1"], ["layer=-1", "all"]),
        (["run", "layer=two"], ["layer=two"]),
        (["run", "layer=1.5"], ["layer=1.5"]),
        (["run", "layer=[]"], ["layer"]),
        (["run", "layer=1", "start_layer=2"], ["start_layer=2", "layer=1"]),
        (["run", "align.weight=-1"], ["align.weight=-1", ">= 0"]),
        (["run", "align.weight=nan"], ["align.weight=nan", "finite"]),
        (["run", "align.steps=many"], ["align.steps=many", "integer"]),
        (["run", "align.schedule=ramp"], ["align.schedule=ramp", "constant"]),
        (["run", "-m", "schedule=joint,hybrid"], ["schedule=hybrid", "schedule=joint"]),
        (["run", "nodes.select=best"], ["nodes.select=best", "variance"]),
        (["run", "data=text"], ["data.path"]),
        (["run", "data=text", "data.path=/no/such/file"], ["/no/such/file"]),
        (["run", "subject=hf", "subject.path=/no/such/model"], ["/no/such/model"]),
        (["run", "run=../evil"], ["../evil"]),
        (["status", "nope"], ["nope", "none yet"]),
        (["status"], ["RUN"]),
        (["verify", "nope"], ["nope"]),
        (["export", "nope", "output=x"], ["nope"]),
        (["export", "nope", "outptu=x"], ["outptu", "output"]),
        (["simulate", "input=missing.jsonl", "output=o.jsonl"], ["missing.jsonl"]),
        (["simulate", "output=o.jsonl"], ["input"]),
        (
            ["simulate", "input=i.jsonl", "output=o.jsonl", "simulator=ridge"],
            ["simulator=ridge", "exact", "head"],
        ),
        (
            ["run", "nodes.assign=match", "simulate.simulator=ridge"],
            ["nodes.assign=match", "simulate.simulator=ridge", "head"],
        ),
        (
            ["run", "simulate.simulator=head", "simulate.head=/no/such.safetensors"],
            ["simulate.head=/no/such.safetensors"],
        ),
        (["serve", "kind=magic"], ["magic", "generate"]),
    ],
)
def test_bad_input(arguments: list[str], named: list[str], here: Here) -> None:
    error = here.refused(*arguments)
    for name in named:
        assert name in error


def test_a_refused_command_ends_with_code_2_and_no_traceback(tmp_path: Path) -> None:
    result = ibc("run", "layer=-1", cwd=tmp_path)
    assert result.returncode == 2 and "layer=-1" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("content", "named"),
    [(b"", "no text"), (b"\x00\x01\x02binary" * 99, "not text"), (b"one short line", "tokens")],
)
def test_unusable_text(content: bytes, named: str, here: Here) -> None:
    (here.path / "text.txt").write_bytes(content)
    assert named in here.refused("run", "data=text", "data.path=text.txt", "logger=none")


def test_unsupported_architecture_lists_the_supported_ones(here: Here) -> None:
    from transformers import BertConfig, BertForMaskedLM

    small = BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        vocab_size=16,
    )
    BertForMaskedLM(small).save_pretrained(here.path / "bert")
    assert "bert" in here.refused("run", "subject=hf", "subject.path=bert", "logger=none").lower()


def test_endpoint_that_is_not_there(here: Here) -> None:
    (here.path / "in.jsonl").write_text('{"label": "animals", "tokens": ["a", " dog"]}\n')
    assert "127.0.0.1:9" in here.refused(
        "simulate",
        "input=in.jsonl",
        "output=out.jsonl",
        "labeler=endpoint",
        "labeler.classify_url=http://127.0.0.1:9",
        "labeler.retries=0",
    )


def test_help_and_status_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom interp_by_construction.cli import main\n"
        "try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "sys.exit(bool({{'torch', 'transformers', 'pytorch_lightning', 'vllm'}} & set(sys.modules)))"
    )
    for arguments in (["--help"], ["status", "nope"]):
        subprocess.run(
            [sys.executable, "-c", code.format(arguments=arguments)],
            check=True,
            cwd=tmp_path,
            capture_output=True,
        )


def test_configuration_is_the_same_from_any_directory(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    for place in (here.path, Path("/")):
        monkeypatch.chdir(place)
        main(["run", "--cfg", "job", "--resolve", "experiment=demo"])
        shown.append(here.captured.readouterr().out)
    assert shown[0] == shown[1] and "pretrain_steps" in shown[0]
