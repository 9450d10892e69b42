"""`ibc`: run, status, verify, report, export, simulate, bench, serve. Prints; everything else in
the package returns or raises."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interp_by_construction.errors import ConfigError, IbcError

USAGE = """\
ibc: interpretability by construction

  ibc run [OVERRIDES]           run the loop, or what is missing of it
      ibc run layer=3                     align layer 3 on top of what the run has frozen
      ibc run layer=[1,2] run=NAME        two layers; all of them: layer=all
      ibc run experiment=demo             a prepared experiment (files in conf/experiment)
      ibc run -m align.weight=0.1,1,10    a sweep; with hydra/launcher=joblib hydra.launcher.n_jobs=2 two jobs at a time
      ibc run -m experiment=tradeoff      a prepared sweep: weights, free neurons, seeds, and the controls
      ibc run --cfg job --resolve         show the configuration and stop
      ibc run --help                      every group and field, with its meaning and value
  ibc status RUN                every planned stage: done, running, missing; seconds; scores
  ibc verify RUN                recompute hashes and results, check the invariants; exit code 1 if anything differs
  ibc report RUN [nodes=labelled]
                                pages to look at, in runs/RUN/report; of a sweep, all of its jobs
  ibc export RUN at=before|after|final layer=N output=DIR
                                a plain transformers checkpoint with tokenizer, nodes.parquet and model card
  ibc simulate input=IN.jsonl output=OUT.jsonl simulator=exact|head [labeler=...]
                                {"label": str, "tokens": [str, ...]} per line -> the same with "activations"
  ibc bench truth [simulator=exact] [OVERRIDES]
                                planted nodes with a known concept: do labelling, matching and simulation recover it?
  ibc serve [labeler=...] [kind=generate|classify]
                                start a labeler server by hand

