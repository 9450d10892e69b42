"""Results and progress of runs as tables on the terminal. Reads the run's files only."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.report.facts import distill_weight
from interp_by_construction.report.work_tables import show_trigger, show_work, signed

N_EXAMPLES = 5
STAGES = (
    "dictionary",
    "collect",
    "label",
    "assign",
    "simulate",
    "align",
    "freeze",
    "continue",
    "control",
    "freeze_only",
    "evaluate",
    "function",
    "audit",
    "cumulative",
    "work",
    "removed",
    "judge",
)
SHOWN_SCORES = {key: key for key in ("before", "after", "final", "shuffled", "exact")} | {
    "final_raw": "uncorrected"
}
MOMENTS = {
    name: name.replace("_", " ")
    for name in ("before", "final", "shuffled", "empty_label", "common_label")
}
METHODS = {
    "simulation": "simulation r, all text",
    "simulation_top": "simulation r, top excerpts",
    "simulation_random": "simulation r, random excerpts",
    "simulation_combined": "simulation r, top and random",
    "own_label_first": "own label ranked first",
    "detection": "detection, p > 0.5",
    "detection_fitted": "detection, fitted threshold",
    "detection_auc": "detection, AUC",
    "fuzzing": "fuzzing, p > 0.5",
    "fuzzing_fitted": "fuzzing, fitted threshold",
    "fuzzing_auc": "fuzzing, AUC",
    "blind_simulation": "blind relabelling, r",
    "blind_same_text": "blind relabelling, same label",
    "blind_shared_words": "blind relabelling, shared words",
}
SHARED = ("corpus", "subject", "encode", "encode_select", "encode_label", "losses", "trigger")


def console(stderr: bool = False) -> Console:
    """Wide enough for the tables where the output is no terminal."""
    plain = Console(stderr=stderr, highlight=False)
    return plain if plain.is_terminal else Console(stderr=stderr, highlight=False, width=150)


def show_result(run: RunDirectory) -> None:
    """A table per layer, the loss line, example nodes, and where things are."""
    out = console()
    summary = run.summary
    if summary is None:
        out.print(
            f"run {run.name}: no layer is done yet; `ibc status {run.name}` shows how far it is"
        )
        return
    layers = Table(
        title=f"{run.name}: held-out simulation score (Pearson r, mean over nodes)",
        title_justify="left",
    )
    columns = ("layer", "nodes", "aligned", "distinct labels", "failed", *SHOWN_SCORES.values())
    for column in columns:
        layers.add_column(column, justify="right")
    for layer in summary["layers"]:
        score = layer["score"]
        layers.add_row(
            *(
                str(layer[key])
                for key in ("layer", "n_nodes", "n_aligned", "n_distinct_labels", "n_failed_labels")
            ),
            *(_score(score[key], key in ("before", "final")) for key in SHOWN_SCORES),
        )
    out.print(layers)
    for layer in summary["layers"]:
        _show_methods(out, layer)
        _show_beside(out, layer)
    loss = summary["loss"]
    interval = (
        "[one test document: no interval]"
        if loss["tax_ci95"] is None
        else "[{:+.4f}, {:+.4f}]".format(*loss["tax_ci95"])
    )
    out.print(
        f"test loss (nats/token): original {loss['original']:.4f}   control {loss['control']:.4f}   "
        f"freeze-only {loss['freeze_only']:.4f}   final {loss['final']:.4f}   "
        f"[bold]tax {loss['tax']:+.4f}[/bold] {escape(interval)}"
    )
    out.print(
        f"final over the original {signed(loss['over_original'], loss['over_original_ci95'])}, over freeze-only "
        f"{signed(loss['over_freeze_only'], loss['over_freeze_only_ci95'])}: what a control learns more, or is harmed by its rate, "
        "moves the tax",
        soft_wrap=True,
    )
    if distilled := distill_weight(summary):
        out.print(
            f"control and freeze-only are distilled to the original as well (align.distill={distilled:g})"
        )
    show_work(out, summary)
    if summary.get("trigger") is not None:
        show_trigger(out, summary["trigger"])
    judged, labeler = (
        summary["layers"][0]["score"]["final"],
        escape(str(summary["labeler"]["model"])),
    )
    by = (
        "a head trained beforehand"
        if judged["simulator"] == "head"
        else f"{judged['simulator']} simulation of {labeler}"
    )
    own = (
        ", self-judged (the model that wrote the labels is behind it)"
        if judged["self_judged"]
        else ""
    )
    out.print(
        f"scores by {by}{own}; exact and uncorrected: exact simulation of {labeler}, with and without contrast"
    )
    _show_examples(out, run)
    invariants = ", ".join(
        f"{name} {'yes' if ok else 'NO'}" for name, ok in summary["invariants"].items()
    )
    out.print(f"invariants: {invariants}")
    out.print(
        f"summary   {run.path / 'summary.json'}\nnodes     {run.path / 'nodes.parquet'}\nlogs      {run.path / 'logs'}",
        soft_wrap=True,
    )
    last = summary["layers"][-1]["layer"]
    out.print(
        f"next      ibc verify {run.name}   |   ibc export {run.name} at=final layer={last} output=DIR",
        soft_wrap=True,
    )


def _show_methods(out: Console, layer: dict[str, Any]) -> None:
    """One row per method and judge, one column per moment."""
    rows: dict[tuple[str, str | None], dict[str, Any]] = {}
    for record in layer.get("scores_by_method", []):
        rows.setdefault((record["method"], record["judge"]), {})[record["moment"]] = record
    if not rows:
        return
    table = Table(
        title=f"layer {layer['layer']}: scores by method (mean over nodes)", title_justify="left"
    )
    for column in ("method", "judge"):
        table.add_column(column)
    for column in MOMENTS.values():
        table.add_column(column, justify="right")
    order = {method: place for place, method in enumerate(METHODS)}
    for (method, judge), moments in sorted(
        rows.items(), key=lambda row: order.get(row[0][0], len(order))
    ):
        own = " (self)" if any(record["self_judged"] for record in moments.values()) else ""
        final = moments.get("final", {})
        own += f", {final['n'] + final['n_undefined']} nodes" if final.get("n_not_asked") else ""
        shown = [
            _score(moments[name], name == "final") if name in moments else "" for name in MOMENTS
        ]
        table.add_row(METHODS.get(method, method), escape(f"{judge or 'text'}{own}"), *shown)
    out.print(table)


def _show_beside(out: Console, layer: dict[str, Any]) -> None:
    """Ground truth, assignment and function of a layer, one line each, where it has them."""
    truth, assignment, function = layer.get("truth"), layer.get("assignment"), layer.get("function")
    if layer.get("dictionary") is not None:
        out.print(_dictionary_line(layer["layer"], layer["dictionary"]), soft_wrap=True)
    if truth is not None:
        none = (
            f"{truth['n_no_concept']} labels name no concept"
            + (f", {truth['n_undefined']} undefined" if truth["n_undefined"] else "")
            + (
                f", {truth['n_undefined_before']} undefined before"
                if truth["n_undefined_before"]
                else ""
            )
        )
        out.print(
            f"layer {layer['layer']} ground truth ({truth['n']} nodes; {none}): r {_number(truth['r_before'])} before, "
            f"[bold]{_number(truth['r_mean'])}[/bold] final, {_number(truth['r_shuffled'])} shuffled, "
            f"{_number(truth['r_mean_held_out'])} in held-out documents; AUC {_number(truth['auc_mean'])}, "
            f"label right {_number(truth['share_label_right'])}",
            soft_wrap=True,
        )
        _show_wider(out, layer["layer"], truth["wider"])
    if assignment is not None:
        out.print(
            f"layer {layer['layer']} labels matched on the label split: r {_number(assignment['r_mean_before'])} -> "
            f"{_number(assignment['r_mean_after'])}, pool of {assignment['n_pool']}, "
            f"share from the labeler {_number(assignment['share_from_labeler'])}, "
            f"{assignment['n_failed_labeler']} nodes the labeler failed on",
            soft_wrap=True,
        )
    if function is not None:
        _show_function(out, layer["layer"], function)
    if layer.get("cumulative") is not None and len(layer["cumulative"]["layers"]) > 1:
        _show_cumulative(out, layer["cumulative"])
    if layer.get("audit") is not None and layer["audit"]["final"] is not None:
        _show_audit(out, layer["layer"], layer["audit"])


def _dictionary_line(layer: int, found: dict[str, Any]) -> str:
    kept = "ReLU" if found["k"] is None else f"TopK {found['k']}"
    return (
        f"layer {layer} nodes are features of a {found['source']} transcoder ({kept}{', skip' if found['skip'] else ''}): "
        f"{found['fvu']:.3f} of the MLP's variance unexplained, {found['l0']:.1f} of {found['n_features']} active per token, "
        f"{found['n_dead']} dead; test loss {found['loss_before']:.4f} -> {found['loss']:.4f} when it was put in"
    )


def _show_wider(out: Console, layer: int, wider: dict[str, Any]) -> None:
    """Labels of grammar, single words, positions and groups of words, where the lexicon has no
    concept."""
    out.print(
        f"layer {layer} ground truth of other labels ({wider['n']} nodes; {wider['n_no_rule']} without a rule"
        + (f", {wider['n_undefined']} undefined" if wider["n_undefined"] else "")
        + f"): r {_number(wider['r_before'])} before, [bold]{_number(wider['r_mean'])}[/bold] final, "
        f"{_number(wider['r_shuffled'])} shuffled, {_number(wider['r_mean_held_out'])} in held-out documents; "
        f"AUC {_number(wider['auc_mean'])}, label right {_number(wider['share_label_right'])}",
        soft_wrap=True,
    )


def _show_function(out: Console, layer: int, function: dict[str, Any]) -> None:
    """What the layer's nodes do for the language model, before and in the final model."""
    before, final = function["before"], function["final"]

    def harm(name: str) -> str:
        both = (moment["ablation"][name]["loss_increase"] for moment in (before, final))
        return " -> ".join(f"{value:+.4f}" for value in both)

    rank, substitution = final["own_label_rank"], final["substitution"]
    first, chance = _number(rank["top1_rate"]), _number(rank["chance_top1_rate"])
    by_own, by_other = (
        "undefined" if substitution[name] is None else f"{substitution[name]['loss_increase']:+.4f}"
        for name in ("own_labels", "other_labels")
    )
    out.print(
        f"layer {layer} the loss rises (before -> final) without the aligned nodes, set to their mean, by {harm('aligned_mean')}; "
        f"without the free ones by {harm('free_mean')}; with the aligned ones replaced by their simulation by {by_own}, by that of "
        f"other labels by {by_other}",
        soft_wrap=True,
    )
    lookup = " -> ".join(_number(moment["lookup_r2"]["mean"]) for moment in (before, final))
    out.print(
        f"layer {layer} own label ranked first: {first} of nodes (chance {chance}); R2 from the token alone {lookup}",
        soft_wrap=True,
    )
    _show_clamp(out, layer, final["clamp"])


