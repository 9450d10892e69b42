"""Hydra's sweeper for `ibc run -m`: plans the jobs, hands them to the launcher, and shows how they
ended.

It differs from Hydra's own in four ways: controls beside the grid (`grid.py`), jobs that keep their
numbers and are recorded before the first one starts (`record.py`), failures that do not stop the
others, and one labeler server for all jobs of a machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from interp_by_construction.config import Config, LabelerConfig, from_dict
from interp_by_construction.errors import IbcError
from interp_by_construction.llm.backend import ServerKind
from interp_by_construction.llm.server import managed_server, stop_servers
from interp_by_construction.report.mirror import log_sweep
from interp_by_construction.report.sweep import show_sweep
from interp_by_construction.shown import plain, without_secrets
from interp_by_construction.sweeps.grid import expand
from interp_by_construction.sweeps.job import BAD_INPUT, BUG, Task
from interp_by_construction.sweeps.record import SweepDirectory


class GridSweeper(Sweeper):
    """See conf/hydra/sweeper/grids.yaml."""

    def __init__(
        self,
        max_batch_size: int | None,
        params: Mapping[str, Any],
        also: Sequence[Mapping[str, Any]],
    ) -> None:
        self.max_batch_size = max_batch_size
        self.params = params
        self.also = also
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.task: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before `sweep`."""
        self.hydra_context, self.config, self.task = hydra_context, config, task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[int]:
        """Exit code of each job, in the order of the grid."""
        assert self.config is not None and self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        jobs = expand(self.params, self.also, arguments, parser)
        configs = [config for job in jobs if (config := self._compose(job)) is not None]
        try:
            sweep = SweepDirectory.of(_values(self.config))
        except IbcError as error:
            sys.stderr.write(f"ibc: {error}\n")
            return self._ended([BAD_INPUT])
        directory = Path(self.config.hydra.sweep.dir)
        directory.mkdir(parents=True, exist_ok=True)
        written = without_secrets(OmegaConf.to_yaml(self.config))
        (directory / "multirun.yaml").write_text(written, encoding="utf-8")
        numbers = sweep.plan(jobs)
        with _servers_kept(configs):
            codes = self._launch(jobs, numbers, sweep)
        self._ended(codes)
        show_sweep(sweep)
        if configs:
            try:
                log_sweep(configs[0], sweep)
            except IbcError as error:
                # The results are on disk, so this error does not fail the sweep.
                sys.stderr.write(f"ibc: {error}\n")
        return codes

    def _ended(self, codes: list[int]) -> list[int]:
        if isinstance(self.task, Task):
            self.task.entered = True
            self.task.code = BUG if BUG in codes else max(codes, default=0)
        return codes

    def _compose(self, job: list[str]) -> Config | None:
        """The job's configuration; None for an invalid one, which the job itself reports.

        Raises Hydra's errors for unknown names before anything is run.
        """
        assert self.hydra_context is not None and self.config is not None
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(job))
        try:
            return from_dict(_values(composed), job)
        except IbcError:
            return None

    def _launch(
        self, jobs: list[list[str]], numbers: list[int], sweep: SweepDirectory
    ) -> list[int]:
        size = self.max_batch_size or max(1, len(jobs))
        codes: list[int] = []
        for first in range(0, len(jobs), size):
            batch = slice(first, first + size)
            codes += self._launch_batch(jobs[batch], first, numbers[batch], sweep)
        return codes

    def _launch_batch(
        self, jobs: list[list[str]], first: int, numbers: list[int], sweep: SweepDirectory
    ) -> list[int]:
        """Exit code of each job. If one process of a launcher is killed, all its jobs end. Those
        that have no error then run again one by one."""
        assert self.launcher is not None
        try:
            returns = self.launcher.launch(jobs, initial_job_idx=first)
        except Exception as error:
            reason = f"its process ended without a result ({type(error).__name__}: {error})"
            if len(jobs) == 1:
                sweep.fail(numbers[0], plain(reason))
                return [BUG]
            sys.stderr.write(
                f"ibc: a job of {sweep.path.name} was lost, {plain(reason)}; going on job by job\n"
            )
            codes = []
            for index, (job, number) in enumerate(zip(jobs, numbers, strict=True)):
                if sweep.error(number) is not None:
                    codes.append(BUG)
                else:
                    # What is done already is found in the store.
                    codes += self._launch_batch([job], first + index, [number], sweep)
            return codes
        return [
            self._code(result, number, sweep)
            for result, number in zip(returns, numbers, strict=True)
        ]

    def _code(self, result: Any, number: int, sweep: SweepDirectory) -> int:
        try:
            return int(result.return_value or 0)
        except Exception as error:
            # Hydra itself failed before the job, which catches all errors of its own.
            sweep.fail(number, plain(f"{type(error).__name__}: {error}"))
            return BUG


def _values(composed: DictConfig) -> dict[str, Any]:
    own = composed.copy()
    with open_dict(own):
        own.pop("hydra", None)
    values = OmegaConf.to_container(own, resolve=True)
    return cast(dict[str, Any], values)


@contextmanager
def _servers_kept(configs: Sequence[Config]) -> Iterator[None]:
    """Keeps managed servers up from the first job that starts one to the end of the sweep, also
    between the processes of two jobs. Starts none itself."""
    labelers: dict[tuple[str, Path], tuple[LabelerConfig, Path]] = {}
    for config in configs:
        for labeler in (config.labeler, config.judge):
            if labeler is not None and labeler.backend == "vllm":
                labelers[repr(labeler), config.store_dir] = labeler, config.store_dir
    try:
        for labeler, store in labelers.values():
            for kind in get_args(ServerKind):
                managed_server(kind, labeler, store.parent / "runs", store).hold()
    except IbcError:
        # A model that is not there: the jobs that need it say so.
        pass
    try:
        yield
    finally:
        stop_servers()
