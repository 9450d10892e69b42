"""What the stages of a layer say about their results, a line each, for terminal and report.

Records are read from `summary.json` by the class of their stage, so that a stage that is new says
its lines without a change here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from interp_by_construction.engine.records import Record, from_json
from interp_by_construction.engine.run_directory import Link, RunDirectory
from interp_by_construction.engine.stage import Stage
from interp_by_construction.stages.registry import all_stages

Lines = Iterator[str]
Classes = Mapping[str, type[Stage[Any]]]


@dataclass(frozen=True)
class StageFacts:
    """What one stage recorded."""

    name: str
    """Its link name in the run."""
    lines: list[str]
    values: dict[str, Any]
    """Its record, without curves."""


def stage_facts(
    run: RunDirectory, records: Mapping[str, Any], layer: int | None
) -> list[StageFacts]:
    """Of all stages of a layer, or of those that belong to none, in the order of computation.
    records: link name -> record, among other things."""
    classes = all_stages()
    return [
        StageFacts(link.name, list(_lines(link, records[link.name], classes)), records[link.name])
        for link in run.links
        if link.layer == layer and records.get(link.name) is not None
    ]


def _lines(link: Link, values: Mapping[str, Any], classes: Classes) -> Lines:
    """What a record says by default is shown of measurements only."""
    kind = classes.get(link.stage)
    if kind is not None and kind.record.lines is not Record.lines:
        yield from _record(kind, values).lines()
    elif link.stage in UNDECLARED:
        yield from UNDECLARED[link.stage](values)
    elif kind is not None and any(hasattr(kind, name) for name in ("examine", "examine_all")):
        yield from (f"{link.name}: {line}" for line in _record(kind, values).lines())


def _record(kind: type[Stage[Any]], values: Mapping[str, Any]) -> Record:
    """Beside a record's own values the summary may hold what was derived from them."""
    own = [each.name for each in dataclasses.fields(kind.record)]
    record: Record = from_json(kind.record, {name: values[name] for name in own if name in values})
    return record


def number(value: float | None) -> str:
    """Two digits, or that there is no value."""
    return "undefined" if value is None else f"{value:.2f}"


# From here on: stages whose records declare no lines themselves yet.


def _evaluate(values: Mapping[str, Any]) -> Lines:
    truth = values["truth"]
    if truth is None:
        return
    none = f"{truth['n_no_concept']} labels name no concept"
    for key, what in (("n_undefined", "undefined"), ("n_undefined_before", "undefined before")):
        none += f", {truth[key]} {what}" if truth[key] else ""
    yield f"ground truth ({truth['n']} nodes; {none}): {_truth(truth)}"
    wider = truth["wider"]
    none = f"{wider['n_no_rule']} without a rule"
    none += f", {wider['n_undefined']} undefined" if wider["n_undefined"] else ""
    yield f"ground truth of other labels ({wider['n']} nodes; {none}): {_truth(wider)}"


def _truth(truth: Mapping[str, Any]) -> str:
    return (
        f"r {number(truth['r_before'])} before, {number(truth['r_mean'])} final, "
        f"{number(truth['r_shuffled'])} shuffled, {number(truth['r_mean_held_out'])} in held-out "
        f"documents; AUC {number(truth['auc_mean'])}, "
        f"label right {number(truth['share_label_right'])}"
    )


def _assign(values: Mapping[str, Any]) -> Lines:
    yield (
        f"labels matched on the label split: r {number(values['r_mean_before'])} -> "
        f"{number(values['r_mean_after'])}, pool of {values['n_pool']}, "
        f"share from the labeler {number(values['share_from_labeler'])}, "
        f"{values['n_failed_labeler']} nodes the labeler failed on"
    )


def _dictionary(values: Mapping[str, Any]) -> Lines:
    kept = "ReLU" if values["k"] is None else f"TopK {values['k']}"
    yield (
        f"nodes are features of a {values['source']} transcoder "
        f"({kept}{', skip' if values['skip'] else ''}): {values['fvu']:.3f} of the MLP's variance "
        f"unexplained, {values['l0']:.1f} of {values['n_features']} active per token, "
        f"{values['n_dead']} dead"
    )