def _show_clamp(out: Console, layer: int, clamp: dict[str, Any]) -> None:
    """The final model, nodes clamped one by one: loss changes where the label applies, and
    elsewhere."""
    single = clamp["single"]
    if not clamp["n_single"]:
        return

    def change(kind: str) -> str:
        return " / ".join(
            "undefined" if single[side][kind] is None else f"{single[side][kind]:+.4f}"
            for side in ("on", "off")
        )

    out.print(
        f"layer {layer} one node clamped ({clamp['n_single']} nodes), loss change where its label applies / elsewhere: "
        f"set to 0 where it applies {change('zero_on')}, to its largest elsewhere {change('high_off')}, "
        f"to its simulation {change('simulated')}",
        soft_wrap=True,
    )


def _show_audit(out: Console, layer: int, audit: dict[str, Any]) -> None:
    """How often node and label disagree in the corpus, and how often text can be edited so that
    they do."""
    both = [audit[moment] for moment in ("before", "final")]

    def pair(*path: str) -> str:
        values = []
        for value in both:
            for key in path:
                value = value[key]
            values.append("undefined" if value is None else f"{value:.3f}")
        return " -> ".join(values)

    out.print(
        f"layer {layer} audit, before -> final: label and node differ by more than {audit['threshold']:g} of the node's range on "
        f"{pair('rate')} of tokens, {pair('rate_strong')} of strongly active ones; on texts where they agreed, after edits by "
        f"gradient on {pair('search', 'agreeing', 'rate_hotflip')}, by chance on {pair('search', 'agreeing', 'rate_random')}",
        soft_wrap=True,
    )


