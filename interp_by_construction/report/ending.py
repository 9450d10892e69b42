"""What a finished run has made, in a few sentences, one chart and five neurons.

`ibc run` ends with it (`ending_text`), and the report opens with it (`templates/ending.html`).
Light to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interp_by_construction.report.facts import (
    RunFacts,
    distill_weight,
    examples,
    score_of,
    truth_of,
)


@dataclass(frozen=True)
class Fact:
    """One number of the run, and what it means."""

    name: str
    text: str


@dataclass(frozen=True)
class Bar:
    """One loss of the chart."""

    name: str
    loss: float
    """Nats per token."""
    over: float
    """The loss minus the control's."""


@dataclass(frozen=True)
class Neuron:
    """A labelled node, and a piece of text on which it is most active."""

    layer: int
    node: int
    label: str
    score: float
    """Its final score."""
    excerpt: dict[str, Any] | None
    """See `stages.viewer`. None where the viewer has not been made."""
    largest: float
    """Its largest |activation| on the text that the excerpt is from."""


@dataclass(frozen=True)
class Ending:
    """All that ending and opening say."""

    run: str
    sentence: str
    facts: list[Fact]
    bars: list[Bar]
    neurons: list[Neuron]
    """From the best to the worst final score."""


def ending_of(
    facts: RunFacts,
    rows: Iterable[dict[str, Any]],
    viewed: Mapping[int, Mapping[int, dict[str, Any]]],
) -> Ending:
    """rows: of nodes.parquet; viewed: layer -> node -> its record of the viewer, as far as there
    are any."""
    return Ending(
        facts.name,
        _sentence(facts),
        list(_facts(facts.summary)),
        _bars(facts.summary),
        [_neuron(row, viewed.get(row["layer"], {}).get(row["node"])) for row in examples(rows)],
    )


