"""The campaign's tests are slow ones, and a table stands at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from faults.campaign import SCALE, SEED, TRIED


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Of all tests, those of this folder are marked."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What each test has tried, of how many faults there are, and what came of it. Only for
    `make faults`: the processes of `make test` do not know of each other."""
    if SCALE == "few":
        return
    stats, say = terminalreporter.stats, terminalreporter.write_line
    terminalreporter.section(f"faults, IBC_FAULTS_SEED={SEED}")
    reports = [each for kind in ("passed", "failed", "skipped") for each in stats.get(kind, [])]
    say(f"{'tried':>6}{'of':>7}{'seconds':>9}  {'':<8} test")
    for report in sorted(reports, key=lambda each: each.nodeid):
        if report.when != "call" and not report.skipped:
            continue
        tried, whole = TRIED.get(report.nodeid, [1, 1])
        if report.skipped:
            tried = 0
        name = report.nodeid.partition("tests/faults/")[2]
        say(f"{tried:>6}{whole:>7}{report.duration:>9.1f}  {report.outcome:<8} {name}")