RUN is a name below runs/ in paths.root (default: the working directory; set it with paths.root=DIR).
"""


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 1 verification failed or a bug, 2 bad input (with a message
    and no traceback)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return
    command, rest = arguments[0], arguments[1:]
    commands: dict[str, Callable[[list[str]], int]] = {
        "run": _run,
        "status": _status,
        "verify": _verify,
        "report": _write_report,
        "export": _export,
        "simulate": _simulate,
        "bench": _bench,
        "serve": _serve,
    }
    try:
        if command not in commands:
            raise ConfigError(f"{command}: unknown subcommand; known are {', '.join(commands)}")
        if command != "run" and rest and rest[0] in ("-h", "--help"):
            sys.stdout.write(USAGE)
            return
        code = commands[command](rest)
    except IbcError as error:
        _report(error)
        code = 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the same command goes on where it stopped\n")
        code = 130
    if code:
        sys.exit(code)


def _report(error: IbcError) -> None:
    sys.stderr.write(f"ibc: {error}\n")


def _run(arguments: list[str]) -> int:
    """Hydra owns composition, --cfg and -m; a job gets a plain Config."""
    import hydra

    from interp_by_construction.config import compose, conf_dir, refuse_typed
    from interp_by_construction.config.describe import help_text
    from interp_by_construction.sweeps.job import Task

    if {"-h", "--help"} & set(arguments):
        config = compose([argument for argument in arguments if not argument.startswith("-")])
        sys.stdout.write(help_text(config, conf_dir()))
        return 0
    refuse_typed(arguments)
    task = Task()
    sys.argv = ["ibc run", *arguments]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
    except SystemExit as error:
        # Hydra has printed what is wrong with the overrides.
        if not task.entered and error.code not in (0, None):
            return 2
        raise
    return task.code


def _status(arguments: list[str]) -> int:
    from interp_by_construction.engine.run_directory import find_runs
    from interp_by_construction.report.terminal import show_status
    from interp_by_construction.sweeps.record import SweepDirectory

    name, options = _arguments("status", arguments, {"paths.root": "."}, "RUN")
    root = Path(options["paths.root"]).resolve()
    sweep = SweepDirectory(root / "runs" / name)
    if sweep.jobs:
        from interp_by_construction.report.sweep import show_sweep

        show_sweep(sweep)
        if all(sweep.state(job.number) in ("missing", "failed") for job in sweep.jobs):
            return 0
    for run in find_runs(root / "runs", name):
        show_status(run)
    return 0


def _verify(arguments: list[str]) -> int:
    from interp_by_construction.engine.run_directory import find_runs
    from interp_by_construction.engine.store import Store
    from interp_by_construction.pipeline import graph_of
    from interp_by_construction.results.verification import verify

    name, options = _arguments("verify", arguments, {"paths.root": "."}, "RUN")
    root = Path(options["paths.root"]).resolve()
    n_problems = 0
    for run in find_runs(root / "runs", name):
        plan = graph_of(run.config(), run.done_layers).plan() if run.done_layers else None
        problems = verify(run, Store(root / "store"), plan)
        n_problems += len(problems)
        for problem in problems:
            sys.stdout.write(f"FAILED  {problem}\n")
        if not problems:
            sys.stdout.write(f"ok      {run.name}: every hash and every invariant holds\n")
    return 1 if n_problems else 0


def _write_report(arguments: list[str]) -> int:
    from interp_by_construction.report.html import write_report

    name, options = _arguments(
        "report", arguments, {"paths.root": ".", "nodes": "all"}, "RUN_OR_SWEEP"
    )
    if options["nodes"] not in ("all", "labelled"):
        raise ConfigError(
            f"nodes={options['nodes']}: give all, or labelled to leave out the pages of free nodes"
        )
    page = write_report(Path(options["paths.root"]).resolve(), name, options["nodes"] == "labelled")
    sys.stdout.write(f"written to {page}\n")
    return 0


def _export(arguments: list[str]) -> int:
    from interp_by_construction.engine.run_directory import find_runs
    from interp_by_construction.engine.store import Store
    from interp_by_construction.export.run import export_run

    defaults = {"paths.root": ".", "at": "final", "layer": None, "output": None}
    name, options = _arguments("export", arguments, defaults, "RUN")
    if options["output"] is None:
        raise ConfigError("output: give the directory to write to, as in output=DIR")
    root = Path(options["paths.root"]).resolve()
    runs = find_runs(root / "runs", name)
    if len(runs) > 1:
        raise ConfigError(f"run {name} is a sweep; export one of its jobs, such as {runs[0].name}")
    export_run(
        runs[0], Store(root / "store"), options["at"], options["layer"], Path(options["output"])
    )
    sys.stdout.write(f"written to {options['output']}\n")
    return 0


def _simulate(arguments: list[str]) -> int:
    from interp_by_construction.config import compose
    from interp_by_construction.simulators.files import simulate_file

    own = {"input": None, "output": None, "simulator": "exact"}
    mine = [a for a in arguments if a.partition("=")[0] in own]
    _, options = _arguments("simulate", mine, own, None)
    for key in ("input", "output"):
        if options[key] is None:
            raise ConfigError(f"{key}: give a file, as in {key}=FILE.jsonl")
    cfg = compose([a for a in arguments if a not in mine])
    simulate_file(cfg, Path(options["input"]), Path(options["output"]), options["simulator"])
    return 0


def _bench(arguments: list[str]) -> int:
    from interp_by_construction.config import compose
    from interp_by_construction.report.truth_tables import show_truth
    from interp_by_construction.schedules.truth_bench import run_truth_bench

    if arguments[:1] != ["truth"]:
        raise ConfigError(f"ibc bench {' '.join(arguments[:1])}: give `ibc bench truth`")
    mine = [a for a in arguments[1:] if a.startswith("simulator=")]
    _, options = _arguments("bench", mine, {"simulator": "head"}, None)
    path, result = run_truth_bench(
        compose([a for a in arguments[1:] if a not in mine]), options["simulator"]
    )
    show_truth(result)
    sys.stdout.write(f"written to {path}\n")
    return 0


def _serve(arguments: list[str]) -> int:
    from interp_by_construction.config import compose
    from interp_by_construction.llm.server import serve

    mine = [a for a in arguments if a.startswith("kind=")]
    _, options = _arguments("serve", mine, {"kind": "generate"}, None)
    if options["kind"] not in ("generate", "classify"):
        raise ConfigError(f"kind={options['kind']}: give generate or classify")
    cfg = compose([a for a in arguments if a not in mine])
    for server in serve(options["kind"], cfg.labeler, cfg.runs_dir / ".serve" / "logs"):
        sys.stdout.write(
            f"url      {server.url}\napi key  {server.api_key}\nlog      {server.log}\nstop it with Ctrl-C\n"
        )
        sys.stdout.flush()
    return 0


def _arguments(
    command: str, arguments: list[str], defaults: dict[str, Any], positional: str | None
) -> tuple[str, dict[str, Any]]:
    """`NAME key=value ...` for the subcommands that read a run. Raises ConfigError for anything
    unknown."""
    options, names = dict(defaults), []
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator:
            names.append(argument)
        elif key in options:
            options[key] = value
        else:
            raise ConfigError(
                f"{argument}: unknown option of ibc {command}; known are {', '.join(f'{k}=' for k in defaults)}"
            )
    if positional is None:
        if names:
            raise ConfigError(f"{names[0]}: unknown argument of ibc {command}")
        return "", options
    if len(names) != 1:
        raise ConfigError(
            f"ibc {command} takes one {positional}, got {len(names)}: {' '.join(names)}"
        )
    return names[0], options
