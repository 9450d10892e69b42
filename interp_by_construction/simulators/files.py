"""`ibc simulate`: labels and tokens from a JSON-lines file, simulated activations into another."""

from __future__ import annotations

import json
from pathlib import Path

from interp_by_construction.config import Config
from interp_by_construction.errors import ConfigError
from interp_by_construction.simulators.exact import simulate_one
from interp_by_construction.store import disk_errors


def simulate_file(cfg: Config, source: Path, output: Path, simulator: str) -> None:
    """Writes the lines of `source` in order with `activations`, one per token. A line's output depends on that line alone.

    Raises ConfigError for a missing file, an unknown simulator or a malformed line (with its number).
    """
    from interp_by_construction.labeler.client import make_labeler

    if simulator != "exact":
        raise ConfigError(f"simulator={simulator}: give exact (a dense simulator is fitted per label inside a run)")
    if output.exists() and output.samefile(source):
        raise ConfigError(f"output={output}: give another file than the input")
    records = read_lines(source)
    log_dir = cfg.runs_dir / ".simulate" / "logs"
    with disk_errors(output), make_labeler(cfg.labeler, cfg.store_dir / "calls.sqlite", log_dir) as labeler:
        partial = output.with_name(f".{output.name}.partial")
        with partial.open("w", encoding="utf-8") as file:
            for label, tokens in records:
                activations = simulate_one(labeler, label, tokens, cfg.simulate.contrast)
                line = {"label": label, "tokens": tokens, "activations": activations}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        partial.replace(output)


def read_lines(source: Path) -> list[tuple[str, list[str]]]:
    """(label, tokens) of every line. Raises ConfigError naming file and line."""
    if not source.is_file():
        raise ConfigError(f"input={source}: no such file")
    try:
        lines = source.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"input={source}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{source}, line {number}: not JSON ({error})") from error
        label = record.get("label") if isinstance(record, dict) else None
        tokens = record.get("tokens") if isinstance(record, dict) else None
        if not isinstance(label, str) or not label.strip():
            raise ConfigError(f'{source}, line {number}: "label" must be a text that is not empty, it is {label!r}')
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ConfigError(f'{source}, line {number}: "tokens" must be a list of strings')
        records.append((label, tokens))
    return records
