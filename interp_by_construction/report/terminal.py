"""Results and progress of runs as tables on the terminal. Reads the run's files only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import MANIFEST, Artifact
from interp_by_construction.report.facts import MOMENTS, distill_weight, method_rows
from interp_by_construction.report.tables import console, or_dash, signed, titled
from interp_by_construction.report.work_tables import show_trigger, show_work

N_EXAMPLES = 5
N_COLUMNS = 12
"""Layers in one table of a run's progress."""
SHOWN_SCORES = {key: key for key in ("before", "after", "final", "shuffled", "exact")} | {
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


def show_result(run: RunDirectory) -> None:
    """Scores, the lines of each stage, losses, ablations, example nodes, and the paths of the
    files."""
    # This imports all stages and so torch, which `ibc status` does not need.
    from interp_by_construction.report.lines import stage_facts

    out, summary = console(), run.summary
    assert summary is not None, "pipeline.run has written it"
    out.print(_score_table(run.name, summary))
    for layer in summary["layers"]:
        _show_methods(out, layer)
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
        out.print(f"{file.partition('.')[0]:<9} {run.path / file}", soft_wrap=True)
    last = summary["layers"][-1]["layer"]
    out.print(
        f"next      ibc verify {run.name}   |   "
        f"ibc export {run.name} at=final layer={last} output=DIR",
        soft_wrap=True,
    )


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
            *(_score(scores[key], key in ("before", "final")) for key in SHOWN_SCORES),
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
        shown = [_score(record, name == "final") if record else "" for name, record in scores]
        table.add_row(escape(row["method"]), escape(f"{row['judge']}{own}"), *shown)
    out.print(table)


def _score(value: dict[str, Any], with_interval: bool) -> str:
    if value["mean"] is None:
        return "undefined"
    interval = f" [{value['ci95'][0]:.2f}, {value['ci95'][1]:.2f}]" if with_interval else ""
    undefined = f" ({value['n_undefined']} undef.)" if value["n_undefined"] else ""
    return escape(f"{value['mean']:.2f}{interval}{undefined}")


def _show_examples(out: Console, run: RunDirectory) -> None:
    """Nodes spread evenly over the final score, so that good and bad ones are seen."""
    import pyarrow.parquet as pq  # Heavy, and `ibc status` does not need it.

    every = pq.read_table(run.path / "nodes.parquet").to_pylist()
    rows = [row for row in every if row["score_final"] is not None]
    rows.sort(key=lambda row: -row["score_final"])
    if len(rows) > N_EXAMPLES:
        rows = [rows[i * (len(rows) - 1) // (N_EXAMPLES - 1)] for i in range(N_EXAMPLES)]
    columns = ("node", "label", "top tokens before", "r before", "r after")
    table = titled("example nodes, from the best to the worst final score", columns)
    for row in rows:
        table.add_row(
            f"L{row['layer']}/{row['node']}",
            escape(row["label"]),
            escape(" ".join(row["top_tokens"] or [])),
            or_dash(row["score_before"]),
            or_dash(row["score_after"]),
        )
    out.print(table)


def show_status(run: RunDirectory) -> None:
    """Every planned stage of the run: done (with its seconds), running or missing. Reads
    `state.json`, the manifests of finished stages, and the scores in the summary."""
    out, summary = console(), run.summary
    whole = "complete" if run.standing == "complete" else "not complete"
    out.print(f"{run.name}: {whole}", style="italic")
    cells = _progress(run)
    layers = sorted({layer for layer, _ in cells if layer is not None} | set(run.state["planned"]))
    scores = {record["layer"]: record["score"] for record in (summary or {}).get("layers", [])}
    for first in range(0, len(layers), N_COLUMNS):
        shown = layers[first : first + N_COLUMNS]
        table = Table("stage", *(f"layer {layer}" for layer in shown))
        for name in dict.fromkeys(name for layer, name in cells if layer in shown):
            table.add_row(name, *(cells.get((layer, name), "") for layer in shown))
        table.add_section()
        for key in ("before", "final"):
            values = (scores.get(layer) for layer in shown)
            found = [_score(value[key], False) if value else "" for value in values]
            table.add_row(f"score {key}", *found)
        out.print(table)
    shared = (f"{name}: {cell}" for (layer, name), cell in cells.items() if layer is None)
    out.print("   ".join(shared))


def _progress(run: RunDirectory) -> dict[tuple[int | None, str], str]:
    """(layer, link name) -> state of the stage, in the order of the plan."""
    made, cells = set(run.links), {}
    running = run.state["running"]
    for link in run.plan:
        folder = run.store.path(link.stage, link.fingerprint)
        if link in made and (folder / MANIFEST).is_file():
            cell = f"{Artifact(link.stage, link.fingerprint, folder).seconds:.0f} s"
        elif link in made:
            cell = "[red]gone[/red]"
        elif running and running["stage"] == link.stage and running["layer"] in (link.layer, None):
            cell = "[yellow]running[/yellow]" if run.in_use else "[red]stopped[/red]"
            running = None
        else:
            cell = "missing"
        cells[link.layer, link.name] = cell
    return cells
