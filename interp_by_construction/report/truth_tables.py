"""The result of `ibc bench truth` on the terminal, one table per set of planted nodes."""

from __future__ import annotations

from typing import Any

from interp_by_construction.engine.records import or_undefined
from interp_by_construction.report.tables import console, titled

COLUMNS = (
    "nodes",
    "right",
    "chance",
    "related",
    "median rank",
    "AUC",
    "r true",
    "r best false",
    "failed or undefined",
)


def show_truth(result: dict[str, Any]) -> None:
    """result: what `run_truth_bench` returns.

    The column `right` counts labels that name the planted concept. For simulators it counts the
    nodes that the name of their concept predicts best. `related`: see `scoring.recovery`.
    """
    out = console()
    for planted in result["sets"]:
        kind = {"two concepts": "two concepts each", "noise": "noise alone: no label is right"}
        grade = f"planted nodes, r {planted['grade']:g} with their concept"
        table = titled(kind.get(planted["name"], grade), ("",), COLUMNS)
        table.add_column("remark")
        matching = planted["matching"]
        table.add_row(*_label_row("labelling", planted["labelling"], ""))
        limit = (
            f"the pool names the concept of {matching['n_nameable']} nodes; "
            if matching["recovered"] is not None
            else ""
        )
        table.add_row(*_label_row("matching", matching, limit))
        for name, value in planted["simulators"].items():
            rates = _rates(value, "top1", "chance_top1")
            ranks = _rates(value, "median_rank", "auc", "r_true", "r_best_false")
            counts = str(value["n_undefined"]), f"{value['n_names']} names"
            table.add_row(f"simulator {name}", str(value["n"]), *rates, "", *ranks, *counts)
        out.print(table)
    absent = ", ".join(result["absent_concepts"])
    if absent:
        out.print(
            f"concepts that do not occur in the text and were left out: {absent}", soft_wrap=True
        )


def show_rules(result: dict[str, Any]) -> None:
    """result: what `run_rule_bench` returns. One table per grade: the share of the nodes of each
    kind whose rule the labeler's first answer, or any of its answers, says."""
    out = console()
    for planted in result["sets"]:
        title = f"planted rules, r {planted['grade']:g} with their nodes"
        table = titled(title, ("kind",), ("nodes", "first answer", "any answer"))
        rows = planted["kinds"] | {"all": planted, "chance": {"n": "", "first": planted["chance"]}}
        for kind, value in rows.items():
            some = or_undefined(value["any"]) if "any" in value else ""
            table.add_row(kind, str(value["n"]), or_undefined(value["first"]), some)
        out.print(table)
        out.print(
            f"{planted['n_readable']} of {planted['n_answers']} answers can be read as rules",
            soft_wrap=True,
        )
    if absent := ", ".join(result["absent"]):
        out.print(
            f"rules that hardly hold in this text and were left out: {absent}", soft_wrap=True
        )


def _label_row(name: str, value: dict[str, Any], limit: str) -> list[str]:
    """limit: said before how many labels name a concept."""
    rates = _rates(value, "recovered", "chance", "related")
    remark = f"{limit}{value['n_named']} labels name a concept"
    return [name, str(value["n"]), *rates, "", "", "", "", str(value["n_failed"]), remark]


def _rates(value: dict[str, Any], *keys: str) -> list[str]:
    return [or_undefined(value[key]) for key in keys]
