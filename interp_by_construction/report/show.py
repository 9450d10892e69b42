"""`ibc show`: a finished run as tables, or one of its nodes. Light to import: it only reads
files."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Artifact
from interp_by_construction.errors import ConfigError
from interp_by_construction.report.ending import layers_named
from interp_by_construction.report.facts import RunFacts, node_rows
from interp_by_construction.report.layer_view import read_layer
from interp_by_construction.report.node_text import show_node
from interp_by_construction.report.run_tables import show_tables
from interp_by_construction.report.tables import ending_console
from interp_by_construction.report.viewed import find_viewer


def show(run: RunDirectory, place: Sequence[str]) -> None:
    """place: nothing, or layer and node as they were typed.

    Raises ConfigError for a run that is not finished or of another schema, and for a layer or node
    that is not there; StoreError where an artifact is gone.
    """
    facts = RunFacts(run, run.finished_summary(), run.store)
    if not place:
        show_tables(run)
        return
    layer, node = _place(facts, place)
    rows = node_rows(run)
    view = read_layer(facts, layer, rows, _viewer(facts, layer))
    labels = {(row["layer"], row["node"]): row["label"] for row in rows}
    show_node(ending_console(), facts, view, node, labels)


def _place(facts: RunFacts, place: Sequence[str]) -> tuple[int, int]:
    name, layers = facts.name, facts.layers
    example = f"as in `ibc show {name} {layers[0]} 0`"
    if len(place) != 2:
        raise ConfigError(
            f"ibc show {name} {' '.join(place)}: give one layer and one node, {example}, or "
            "neither for all tables"
        )
    for what, value in zip(("layer", "node"), place, strict=True):
        if not value.isdecimal():
            raise ConfigError(f"{what} {value}: it is no number; give one, {example}")
    layer, node = map(int, place)
    if layer not in layers:
        raise ConfigError(
            f"layer {layer}: run {name} has labelled {layers_named(layers)}; give one of those"
        )
    n = facts.layer(layer)["n_nodes"]
    if node >= n:
        raise ConfigError(f"node {node}: layer {layer} of run {name} has nodes 0 to {n - 1}")
    return layer, node


def _viewer(facts: RunFacts, layer: int) -> Artifact:
    """The viewer of the layer, which is made now if `ibc run` could not make it."""
    found = find_viewer(facts, layer)
    if found is not None:
        return found
    sys.stderr.write(f"choosing excerpts of layer {layer}; the next `ibc show` finds them\n")
    from interp_by_construction.report.viewer import build_viewer  # It imports torch.

    return build_viewer(facts, layer)