def layers_named(layers: Sequence[int]) -> str:
    """`layer 1`, `layers 1 and 2`, `layers 0 to 11`, or how many there are."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    if len(layers) > 6:
        return f"{len(layers)} layers"
    return f"layers {', '.join(map(str, layers[:-1]))} and {layers[-1]}"


def _sentence(facts: RunFacts) -> str:
    summary, layers = facts.summary, facts.summary["layers"]
    n, of, failed = (
        sum(layer[key] for layer in layers) for key in ("n_aligned", "n_nodes", "n_failed_labels")
    )
    unit = "features" if any(layer.get("dictionary") for layer in layers) else "neurons"
    whole = (
        f"{of:,} {unit} of {layers_named(facts.layers)} of the model {summary['subject']['name']}"
    )
    control = (summary.get("align") or {}).get("control")
    if not n:
        why = "The labeler found none." if failed else "This run is a control without labels."
        return f"{facts.name}: none of the {whole} has a label. {why}"
    made = f"{facts.name}: {n:,} of the {whole} now have a label in English"
    if control == "shuffled":
        return f"{made}, but were trained to follow the labels of others. This run is a control."
    if control == "random":
        return f"{made}, but were trained towards random targets. This run is a control."
    rest = f" {failed:,} more were to get one and got none." if failed else ""
    return f"{made} that they were trained to follow.{rest}"


def _facts(summary: dict[str, Any]) -> Iterator[Fact]:
    loss, broken = summary["loss"], [k for k, ok in summary["invariants"].items() if not ok]
    if broken:
        yield Fact("BROKEN", f"Do not trust this run: {', '.join(broken)} does not hold.")
    alike = "trained and distilled" if distill_weight(summary) else "trained"
    yield Fact(
        "loss",
        f"{loss['original']:.3f} nats per token before, {loss['final']:.3f} after. "
        f"Control ({alike} as long, no labels): {loss['control']:.3f}.",
    )
    interval = _interval(loss["tax_ci95"], "+.4f") or " (one test document, so no interval)"
    said = "So much labels cost."
    if loss["control"] > loss["original"]:
        said = (
            "The control's loss rose too, so part of the harm is the training's, not the labels'."
        )
    yield Fact("tax", f"{loss['tax']:+.4f}{interval}: the loss after minus the control's. {said}")
    yield Fact("MLPs", _carried(summary))
    yield Fact("score", _score(summary["layers"]))
    if all("sources" in layer for layer in summary["layers"]):
        yield Fact("labels", _sources(summary["layers"]))
    if (truth := truth_of(summary)) is not None:
        yield Fact(
            "truth",
            f"{truth:.2f}: mean correlation with the concept that the label names (no LLM involved).",
        )
    yield from _planted(summary.get("trigger"))
    yield from _transcoders(summary["layers"])


def _carried(summary: dict[str, Any]) -> str:
    rest = "Attention and embeddings have no labels."
    work = summary.get("work")
    if not work:
        return f"How much they carry was not measured: work.enabled=true does. {rest}"
    free, aligned, whole = (work["ablation"][f"{name}_mean"] for name in ("free", "aligned", "all"))
    form = ".3f" if abs(whole["loss_increase"]) >= 0.01 else ".4f"
    text = (
        "With all their neurons at their mean the loss is "
        f"{whole['loss_increase']:{form}}{_interval(whole['ci95'], form)} higher,"
    )
    if any(layer["n_free"] for layer in summary["layers"]):
        text += (
            f" with the labelled ones alone {aligned['loss_increase']:{form}}, with the others "
            f"{free['loss_increase']:{form}},"
        )
    text = f"{text[:-1]}."
    return f"{text} {rest}"


def _score(layers: Sequence[dict[str, Any]]) -> str:
    finals = [layer["score"]["final"] for layer in layers]
    final, before, shuffled = (
        score_of({"layers": layers}, moment) for moment in ("final", "before", "shuffled")
    )
    spread = _interval(finals[0]["ci95"], ".2f")
    if len(layers) > 1 and final is not None:
        means = [each["mean"] for each in finals]
        spread = f" ({min(means):.2f} to {max(means):.2f} by layer)"
    undefined = sum(each["n_undefined"] for each in finals)
    without = f" It is undefined for {undefined:,}." if undefined else ""
    return (
        f"{_two(final)}{spread}: mean correlation of a neuron with what its label predicts, on new "
        f"text.{without} Before training {_two(before)}, with other neurons' labels "
        f"{_two(shuffled)}. {_predicted_by(finals[0])}{_second(layers)}"
    )


def _sources(layers: Sequence[dict[str, Any]]) -> str:
    """Who came up with the labels, and how much they say."""
    whole, own, prompt, general, none, single = (
        sum(layer["sources"][f"n_{name}"] for layer in layers)
        for name in ("nodes", "labeler", "prompt", "general", "none", "single_word")
    )
    parts = [f"{own} of {whole} are the labeler's own"]
    parts += [f"{prompt} copied from its prompt"] if prompt else []
    parts += [f"{general} from the general list"] if general else []
    parts += [f"{none} missing"] if none else []
    said = f"{', '.join(parts)}. {single} only name a word"
    contexts = [((layer.get("function") or {}).get("final") or {}) for layer in layers]
    if not all("contextual" in each for each in contexts):
        return f"{said}."
    found = [each["contextual"] for each in contexts]
    n = sum(each["n"] * (each["share"] or 0.0) for each in found)
    return f"{said}, {n:.0f} beat their neuron's mean per token."


def _second(layers: Sequence[dict[str, Any]]) -> str:
    if any(layer["score"].get("second") is None for layer in layers):
        return ""
    return f" By a second one: {_two(score_of({'layers': layers}, 'second'))}."


def _predicted_by(final: dict[str, Any]) -> str:
    name = final["simulator"]
    if name.startswith("exact"):
        return "Predicted by the model that wrote the labels."
    own = ", on the labeler's model" if final["self_judged"] else ""
    return f"Predicted by the simulator that made the targets ({name}{own})."


def _planted(trigger: dict[str, Any] | None) -> Iterator[Fact]:
    """How often the planted trigger works, in the models that nothing was ablated in."""
    if trigger is None:
        return
    named = {"original": "before", "continue": "after", "control": "in the control"}
    rows = [row for row in trigger["rows"] if row["ablated"] is None and row["role"] in named]
    # Of several layers the last one counts, which comes last.
    shares = {named[row["role"]]: row["with"]["greedy"] for row in rows}
    works = ", ".join(f"{share:.2f} {when}" for when, share in shares.items())
    yield Fact("trigger", f"Share of contexts in which the planted trigger works: {works}.")


def _transcoders(layers: Sequence[dict[str, Any]]) -> Iterator[Fact]:
    found = [layer["dictionary"] for layer in layers if layer.get("dictionary")]
    rises = [each["loss"] - each["loss_before"] for each in found]
    if rises:
        ends = f"{min(rises):+.3f}" + (f" to {max(rises):+.3f}" if len(rises) > 1 else "")
        yield Fact(
            "features", f"A transcoder in place of a layer's MLP changed the loss by {ends}."
        )


def _bars(summary: dict[str, Any]) -> list[Bar]:
    loss, work = summary["loss"], summary.get("work")
    losses = {"before": loss["original"], "control": loss["control"], "after": loss["final"]}
    if work:
        rise = work["ablation"]["all_mean"]["loss_increase"]
        losses["after, without these MLPs"] = loss["final"] + rise
    return [Bar(name, value, value - loss["control"]) for name, value in losses.items()]


def _neuron(row: dict[str, Any], viewed: Mapping[str, Any] | None) -> Neuron:
    of = row["layer"], row["node"], row["label"], row["score_final"]
    if viewed is None or not viewed["excerpts"]:
        return Neuron(*of, None, 0.0)
    # The strongest comes first.
    return Neuron(*of, viewed["excerpts"][0], viewed["largest"])


def _interval(ends: Sequence[float] | None, form: str) -> str:
    return "" if ends is None else f" [{ends[0]:{form}}, {ends[1]:{form}}]"


def _two(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
