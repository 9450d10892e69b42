"""The commands of `ibc`: each reads its arguments and calls one function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp_by_construction.config.credentials import without_logins
from interp_by_construction.config.paths import user_path
from interp_by_construction.engine.environment import name_user
from interp_by_construction.engine.stopping import Stopped, ended_by_signals
from interp_by_construction.errors import ConfigError, IbcError
from interp_by_construction.shown import plain
from interp_by_construction.usage import USAGE

if TYPE_CHECKING:
    from interp_by_construction.engine.run_directory import RunDirectory


def main(argv: list[str] | None = None) -> None:
    """Exit codes: 0 done, 1 verification failed or a bug, 2 bad input, 130 and 143 stopped by a
    signal."""
    # What is written of a command line, by Hydra, W&B and sweeps, has no passwords from here on.
    arguments = without_logins(sys.argv[1:] if argv is None else argv)
    if argv is None:
        sys.argv[1:] = arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _show_help()
        return
    if arguments[0] == "--help=all":
        arguments.insert(0, "run")
    command, rest = arguments[0], arguments[1:]
    commands: dict[str, Callable[[list[str]], int | None]] = {
        "run": _run,
        "status": _status,
        "show": _show,
        "verify": _verify,
        "report": _write_report,
        "explain": _explain,
        "export": _export,
        "gc": _gc,
        "simulate": _simulate,
        "bench": _bench,
        "serve": _serve,
    }
    try:
        if command not in commands:
            raise ConfigError(f"{command}: unknown subcommand; known are {', '.join(commands)}")
        if command != "run" and rest and rest[0] in ("-h", "--help"):
            _show_help()
            return
        name_user()
        with ended_by_signals():
            code = commands[command](rest)
    except IbcError as error:
        sys.stderr.write(f"ibc: {error}\n")
        code = 2
    except OSError as error:
        from interp_by_construction.engine.disk import refusal

        if (message := refusal(error)) is None:
            raise
        sys.stderr.write(f"ibc: {message}\n")
        code = 2
    except Stopped as stopped:
        code = stopped.code
    if code:
        sys.exit(code)


def _show_help() -> None:
    from interp_by_construction.config.describe import short_help

    sys.stdout.write(f"{USAGE}\n{short_help()}")


def _run(arguments: list[str]) -> int:
    """Hydra owns composition, --cfg and -m; a job gets a plain Config."""
    import hydra

    from interp_by_construction.config import compose, conf_dir, refuse_typed
    from interp_by_construction.config.describe import help_text
    from interp_by_construction.config.typed import as_typed
    from interp_by_construction.sweeps.job import Task

    arguments = as_typed(arguments)
    asked = [each for each in arguments if each == "-h" or each.partition("=")[0] == "--help"]
    if asked:
        if unknown := set(asked) - {"-h", "--help", "--help=all"}:
            raise ConfigError(f"{min(unknown)}: give --help, or --help=all for every setting")
        config = compose([argument for argument in arguments if not argument.startswith("-")])
        sys.stdout.write(help_text(config, conf_dir(), "--help=all" in asked))
        return 0
    refuse_typed(arguments)
    if not any(each.startswith(("-", "hydra")) for each in arguments):
        # Hydra would say what is wrong in several lines.
        compose(arguments)
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


def _status(arguments: list[str]) -> None:
    from interp_by_construction.engine.run_directory import find_runs, place_of
    from interp_by_construction.report.sweep import show_sweep
    from interp_by_construction.report.terminal import show_status
    from interp_by_construction.sweeps.record import SweepDirectory

    root, name, _ = _of_run("status", arguments)
    sweep = SweepDirectory(place_of(root / "runs", name))
    if sweep.jobs:
        show_sweep(sweep)
        if all(sweep.state(job.number) in ("missing", "failed") for job in sweep.jobs):
            return
    for run in find_runs(root / "runs", name):
        show_status(run)


def _show(arguments: list[str]) -> None:
    from interp_by_construction.report.show import show

    # Behind the run, layer and node.
    given = [i for i, argument in enumerate(arguments) if "=" not in argument]
    root, name, _ = _of_run("show", [a for i, a in enumerate(arguments) if i not in given[1:]])
    show(_only_run(root, name, "show"), [arguments[i] for i in given[1:]])


def _verify(arguments: list[str]) -> int:
    from interp_by_construction.engine.run_directory import find_runs
    from interp_by_construction.engine.store import Store

    root, name, _ = _of_run("verify", arguments)
    runs = find_runs(root / "runs", name)

    # They import torch, which a mistyped name need not wait for.
    from interp_by_construction.results.verification import notes, verify
    from interp_by_construction.schedules.plan import graph_of

    n_problems = 0
    for run in runs:
        config = run.config()
        try:
            plan = graph_of(config, run.done_layers).plan() if run.done_layers else None
        except IbcError as error:
            # Such as a model that is not there; a change of the file may be the cause.
            raise ConfigError(f"{run.path / 'config.yaml'}: {error}") from error
        problems = verify(run, Store(root / "store"), plan)
        n_problems += len(problems)
        for problem in problems:
            sys.stdout.write(f"FAILED  {plain(problem)}\n")
        if not problems:
            for note in notes(run, Store(root / "store")):
                sys.stdout.write(f"note    {note}\n")
            sys.stdout.write(f"ok      {run.name}: every hash and every invariant holds\n")
    return 1 if n_problems else 0


def _write_report(arguments: list[str]) -> None:
    from interp_by_construction.report.html import write_report

    root, name, options = _of_run("report", arguments, {"nodes": "all"}, "RUN_OR_SWEEP")
    nodes = options["nodes"]
    if nodes not in ("all", "labelled"):
        raise ConfigError(
            f"nodes={nodes}: give all, or labelled to leave out the pages of free nodes"
        )
    page = write_report(root, name, nodes == "labelled")
    sys.stdout.write(f"written to {page}\n")


def _explain(arguments: list[str]) -> None:
    options, given = _own_options(arguments, {"paths.root": ".", "top": "10", "layer": None})
    if len(given) != 2:
        raise ConfigError(
            f"ibc explain takes one RUN and one text, got {len(given)}: {' '.join(given)}; put the "
            "text in quotes, and write options as top=10 layer=1"
        )
    for key in ("top", "layer"):
        if options[key] is not None and not options[key].isdecimal():
            raise ConfigError(f"{key}={options[key]}: give a number, as in {key}=1")
    run = _only_run(
        user_path(options["paths.root"], "paths.root").resolve(), given[0], "explain with"
    )
    run.finished_summary()
    run.config()

    # They import torch, which a mistyped name need not wait for.
    from interp_by_construction.loaded import load
    from interp_by_construction.report.explained import show_explanation

    layer = None if options["layer"] is None else int(options["layer"])
    show_explanation(run.name, load(run.path).explain(given[1], int(options["top"]), layer))


def _export(arguments: list[str]) -> None:
    defaults = {"at": "final", "layer": None, "output": None}
    root, name, options = _of_run("export", arguments, defaults)
    if options["output"] is None:
        raise ConfigError("output: give the directory to write to, as in output=DIR")
    run = _only_run(root, name, "export")

    from interp_by_construction.export.run import export_run

    output = user_path(options["output"], "output")
    export_run(run, run.store, options["at"], options["layer"], output)
    sys.stdout.write(f"written to {options['output']}\n")


def _gc(arguments: list[str]) -> None:
    from rich.filesize import decimal

    from interp_by_construction.engine.garbage import garbage, remove

    options, rest = _own_options(arguments, {"paths.root": ".", "delete": "false"})
    if rest:
        raise ConfigError(f"{rest[0]}: ibc gc takes delete=true and paths.root=DIR")
    if options["delete"] not in ("true", "false"):
        raise ConfigError(f"delete={options['delete']}: give true or false")
    root = Path(options["paths.root"]).resolve()
    found = garbage(root)
    gone = remove(root, found) if options["delete"] == "true" else []
    for each in found:
        removed = "removed" if each in gone else "garbage"
        name = each.path.relative_to(root)
        sys.stdout.write(f"{removed}  {decimal(each.bytes):>9}  {name}  ({each.why})\n")
    total = decimal(sum(each.bytes for each in gone or found))
    if not found:
        sys.stdout.write(f"every artifact in {root / 'store'} belongs to a run\n")
    elif gone:
        kept = f"; {n} stay, another process works on them" if (n := len(found) - len(gone)) else ""
        sys.stdout.write(f"{len(gone)} folders removed, {total} free{kept}\n")
    else:
        sys.stdout.write(f"{len(found)} folders, {total}; delete=true removes them\n")


def _simulate(arguments: list[str]) -> None:
    from interp_by_construction.config import compose

    options, rest = _own_options(arguments, {"input": None, "output": None, "simulator": "exact"})
    for key in ("input", "output"):
        if options[key] is None:
            raise ConfigError(f"{key}: give a file, as in {key}=FILE.jsonl")
    cfg = compose(rest)
    files = user_path(options["input"], "input"), user_path(options["output"], "output")

    from interp_by_construction.simulators.files import simulate_file

    simulate_file(cfg, *files, options["simulator"])


def _bench(arguments: list[str]) -> None:
    from interp_by_construction.config import compose

    if arguments[:1] != ["truth"]:
        raise ConfigError(f"ibc bench {' '.join(arguments[:1])}: give `ibc bench truth`")
    options, rest = _own_options(arguments[1:], {"simulator": None, "planted": "concepts"})
    planted, simulator = options["planted"], options["simulator"]
    if planted not in ("concepts", "rules"):
        raise ConfigError(f"planted={planted}: give concepts or rules")
    if planted == "rules" and simulator is not None:
        raise ConfigError(
            f"simulator={simulator}: planted=rules asks the labeler alone; leave simulator out"
        )
    cfg = compose(rest)

    from interp_by_construction.report.truth_tables import show_rules, show_truth
    from interp_by_construction.schedules.rule_bench import run_rule_bench
    from interp_by_construction.schedules.truth_bench import run_truth_bench

    if planted == "rules":
        path, result = run_rule_bench(cfg)
        show_rules(result)
    else:
        path, result = run_truth_bench(cfg, simulator or "head")
        show_truth(result)
    sys.stdout.write(f"written to {path}\n")


def _serve(arguments: list[str]) -> None:
    from interp_by_construction.config import compose
    from interp_by_construction.llm.server import serve

    options, rest = _own_options(arguments, {"kind": "generate"})
    kind = options["kind"]
    if kind not in ("generate", "classify"):
        raise ConfigError(f"kind={kind}: give generate or classify")
    cfg = compose(rest)
    for server in serve(kind, cfg.labeler, cfg.runs_dir / ".serve" / "logs"):
        sys.stdout.write(
            f"url       {server.url}\nkey file  {server.key_file}\nlog       {server.log}\nstop it with Ctrl-C\n"
        )
        sys.stdout.flush()


def _only_run(root: Path, name: str, verb: str) -> RunDirectory:
    """The run called `name`. Raises ConfigError for a sweep of several, and for an unknown name."""
    from interp_by_construction.engine.run_directory import find_runs

    runs = find_runs(root / "runs", name)
    if len(runs) > 1:
        raise ConfigError(f"run {name} is a sweep; {verb} one of its jobs, such as {runs[0].name}")
    return runs[0]


def _of_run(
    command: str, arguments: list[str], more: dict[str, Any] | None = None, positional: str = "RUN"
) -> tuple[Path, str, dict[str, Any]]:
    """The root, the run's name, and the options. more: those beside paths.root, with defaults.
    Raises ConfigError for anything unknown."""
    options, names = _own_options(arguments, {"paths.root": "."} | (more or {}))
    root = user_path(options["paths.root"], "paths.root").resolve()
    for name in names:
        # A run's name may hold a `=`.
        if "=" in name and not (root / "runs" / name).is_dir():
            known = ", ".join(f"{key}=" for key in options)
            raise ConfigError(f"{name}: unknown option of ibc {command}; known are {known}")
    if len(names) != 1:
        raise ConfigError(
            f"ibc {command} takes one {positional}, got {len(names)}: {' '.join(names)}"
        )
    return root, names[0], options


def _own_options(
    arguments: list[str], defaults: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The command's own options, with their defaults, and the other arguments."""
    options, rest = dict(defaults), []
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if separator and key in options:
            options[key] = value
        else:
            rest.append(argument)
    return options, rest
