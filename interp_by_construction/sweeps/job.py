"""What Hydra calls for a run and for each job of a sweep, in this process or a launcher's."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from functools import cache
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp_by_construction.config import from_dict, register_resolvers
from interp_by_construction.errors import ConfigError, IbcError
from interp_by_construction.report.mirror import log_result
from interp_by_construction.shown import plain
from interp_by_construction.sweeps.record import SweepDirectory

BAD_INPUT, BUG = 2, 1
"""Exit codes."""
PARENT_SECONDS = 0.5

# Processes of launchers resolve Hydra's folders before they call the task.
register_resolvers()


class Task:
    """Hydra's task function. Launchers send a copy to their processes, so the outcome of a job is
    the value that the call returns."""

    def __init__(self) -> None:
        self.entered = False
        """Whether Hydra could compose the configuration."""
        self.code = 0
        """Exit code of all that was run."""

    def __call__(self, composed: DictConfig) -> int:
        """Runs one job, or a single run; returns its exit code."""
        self.entered = True
        hydra_config = HydraConfig.get()
        # As they were typed: a `${...}` of theirs is no setting of Hydra's.
        overrides = cast(list[str], OmegaConf.to_container(hydra_config.overrides.task))
        try:
            values = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
        except OmegaConfBaseException as error:
            # A `${...}` that leads nowhere.
            why = str(error).partition("\n")[0]
            typed = ConfigError(f"{error.full_key}: {why}; give a value, or the name of a setting")
            sys.stderr.write(f"ibc: {typed}\n")
            self.code = BAD_INPUT
            return self.code
        if hydra_config.mode == RunMode.MULTIRUN:
            if hydra_config.runtime.choices.get("hydra/launcher") == "joblib":
                end_with_parent()
            sweep = SweepDirectory.of(values)
            number = sweep.number(overrides)
            # Another sweeper than ours plans no jobs.
            number = int(hydra_config.job.num) if number is None else number
            return _job(values, overrides, sweep, number)
        self.code = _run(values, overrides)
        return self.code


@cache
def end_with_parent() -> None:
    """Ends this process soon after its parent ends. Otherwise joblib's workers would go on and keep
    the servers up. Nothing is lost, since every stage resumes."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _run(values: Any, overrides: list[str]) -> int:
    try:
        cfg = from_dict(values, overrides)
        # Imports torch, which help and mistakes in the configuration need not wait for.
        from interp_by_construction import pipeline
        from interp_by_construction.report.closing import close_run

        run = pipeline.run(cfg)
        close_run(run)
        log_result(cfg, run)
    except IbcError as error:
        sys.stderr.write(f"ibc: {error}\n")
        return BAD_INPUT
    return 0


def _job(values: Any, overrides: list[str], sweep: SweepDirectory, number: int) -> int:
    """Runs one job. If it fails, the reason is recorded and the other jobs go on."""
    try:
        cfg = from_dict(values, overrides)
        from interp_by_construction import pipeline

        log_result(cfg, pipeline.run(cfg, f"{sweep.path.name}/{number}"))
    except IbcError as error:
        code, text = BAD_INPUT, str(error)
    except Exception:
        code, text = BUG, plain(traceback.format_exc())
    else:
        return 0
    sweep.fail(number, text)
    sys.stderr.write(f"ibc: job {sweep.path.name}/{number} failed: {text}\n")
    return code
