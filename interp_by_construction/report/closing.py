"""What `ibc run` does once a run is finished: excerpts, report, and the ending on the terminal."""

from __future__ import annotations

import sys
from typing import Any

from interp_by_construction.engine.progress import track
from interp_by_construction.engine.rows import read_rows
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.stopping import Stopped
from interp_by_construction.report.ending import ending_of
from interp_by_construction.report.ending_text import show_ending
from interp_by_construction.report.facts import RunFacts, node_rows
from interp_by_construction.report.html import write_report
from interp_by_construction.report.tables import ending_console
from interp_by_construction.report.viewed import VIEWED
from interp_by_construction.report.viewer import build_viewer

MAX_PAGES = 1000
"""Nodes of a run whose report is written without being asked for. It takes some ten seconds."""


def close_run(run: RunDirectory) -> None:
    """Shows the ending. The run is finished whatever happens here: if excerpts or report fail, or
    are interrupted, one line says so."""
    facts = RunFacts(run, run.finished_summary(), run.store)
    viewed: dict[int, dict[int, dict[str, Any]]] = {}
    page, problem, stopped = None, "", None
    try:
        for layer in track(facts.layers, "excerpts"):
            records = read_rows(build_viewer(facts, layer).path / VIEWED)
            viewed[layer] = {record["node"]: record for record in records}
        if sum(layer["n_nodes"] for layer in facts.summary["layers"]) <= MAX_PAGES:
            page = write_report(run.store.root.parent, run.name)
    except KeyboardInterrupt:
        problem = "interrupted"
    except Stopped as error:
        problem, stopped = "interrupted", error
    except Exception as error:
        # Whatever it is: the run's results are complete without it.
        problem = f"{type(error).__name__}: {error}"
    show_ending(ending_console(), ending_of(facts, node_rows(run), viewed), run, page)
    if problem:
        sys.stderr.write(
            f"ibc: the run is finished, but its report is not ({problem}); "
            f"`ibc report {run.name}` writes it\n"
        )
    if stopped is not None:
        raise stopped
