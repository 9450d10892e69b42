"""`ibc simulate`: labels and tokens from a JSON-lines file, simulated activations into another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from interp_by_construction.config import Config
from interp_by_construction.errors import ConfigError
from interp_by_construction.simulators.exact import simulate_one
from interp_by_construction.simulators.head import load_for, simulate_text
from interp_by_construction.store import disk_errors


def simulate_file(cfg: Config, source: Path, output: Path, simulator: str) -> None:
    """Writes the lines of `source` in order with `activations`, one per token. A line's output depends on that line alone.

    Raises ConfigError for a missing file, an unknown simulator or a malformed line (with its number).
    """
    if simulator not in ("exact", "head"):
        raise ConfigError(f"simulator={simulator}: give exact or head (ridge is fitted per label inside a run)")
    if output.exists() and output.samefile(source):
        raise ConfigError(f"output={output}: give another file than the input")
    records = read_lines(source)
    with disk_errors(output), _simulator(cfg, simulator) as simulate:
        partial = output.with_name(f".{output.name}.partial")
        with partial.open("w", encoding="utf-8") as file:
            for label, tokens in records:
                line = {"label": label, "tokens": tokens, "activations": simulate(label, tokens)}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        partial.replace(output)


@contextmanager
def _simulator(cfg: Config, simulator: str) -> Iterator[Callable[[str, list[str]], list[float]]]:
    """(label, tokens) -> activations. A head runs in this process and starts no server."""
    if simulator == "head":
        from interp_by_construction.labeler.embedded import resolve_model
        from interp_by_construction.simulators.encoder import Encoder
        from interp_by_construction.training.fit import resolve_device

        head = load_for(cfg.simulate)
        encoder = Encoder.load(resolve_model(head.encoder), head.encoder_layers, resolve_device(cfg.trainer.device))
        yield lambda label, tokens: simulate_text(head, encoder, label, tokens)
        return
    from interp_by_construction.labeler.client import make_labeler

    with make_labeler(cfg.labeler, cfg.store_dir / "calls.sqlite", cfg.runs_dir / ".simulate" / "logs") as labeler:
        yield lambda label, tokens: simulate_one(labeler, label, tokens, cfg.simulate.contrast)


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
