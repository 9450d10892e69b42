"""Laws of a command line: text is what was typed, `~` is the home directory everywhere, and what a
machine is called changes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from interp_by_construction.cli import main
from interp_by_construction.config import compose, user_path
from interp_by_construction.config.paths import PATH_FIELDS
from interp_by_construction.config.typed import as_typed, quoted, text_fields
from interp_by_construction.engine import environment
from interp_by_construction.errors import ConfigError, IbcError
from interp_by_construction.llm.user_cache import cache_dir

TYPED = [
    *("plain.txt", "my data (v2).txt", "epoch=3-step=10.txt", "müller.txt", "数据.txt", "a#1.txt"),
    *(
        "R&D.txt",
        "part[1].txt",
        "it's.txt",
        'say "x".txt',
        "a,b.txt",
        "back\\slash",
        "end\\",
        "\\'",
    ),
    *(
        "2024_05",
        "1e3",
        "007",
        "true",
        "Null",
        "nan",
        ".5",
        "{a: 1}",
        "a: b",
        " lead",
        "a|b",
        "%$?",
    ),
]


@pytest.mark.parametrize("value", TYPED)
def test_text_is_what_was_typed(value: str) -> None:
    assert compose([f"data.path={value}", "data.kind=text"]).data.path == value
    assert compose([f"data.path={quoted(value)}", "data.kind=text"]).data.path == value


def test_other_fields_and_what_is_quoted_are_hydras() -> None:
    for argument in (
        "layer=[0,1]",
        "align.weight=1e-3",
        "data=text",
        "-m",
        "run='a b'",
        "run=null",
    ):
        assert as_typed([argument]) == [argument]
    assert compose(["run=${data.name}", "seed=1_0"]).run_name == "stories"
    assert {"run", "judge.model", "trigger.phrase"} | PATH_FIELDS <= text_fields()
    assert not {"layer", "schedule", "data.kind", "continue.steps"} & text_fields()


def test_in_a_sweep_commas_separate_values() -> None:
    assert (
        as_typed(["-m", "data.path=a.txt,b(1).txt,'c,d'"])[1] == "data.path=a.txt,'b(1).txt','c,d'"
    )
    assert as_typed(["-m", "data.path=choice(a,b)"])[1] == "data.path=choice(a,b)"
    assert as_typed(["-m", "run=2024_05", "seed=1,2"])[1:] == ["run='2024_05'", "seed=1,2"]
    with pytest.raises(ConfigError, match="run=a,b: a sweep has one name"):
        as_typed(["-m", "run=a,b"])


def test_home_is_the_same_for_all_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cfg = compose(
        ["paths.root=~/ibc", "simulate.head=~/h", "labeler.model=~/m", "trigger.phrase=~/x"]
    )
    assert cfg.paths.root == f"{tmp_path}/ibc" and cfg.runs_dir == (tmp_path / "ibc/runs").resolve()
    assert (cfg.simulate.head, cfg.labeler.model) == (f"{tmp_path}/h", f"{tmp_path}/m")
    assert cfg.trigger.phrase == "~/x"
    assert user_path("~no such user", "x") == Path("~no such user")


@pytest.mark.parametrize("command", ["status", "show", "verify"])
def test_a_run_is_found_below_home_whatever_its_name(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ibc" / "runs" / "lr=1 (b)").mkdir(parents=True)
    with pytest.raises(SystemExit) as left:
        main([command, "lr=1 (b)", "paths.root=~/ibc"])
    assert left.value.code == 2
    assert f"not found in {tmp_path}/ibc/runs" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([command, "lr=2", "paths.root=~/ibc"])
    assert "lr=2: unknown option" in capsys.readouterr().err


def test_a_user_without_an_entry_has_a_name_and_is_told_to_set_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uid: Any) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "USER", "IBC_CACHE"):
        monkeypatch.delenv(name, raising=False)
    environment.name_user()
    assert os.environ["USER"] == f"user{os.getuid()}"
    with pytest.raises(IbcError, match="set IBC_CACHE=DIR"):
        cache_dir()
    with pytest.raises(ConfigError, match=r"paths\.root=~/x: .*set HOME"):
        compose(["paths.root=~/x"])
    monkeypatch.setenv("IBC_CACHE", str(tmp_path))
    environment.name_user()
    assert Path.home() == tmp_path and cache_dir() == tmp_path


def test_a_schedulers_variables_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import pytorch_lightning as pl
    from pytorch_lightning.utilities import rank_zero_only

    from interp_by_construction.engine.one_process import one_process

    given = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "ibc", "SLURM_NTASKS": "4", "SLURM_PROCID": "2"}
    given |= {"SLURM_LOCALID": "2", "SLURM_NODEID": "1", "SLURM_NNODES": "2", "LOCAL_RANK": "2"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    monkeypatch.setattr(rank_zero_only, "rank", 2)
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "logger": False}
    trainer = pl.Trainer(accelerator="cpu", devices=1, plugins=one_process(), **quiet)
    assert (trainer.world_size, trainer.global_rank, trainer.local_rank) == (1, 0, 0)
    assert rank_zero_only.rank == 0
