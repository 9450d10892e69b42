"""The result of `ibc bench truth` on the terminal, one table per set of planted nodes."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from interp_by_construction.engine.records import or_undefined
from interp_by_construction.report.terminal import console

COLUMNS = (
    "",
    "nodes",
    "right",
    "chance",
    "related",
    "median rank",
    "AUC",
    "r true",
    "r best false",
    "failed or undefined",
    "remark",
)


def show_truth(result: dict[str, Any]) -> None:
    """`right`: labels that name the planted concept; for simulators, nodes best predicted by its
    name. `related`: see `scoring.recovery`.

    `result`: what `run_truth_bench` returns.
    """
    out = console()
    for planted in result["sets"]:
        kind = {"two concepts": "two concepts each", "noise": "noise alone: no label is right"}
        title = kind.get(
            planted["name"], f"planted nodes, r {planted['grade']:g} with their concept"
        )
        table = Table(title=title, title_justify="left")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column in ("", "remark") else "right")
        labelling, matching = planted["labelling"], planted["matching"]
        table.add_row(
            *_label_row("labelling", labelling, f"{labelling['n_named']} labels name a concept")
        )
        limit = (
            f"the pool names the concept of {matching['n_nameable']} nodes; "
            if matching["recovered"] is not None
            else ""
        )
        table.add_row(
            *_label_row("matching", matching, f"{limit}{matching['n_named']} labels name a concept")
        )
        for name, value in planted["simulators"].items():
            numbers = (
                value[key]
                for key in ("top1", "chance_top1", "median_rank", "auc", "r_true", "r_best_false")
            )
            shown = [or_undefined(each) for each in numbers]
            shown.insert(2, "")
            table.add_row(
                f"simulator {name}",
                str(value["n"]),
                *shown,
                str(value["n_undefined"]),
                f"{value['n_names']} names",
            )
        out.print(table)
    absent = ", ".join(result["absent_concepts"])
    if absent:
        out.print(
            f"concepts that do not occur in the text and were left out: {absent}", soft_wrap=True
        )


def _label_row(name: str, value: dict[str, Any], remark: str) -> list[str]:
    rates = (or_undefined(value[key]) for key in ("recovered", "chance", "related"))
    return [name, str(value["n"]), *rates, "", "", "", "", str(value["n_failed"]), remark]