def _function(values: Mapping[str, Any]) -> Lines:
    """What the layer's nodes do for the language model, before and in the final model."""
    both = (values["before"], values["final"])

    def harm(name: str) -> str:
        return " -> ".join(f"{each['ablation'][name]['loss_increase']:+.4f}" for each in both)

    rank, substitution = both[1]["own_label_rank"], both[1]["substitution"]
    own, other = (rise(substitution[name]) for name in ("own_labels", "other_labels"))
    yield (
        "the loss rises (before -> final) without the aligned nodes, set to their mean, by "
        f"{harm('aligned_mean')}; without the free ones by {harm('free_mean')}; with the aligned "
        f"ones replaced by their simulation by {own}, by that of other labels by {other}"
    )
    lookup = " -> ".join(number(each["lookup_r2"]["mean"]) for each in both)
    yield (
        f"own label ranked first: {number(rank['top1_rate'])} of nodes (chance "
        f"{number(rank['chance_top1_rate'])}); R2 from the token alone {lookup}"
    )
    clamp = both[1]["clamp"]
    if clamp["n_single"]:
        yield _clamp(clamp)


def rise(record: Mapping[str, Any] | None) -> str:
    """By how much an intervention raises the loss, nats per token."""
    return "undefined" if record is None else f"{record['loss_increase']:+.4f}"


def _clamp(clamp: Mapping[str, Any]) -> str:
    """The final model, nodes clamped one by one: loss changes where the label applies, and
    elsewhere."""

    def change(kind: str) -> str:
        values = (clamp["single"][side][kind] for side in ("on", "off"))
        return " / ".join("undefined" if value is None else f"{value:+.4f}" for value in values)

    return (
        f"one node clamped ({clamp['n_single']} nodes), loss change where its label applies / "
        f"elsewhere: set to 0 where it applies {change('zero_on')}, to its largest elsewhere "
        f"{change('high_off')}, to its simulation {change('simulated')}"
    )


def _audit(values: Mapping[str, Any]) -> Lines:
    """How often node and label disagree in the corpus, and how often text can be edited so that
    they do."""
    if values["final"] is None:
        return

    def pair(*path: str) -> str:
        shown = []
        for value in (values["before"], values["final"]):
            for key in path:
                value = value[key]
            shown.append("undefined" if value is None else f"{value:.3f}")
        return " -> ".join(shown)

    yield (
        f"audit, before -> final: label and node differ by more than {values['threshold']:g} of "
        f"the node's range on {pair('rate')} of tokens, {pair('rate_strong')} of strongly active "
        "ones; on texts where they agreed, after edits by gradient on "
        f"{pair('search', 'agreeing', 'rate_hotflip')}, by chance on "
        f"{pair('search', 'agreeing', 'rate_random')}"
    )


def _cumulative(values: Mapping[str, Any]) -> Lines:
    """Substitution in several layers at once."""
    if len(values["layers"]) < 2:
        return
    own, other = (values["substitution"][name] for name in ("own_labels", "other_labels"))
    recovered = " and ".join(number(own[f"recovered_from_{name}"]) for name in ("mean", "zero"))
    yield (
        f"with layers {', '.join(map(str, values['layers']))} at once: the loss rises by "
        f"{rise(own)} with all aligned nodes replaced by their simulation (recovered from mean and "
        f"zero ablation: {recovered}), by {rise(other)} with that of other labels, by "
        f"{rise(values['ablation']['mean'])} with their means"
    )


UNDECLARED: dict[str, Callable[[Mapping[str, Any]], Lines]] = {
    "evaluate": _evaluate,
    "assign": _assign,
    "dictionary": _dictionary,
    "function": _function,
    "audit": _audit,
    "cumulative": _cumulative,
    # What these say stands in tables of their own.
    "work": lambda values: iter(()),
    "removed": lambda values: iter(()),
    "judge": lambda values: iter(()),
    "trigger": lambda values: iter(()),
}
