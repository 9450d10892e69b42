"""All numbers of a finished run as tables on the terminal. Reads the run's files only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.report.facts import (
    MOMENTS,
    distill_weight,
    examples,
    kind_rows,
    method_rows,
    node_rows,
)
from interp_by_construction.report.lines import stage_facts
from interp_by_construction.report.tables import console, or_dash, score_cell, signed, titled
from interp_by_construction.report.work_tables import show_trigger, show_work

SHOWN_SCORES = {key: key for key in ("before", "after", "final", "second", "shuffled", "exact")} | {
    "final_raw": "uncorrected"
}
COUNTS = {
    "layer": "layer",
    "n_nodes": "nodes",
    "n_aligned": "aligned",
    "n_distinct_labels": "distinct labels",
    "n_failed_labels": "failed",
}
"""Counts of a layer -> head of their column."""


def show_tables(run: RunDirectory) -> None:
    """Scores, the lines of each stage, losses, ablations, example nodes, and the paths of the
    files. Raises ConfigError for a run that is not finished."""
    out, summary = console(), run.finished_summary()
    out.print(_score_table(run.name, summary))
    for layer in summary["layers"]:
        _show_methods(out, layer)
        _show_kinds(out, layer)
        said = [line for each in stage_facts(run, layer, layer["layer"]) for line in each.lines]
        for line in (*said, *_dictionary_lines(layer)):
            out.print(escape(f"layer {layer['layer']} {line}"), soft_wrap=True)
    for stage in stage_facts(run, summary["stages"], None):
        for line in stage.lines:
            out.print(escape(line), soft_wrap=True)
    for line in _loss_lines(summary):
        out.print(line, soft_wrap=True)
    show_work(out, summary)
    if summary.get("trigger") is not None:
        show_trigger(out, summary["trigger"])
    out.print(_scored_by(summary))
    _show_examples(out, run)
    invariants = (f"{name} {'yes' if ok else 'NO'}" for name, ok in summary["invariants"].items())
    out.print(f"invariants: {', '.join(invariants)}")
    for file in ("summary.json", "nodes.parquet", "logs"):
        out.print(escape(f"{file.partition('.')[0]:<9} {run.path / file}"), soft_wrap=True)


def _dictionary_lines(layer: dict[str, Any]) -> Iterator[str]:
    if layer.get("dictionary") is not None:
        before, after = (layer["dictionary"][key] for key in ("loss_before", "loss"))
        yield f"test loss {before:.4f} -> {after:.4f} when the dictionary was put in"


def _score_table(run: str, summary: dict[str, Any]) -> Table:
    title = f"{run}: held-out simulation score (Pearson r, mean over nodes)"
    table = titled(title, (), (*COUNTS.values(), *SHOWN_SCORES.values()))
    for layer in summary["layers"]:
        scores = layer["score"]
        table.add_row(
            *(str(layer[key]) for key in COUNTS),
            *(score_cell(scores[key], key in ("before", "final")) for key in SHOWN_SCORES),
        )
    return table


def _loss_lines(summary: dict[str, Any]) -> Iterator[str]:
    loss = summary["loss"]
    interval = (
        "[one test document: no interval]"
        if loss["tax_ci95"] is None
        else "[{:+.4f}, {:+.4f}]".format(*loss["tax_ci95"])
    )
    yield (
        f"test loss (nats/token): original {loss['original']:.4f}   "
        f"control {loss['control']:.4f}   freeze-only {loss['freeze_only']:.4f}   "
        f"final {loss['final']:.4f}   [bold]tax {loss['tax']:+.4f}[/bold] {escape(interval)}"
    )
    yield (
        f"final over the original {signed(loss['over_original'], loss['over_original_ci95'])}, "
        f"over freeze-only {signed(loss['over_freeze_only'], loss['over_freeze_only_ci95'])}: what "
        "a control learns more, or is harmed by its rate, moves the tax"
    )
    if apart := loss["apart"]:
        yield (
            f"on text of another source: original {apart['original']:.4f}   "
            f"control {apart['control']:.4f}   final {apart['final']:.4f}   "
            f"tax {signed(apart['tax'], apart['tax_ci95'])}"
        )
    if distilled := distill_weight(summary):
        yield (
            "control and freeze-only are distilled to the original as well "
            f"(align.distill={distilled:g})"
        )


def _scored_by(summary: dict[str, Any]) -> str:
    score = summary["layers"][0]["score"]
    final, labeler = score["final"], escape(str(summary["labeler"]["model"]))
    by = (
        f"{final['simulator']} simulation of {labeler}"
        if final["simulator"] == score["exact"]["simulator"]
        else f"simulator {final['simulator']}"
    )
    own = (
        ", self-judged (the model that wrote the labels is behind it)"
        if final["self_judged"]
        else ""
    )
    return (
        f"scores by {by}{own}; exact and uncorrected: exact simulation of {labeler}, with and "
        "without contrast"
    )


def _show_kinds(out: Console, layer: dict[str, Any]) -> None:
    """One row per kind of label."""
    heads, rows = kind_rows(layer)
    title = f"layer {layer['layer']}: scores by kind of label (mean r over nodes)"
    table = titled(title, ("kind",), heads)
    for kind, row in rows:
        cells = (str(each) if isinstance(each, int) else or_dash(each) for each in row)
        table.add_row(kind, *cells)
    if rows:
        out.print(table)


def _show_methods(out: Console, layer: dict[str, Any]) -> None:
    """One row per method and judge, one column per moment."""
    rows = method_rows(layer)
    if not rows:
        return
    title = f"layer {layer['layer']}: scores by method (mean over nodes)"
    table = titled(title, ("method", "judge"), MOMENTS.values())
    for row in rows:
        own = " (self)" if row["self_judged"] else ""
        final = row["moments"]["final"] or {}
        own += f", {final['n'] + final['n_undefined']} nodes" if final.get("n_not_asked") else ""
        scores = row["moments"].items()
        shown = [score_cell(record, name == "final") if record else "" for name, record in scores]
        table.add_row(escape(row["method"]), escape(f"{row['judge']}{own}"), *shown)
    out.print(table)


def _show_examples(out: Console, run: RunDirectory) -> None:
    columns = ("node", "label", "top tokens before", "r before", "r after")
    table = titled("example nodes, from the best to the worst final score", columns)
    for row in examples(node_rows(run)):
        table.add_row(
            f"L{row['layer']}/{row['node']}",
            escape(row["label"]),
            escape(" ".join(row["top_tokens"] or [])),
            or_dash(row["score_before"]),
            or_dash(row["score_after"]),
        )
    out.print(table)
