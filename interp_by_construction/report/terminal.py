"""Progress of a run as a table on the terminal. Reads the run's files only."""

from __future__ import annotations

from rich.table import Table

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import MANIFEST, Artifact
from interp_by_construction.report.tables import console, score_cell

N_COLUMNS = 12
"""Layers in one table of a run's progress."""


def show_status(run: RunDirectory) -> None:
    """Every planned stage of the run: done (with its seconds), running or missing. Reads
    `state.json`, the manifests of finished stages, and the scores in the summary."""
    out, summary = console(), run.summary
    whole = "complete" if run.standing == "complete" else "not complete"
    out.print(f"{run.name}: {whole}", style="italic", markup=False)
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
            found = [score_cell(value[key], False) if value else "" for value in values]
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
