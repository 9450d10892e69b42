"""Where the work hides and what became of a planted trigger, as tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

ABLATED = {
    "free_mean": "free at mean",
    "free_zero": "free at 0",
    "aligned_mean": "aligned at mean",
    "aligned_zero": "aligned at 0",
}
ROLES = {"align": "aligned", "continue": "repaired", "freeze_only": "freeze-only"}


def show_work(out: Console, summary: dict[str, Any]) -> None:
    """One row per layer, one for all at once, the tax beside them."""
    rows = [layer["work"] for layer in summary["layers"] if layer.get("work")]
    rows += [summary["work"]] if len(rows) > 1 and summary.get("work") else []
    if not rows:
        return
    table = Table(
        title="where the work hides: rise of the test loss (nats/token)", title_justify="left"
    )
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
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        rise = {name: f"{record['loss_increase']:+.4f}" for name, record in row["ablation"].items()}
        pairs = [
            f"{rise[f'{name}_mean']} / {rise[f'{name}_zero']}"
            for name in ("free", "aligned", "all")
        ]
        removed = row["removed"] or {}
        simulated = (
            "-" if row["substitution"] is None else f"{row['substitution']['loss_increase']:+.4f}"
        )
        table.add_row(
            ", ".join(map(str, row["layers"])),
            *pairs[:2],
            simulated,
            pairs[2],
            _share(row["share_free"]),
            signed(removed.get("cost"), removed.get("cost_ci95")),
            signed(row["tax"]),
            _percent(removed.get("tax_share")),
        )
    out.print(table)


def show_trigger(out: Console, trigger: dict[str, Any]) -> None:
    """One row per model and ablation."""
    title = f"planted trigger: greedy decoding gives the response ({trigger['n_contexts']} held-out contexts)"
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    table.add_column("ablated")
    for column in ("with the trigger", "without", "probability with", "without"):
        table.add_column(column, justify="right")
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


def signed(value: float | None, interval: list[float] | None = None) -> str:
    """A difference of losses with its interval, escaped for markup; a dash where there is none."""
    if value is None:
        return "-"
    return escape(
        f"{value:+.4f}" + ("" if interval is None else " [{:+.4f}, {:+.4f}]".format(*interval))
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