def _show_cumulative(out: Console, cumulative: dict[str, Any]) -> None:
    """Substitution in several layers at once."""

    def rise(group: str, name: str) -> str:
        record = cumulative[group][name]
        return "undefined" if record is None else f"{record['loss_increase']:+.4f}"

    own = cumulative["substitution"]["own_labels"]
    recovered = " and ".join(_number(own[f"recovered_from_{name}"]) for name in ("mean", "zero"))
    out.print(
        f"layers {', '.join(map(str, cumulative['layers']))} at once: the loss rises by {rise('substitution', 'own_labels')} with "
        f"all aligned nodes replaced by their simulation (recovered from mean and zero ablation: {recovered}), by "
        f"{rise('substitution', 'other_labels')} with that of other labels, by {rise('ablation', 'mean')} with their means",
        soft_wrap=True,
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _score(value: dict[str, Any], with_interval: bool) -> str:
    if value["mean"] is None:
        return "undefined"
    interval = f" [{value['ci95'][0]:.2f}, {value['ci95'][1]:.2f}]" if with_interval else ""
    undefined = f" ({value['n_undefined']} undef.)" if value["n_undefined"] else ""
    return escape(f"{value['mean']:.2f}{interval}{undefined}")


def _show_examples(out: Console, run: RunDirectory) -> None:
    """Nodes spread evenly over the final score, so that good and bad ones are seen."""
    import pyarrow.parquet as pq

    rows = [
        row
        for row in pq.read_table(run.path / "nodes.parquet").to_pylist()
        if row["score_final"] is not None
    ]
    rows.sort(key=lambda row: -row["score_final"])
    picked = (
        [rows[i * (len(rows) - 1) // (N_EXAMPLES - 1)] for i in range(N_EXAMPLES)]
        if len(rows) >= N_EXAMPLES
        else rows
    )
    table = Table(
        title="example nodes, from the best to the worst final score", title_justify="left"
    )
    for column in ("node", "label", "top tokens before", "r before", "r after"):
        table.add_column(column)
    for row in picked:
        before = "-" if row["score_before"] is None else f"{row['score_before']:.2f}"
        after = "-" if row["score_after"] is None else f"{row['score_after']:.2f}"
        tokens = escape(" ".join(row["top_tokens"] or []))
        table.add_row(f"L{row['layer']}/{row['node']}", escape(row["label"]), tokens, before, after)
    out.print(table)


def show_status(run: RunDirectory, seconds: dict[tuple[str, str], float]) -> None:
    """Stages per layer: done (with seconds), running, missing. seconds: (stage, fingerprint) ->
    wall time."""
    out = console()
    state, summary = run.state, run.summary
    running = state["running"] or {}
    title = f"{run.name}: {'complete' if summary and summary['complete'] else 'not complete'}"
    # Without padding all stages fit on the 150 columns of a file or a pipe.
    table = Table(title=title, title_justify="left", padding=0)
    config = run.config()
    absent = {
        "dictionary": config.nodes.kind == "neurons",
        "assign": config.nodes.assign != "match",
    }
    absent["judge"] = not config.scores.enabled
    absent |= dict.fromkeys(
        ("function", "cumulative", "audit"), config.simulate.simulator != "head"
    )
    absent["audit"] |= not config.audit.enabled
    absent |= {
        "work": not config.work.enabled,
        "removed": not (config.work.enabled and config.work.removed),
    }
    stages = tuple(stage for stage in STAGES if not absent.get(stage, False))
    for column in ("layer", *stages, "before", "final"):
        table.add_column(column)

    def cell(links: dict[str, str], stage: str, layer: int | None) -> str:
        if stage in links:
            taken = seconds.get((stage, links[stage]))
            return "[red]gone[/red]" if taken is None else f"{taken:.0f} s"
        if running.get("stage") == stage and running.get("layer") == layer:
            return "[yellow]running[/yellow]" if run.in_use else "[red]stopped[/red]"
        return "missing"

    # Not every run needs those of the labelling.
    optional = ("encode_label", "encode_select", "trigger")
    common = [
        s for s in SHARED if s not in optional or s in state["shared"] or running.get("stage") == s
    ]
    shared = "   ".join(f"{stage}: {cell(state['shared'], stage, None)}" for stage in common)
    scores = {layer["layer"]: layer["score"] for layer in (summary or {}).get("layers", [])}
    for layer in sorted({*state["planned"], *map(int, state["layers"])}):
        links = state["layers"].get(str(layer), {})
        score = scores.get(layer)
        shown = [_score(score[key], False) if score else "" for key in ("before", "final")]
        table.add_row(str(layer), *(cell(links, stage, layer) for stage in stages), *shown)
    out.print(table)
    out.print(shared)
