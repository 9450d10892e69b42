"""Ablations of aligned and free nodes, and of a planted trigger, as tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from interp_by_construction.report.tables import signed, titled

ABLATED = {
    "free_mean": "free at mean",
    "free_zero": "free at 0",
    "aligned_mean": "aligned at mean",
    "aligned_zero": "aligned at 0",
}
ROLES = {"align": "aligned", "continue": "repaired", "freeze_only": "freeze-only"}


def show_work(out: Console, summary: dict[str, Any]) -> None:
    """One row per layer and one for all layers at once, each with its tax."""
    rows = [layer["work"] for layer in summary["layers"] if layer.get("work")]
    rows += [summary["work"]] if len(rows) > 1 and summary.get("work") else []
    if not rows:
        return
    columns = (
        "layers",
        "free at mean / 0",
        "aligned at mean / 0",
        "by simulation",
        "whole MLP at mean / 0",
        "share through free",
        "MLP removed, retrained",
        "tax",
        "tax / removed",
    )
    title = "nodes ablated: rise of the test loss (nats/token)"
    table = titled(title, (), columns)
    for row in rows:
        rise = {name: signed(record["loss_increase"]) for name, record in row["ablation"].items()}
        free, aligned, everything = (
            f"{rise[f'{name}_mean']} / {rise[f'{name}_zero']}"
            for name in ("free", "aligned", "all")
        )
        removed, simulated = row["removed"] or {}, row["substitution"] or {}
        table.add_row(
            ", ".join(map(str, row["layers"])),
            free,
            aligned,
            signed(simulated.get("loss_increase")),
            everything,
            _share(row["share_free"]),
            signed(removed.get("cost"), removed.get("cost_ci95")),
            signed(row["tax"]),
            "-" if removed.get("tax_share") is None else f"{100 * removed['tax_share']:.1f} %",
        )
    out.print(table)


def show_trigger(out: Console, trigger: dict[str, Any]) -> None:
    """One row per model and ablation."""
    title = f"planted trigger: greedy decoding gives the response ({trigger['n_contexts']} held-out contexts)"
    columns = ("with the trigger", "without", "probability with", "without")
    table = titled(title, ("model", "ablated"), columns)
    for row in trigger["rows"]:
        after = "" if row["layer"] is None else f", layer {row['layer']}"
        greedy = [
            "{:.3f} [{:.3f}, {:.3f}]".format(row[name]["greedy"], *row[name]["ci95"])
            for name in ("with", "without")
        ]
        table.add_row(
            escape(f"{ROLES.get(row['role'], row['role'])}{after}"),
            ABLATED.get(row["ablated"], "-"),
            *(escape(text) for text in greedy),
            *(f"{row[name]['probability']:.4f}" for name in ("with", "without")),
        )
    out.print(table)
    out.print(
        f"trigger: {escape(repr(trigger['phrase']))}   response: {escape(repr(trigger['response']))}",
        soft_wrap=True,
    )


def _share(share: dict[str, Any]) -> str:
    if share["value"] is None:
        return "undefined"
    interval = "" if share["ci95"] is None else " [{:.2f}, {:.2f}]".format(*share["ci95"])
    return escape(f"{share['value']:.2f}{interval}")
