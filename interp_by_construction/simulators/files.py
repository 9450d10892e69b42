"""`ibc simulate`: labels and tokens from a JSON-lines file, simulated activations into another."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

from interp_by_construction.config import Config
from interp_by_construction.engine.disk import disk_errors
from interp_by_construction.engine.runtime import resolve_device
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError, LabelerError
from interp_by_construction.llm.client import Labeler, make_labeler
from interp_by_construction.simulators import SIMULATORS, create, simulator_class
from interp_by_construction.simulators.base import Models, Simulator
from interp_by_construction.simulators.prompt import MAX_LABEL_CHARS

SURROGATE = re.compile(r"[\ud800-\udfff]")
"""Half of a character in JSON's escapes: no text has it, and no tokenizer reads it."""


def simulate_file(cfg: Config, source: Path, output: Path, simulator: str) -> None:
    """Writes the lines of `source` in order with `activations`, one per token. A line's output
    depends on that line alone.

    Raises ConfigError for a missing file, an unknown simulator or a malformed line, LabelerError
    for one that the labeler cannot simulate (both with the line's number).
    """
    cfg = replace(cfg, simulate=replace(cfg.simulate, simulator=simulator))
    if not simulator_class(simulator).any_label:
        known = [name for name in SIMULATORS if simulator_class(name).any_label]
        raise ConfigError(
            f"simulator={simulator}: it is fitted to each label on the text of a run, which a file of "
            f"lines does not have; give one of {', '.join(known)}, or run "
            f"`ibc run simulate.simulator={simulator}`"
        )
    if output.exists() and output.samefile(source):
        raise ConfigError(f"output={output}: give another file than the input")
    records = read_lines(source)
    with disk_errors(output), ExitStack() as stack:
        own = create(cfg.simulate)
        models = _models(own, cfg, stack)
        simulate = own.open(models)
        partial = output.with_name(f".{output.name}.partial")
        with partial.open("w", encoding="utf-8") as file:
            for number, label, tokens in records:
                try:
                    simulation, pieces = simulate([label]), own.cut(tokens, models)
                    activations = simulation(pieces)[:, 0].tolist() if pieces else []
                except LabelerError as error:
                    raise LabelerError(f"{source}, line {number}: {error}") from error
                line = {"label": label, "tokens": tokens, "activations": activations}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        partial.replace(output)


def _models(own: Simulator, cfg: Config, stack: ExitStack) -> Models:
    """The labeler is started when a simulator asks for it, and stopped with `stack`."""

    @cache
    def labeler() -> Labeler:
        calls, logs = Store(cfg.store_dir).calls, cfg.runs_dir / ".simulate" / "logs"
        return stack.enter_context(make_labeler(cfg.labeler, calls, logs))

    return Models(labeler, lambda: own.load_encoder(resolve_device(cfg.trainer.device)))


def read_lines(source: Path) -> list[tuple[int, str, list[str]]]:
    """(line number, label, tokens) of every line that is not blank. Raises ConfigError naming file
    and line."""
    if not source.is_file():
        raise ConfigError(f"input={source}: no such file")
    try:
        lines = source.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"input={source}: not UTF-8 text ({error.reason} at byte {error.start})"
        ) from error
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{source}, line {number}: not JSON ({error})") from error
        records.append((number, *_checked(record, f"{source}, line {number}")))
    return records


def _checked(record: object, where: str) -> tuple[str, list[str]]:
    """Label and tokens of a line. Raises ConfigError."""
    given = record if isinstance(record, dict) else {}
    label, tokens = given.get("label"), given.get("tokens")
    if not isinstance(label, str) or not label.strip():
        raise ConfigError(f'{where}: "label" must be a text that is not empty, it is {label!r}')
    if len(label) > MAX_LABEL_CHARS:
        raise ConfigError(
            f'{where}: "label" has {len(label)} characters; give at most {MAX_LABEL_CHARS}'
        )
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ConfigError(f'{where}: "tokens" must be a list of strings')
    named = {"label": label} | {f"tokens[{i}]": token for i, token in enumerate(tokens)}
    for name, text in named.items():
        if SURROGATE.search(text):
            raise ConfigError(
                f'{where}: "{name}" is {text!r}, which is no valid Unicode text (half of a surrogate pair)'
            )
    return label, tokens
