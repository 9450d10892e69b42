"""`ibc report`: a folder of static pages for one run or for all jobs of a sweep.

Each run has its own page, a page per layer and a page per node. A sweep has a front page with the
Pareto plot, its settings and its jobs.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp_by_construction.config import to_dict
from interp_by_construction.engine.disk import disk_errors
from interp_by_construction.engine.store import Store
from interp_by_construction.report import curves, pareto, run_page, trees
from interp_by_construction.report.ending import ending_of
from interp_by_construction.report.facts import (
    MOMENTS,
    Job,
    RunFacts,
    distill_weight,
    find_jobs,
    kind_rows,
    method_rows,
    node_rows,
)
from interp_by_construction.report.figures import write_figures
from interp_by_construction.report.layer_view import LayerView, ranked, read_layer
from interp_by_construction.report.lines import stage_facts
from interp_by_construction.report.loss_chart import loss_bars
from interp_by_construction.report.node_page import excerpt, write_nodes
from interp_by_construction.report.pareto_chart import pareto_svg
from interp_by_construction.report.run_tables import SHOWN_SCORES
from interp_by_construction.report.site import copy_assets, render
from interp_by_construction.report.viewer import build_viewer

NODE_SCORES = (
    "score_before score_after score_final score_second score_shuffled score_exact truth_r".split()
)
"""Columns of nodes.parquet that the table of a layer shows, where a node has a value."""


def write_report(root: Path, name: str, labelled_only: bool = False) -> Path:
    """Writes `runs/<name>/report/` and returns its first page. root: the directory that holds
    `runs/` and `store/`.

    labelled_only leaves out the pages of free nodes. Raises ConfigError for a run that is not
    there, that an older version wrote, or that has no finished layer, and StoreError where an
    artifact is gone.
    """
    store = Store(root / "store")
    jobs, is_sweep = find_jobs(root / "runs", name, store)
    out = root / "runs" / name / "report"
    # Replaces the old report as a whole at the end, so that no old page stays.
    partial = out.with_name(f".report.{os.getpid()}.partial")
    with disk_errors(out):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            if is_sweep:
                _write_sweep(name, jobs, partial, labelled_only)
            else:
                _write_run(jobs[0], partial, labelled_only, None)
            shutil.rmtree(out, ignore_errors=True)
            partial.replace(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return out / "index.html"


def _write_sweep(name: str, jobs: Sequence[Job], out: Path, labelled_only: bool) -> None:
    runs = []
    for job in jobs:
        if job.facts is not None:
            number = job.directory.path.name
            _write_run(job, out / "jobs" / number, labelled_only, name)
            runs.append((job.facts, f"jobs/{number}/index.html"))
    copy_assets(out)
    render(
        "sweep.html",
        out / "index.html",
        0,
        name=name,
        n_finished=sum(job.status == "complete" for job in jobs),
        n_jobs=len(jobs),
        unfinished=_unfinished(jobs),
        **_pareto(runs, out),
    )


def _unfinished(jobs: Sequence[Job]) -> list[dict[str, str]]:
    """One line for consecutive jobs that ended alike: a sweep that was stopped early has many that
    never began."""
    bad = [job for job in jobs if job.status != "complete"]
    lines = []
    for (status, note), group in itertools.groupby(bad, key=lambda job: (job.status, job.note)):
        names = [job.directory.path.name for job in group]
        named = f"job{'s' if len(names) > 1 else ''} {', '.join(names)}"
        lines.append({"named": named, "status": status, "note": note})
    return lines


def _pareto(runs: Sequence[tuple[RunFacts, str]], out: Path) -> dict[str, Any]:
    points, beside = pareto.points_of(runs), pareto.references([facts for facts, _ in runs])
    return {
        "plots": [
            (name, pareto.SHORT[name], svg)
            for name in pareto.METRICS
            if (svg := pareto_svg(points, beside, name)) is not None
        ],
        "points": points,
        "settings": pareto.settings_of(points),
        "beside": pareto.grouped_references(beside),
        "files": write_figures(points, beside, out / "figures"),
    }


def _write_run(job: Job, out: Path, labelled_only: bool, sweep: str | None) -> None:
    """sweep: name of the sweep that the run is a job of."""
    facts = job.facts
    assert facts is not None
    views = _views(facts)
    pages = write_nodes(views, out, facts.name, labelled_only)
    for view in views.values():
        _write_layer(facts, view, out, pages)
    copy_assets(out)
    summary = facts.summary
    rows = [row for view in views.values() for row in view.rows.values()]
    ending = ending_of(facts, rows, {layer: view.viewer for layer, view in views.items()})
    layers = [
        record | {"methods": method_rows(record), "by_kind": kind_rows(record)}
        for record in summary["layers"]
    ]
    render(
        "run.html",
        out / "index.html",
        0,
        name=facts.name,
        of_sweep="" if sweep is None else f"{sweep}: ",
        up=None if sweep is None else "../../index.html",
        job=job,
        summary=summary,
        ending=ending,
        loss_bars=loss_bars(ending.bars),
        excerpt=excerpt,
        pages=pages,
        layers=layers,
        charts=curves.charts(facts),
        moments=list(MOMENTS.values()),
        score_columns=SHOWN_SCORES,
        over=run_page.over(summary["loss"]),
        distilled=distill_weight(summary),
        hidden=run_page.hidden_work(facts),
        stages=stage_facts(facts.directory, summary["stages"], None),
        cost=run_page.cost(facts),
        config=list(trees.leaves(to_dict(facts.config))),
        leaves=list(trees.leaves(summary)),
        tree=trees.tree,
        exact=trees.exact,
        **_pareto([(facts, "#layers")], out),
    )


def _views(facts: RunFacts) -> dict[int, LayerView]:
    rows = node_rows(facts.directory)
    return {
        layer: read_layer(facts, layer, rows, build_viewer(facts, layer)) for layer in facts.layers
    }


def _write_layer(facts: RunFacts, view: LayerView, out: Path, pages: set[tuple[int, int]]) -> None:
    rows = [view.rows[node] for node in ranked(view.rows.values())]
    render(
        "layer.html",
        out / "layers" / f"L{view.layer}.html",
        1,
        run=facts.name,
        layer=view.layer,
        layers=facts.layers,
        record=facts.layer(view.layer),
        stages=stage_facts(facts.directory, facts.layer(view.layer), view.layer),
        tree=trees.tree,
        columns=[c for c in NODE_SCORES if any(row.get(c) is not None for row in rows)],
        rows=rows,
        linked={node for layer, node in pages if layer == view.layer},
    )
