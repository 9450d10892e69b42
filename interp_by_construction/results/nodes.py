"""`nodes.parquet`: one row per node of each layer that is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open

from interp_by_construction.engine.disk import disk_errors
from interp_by_construction.engine.records import Column, Record
from interp_by_construction.engine.stage import Stage
from interp_by_construction.engine.store import Artifact
from interp_by_construction.labelling.labels import read_labels
from interp_by_construction.results.finished import Artifacts, Finished, labels_of
from interp_by_construction.stages import all_stages
from interp_by_construction.subject.nodes import Node, read_nodes, read_opposites, shown_at

KINDS = {
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
}
"""Kind of a `Column` -> type in the table."""
OWN = {
    "layer": "int",
    "node": "int",
    "pole": "int",
    "label": "string",
    "source": "string",
    "status": "string",
    "added": "bool",
    "top_tokens": "strings",
}
"""Columns of every run. `source`: see `labelling.labels.Source`. `status`: aligned, failed (it got
no label) or free. `added`: a neuron of free.count."""
N_TOP = 8


def node_table(found: Finished, n_added: int) -> pa.Table:
    """The columns `OWN` and those of the layers' stages (`Record.columns`); null where undefined.
    n_added: neurons that the run adds to each layer."""
    classes, kinds = all_stages(), dict(OWN)
    rows: list[dict[str, Any]] = []
    for layer, artifacts in found.layers.items():
        columns = [
            column for artifact in artifacts.values() for column in columns_of(artifact, classes)
        ]
        kinds |= {column.name: column.kind for column in columns}
        rows += [
            row | {each.name: each.values.get(row["node"]) for each in columns}
            for row in _own_columns(artifacts, layer, n_added)
        ]
    schema = pa.schema([(name, KINDS[kind]) for name, kind in kinds.items()])
    return pa.Table.from_pylist(rows, schema=schema)


def columns_of(artifact: Artifact, classes: Mapping[str, type[Stage[Any]]]) -> list[Column]:
    """What the record of an artifact's stage adds to the table."""
    kind = classes[artifact.stage].record if artifact.stage in classes else Record
    return kind.columns(artifact.path)


def layer_width(artifacts: Artifacts) -> int:
    """Nodes of the layer when it was labelled."""
    with safe_open(artifacts["collect"].path / "moments.safetensors", "numpy") as moments:
        return moments.get_slice("mean").get_shape()[0]


def write_nodes(table: pa.Table, path: Path) -> None:
    """Writes the file `path` in one rename."""
    with disk_errors(path):
        unfinished = path.with_name(f".{path.name}.partial")
        pq.write_table(table, unfinished)
        unfinished.replace(path)


def _own_columns(artifacts: Artifacts, layer: int, n_added: int) -> Iterator[dict[str, Any]]:
    labels = {label.node: label for label in read_labels(labels_of(artifacts).path)}
    collected = artifacts["collect"].path
    views = [*read_nodes(collected), *read_opposites(collected)]
    top = {(view.node, view.pole): _top_tokens(view) for view in views}
    width = layer_width(artifacts)
    for node in range(width + n_added):
        label = labels.get(node)
        yield {
            "layer": layer,
            "node": node,
            "pole": label.pole if label else 1,
            "label": label.text if label else None,
            "source": label.source if label else None,
            "status": label.status if label else "free",
            "added": node >= width,
            "top_tokens": top.get((node, label.pole)) if label else None,
        }


def _top_tokens(node: Node) -> list[str]:
    shown = (each.tokens[shown_at(each.tokens, each.peak)].strip() for each in node.top)
    return list(dict.fromkeys(shown))[:N_TOP]
