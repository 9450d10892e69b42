"""`ibc verify`: recomputes the hashes of a run's artifacts, its summary, node table and links, and
checks the invariants on the saved checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from interp_by_construction.engine.made_with import mixtures
from interp_by_construction.engine.progress import track
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.seal import seal_problems
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import StoreError
from interp_by_construction.results.finished import Finished
from interp_by_construction.results.nodes import node_table
from interp_by_construction.results.summary import summary
from interp_by_construction.stages.freeze import frozen_identical
from interp_by_construction.subject.load import load_subject

N_SHOWN = 20
"""Differing values of the node table that are listed."""


def verify(run: RunDirectory, store: Store, plan: Mapping[str, Any] | None = None) -> list[str]:
    """One line per problem; empty if there is none. plan: `RunGraph.plan` of the configuration.
    Raises ConfigError for a run of another schema."""
    problems, written = [], None
    try:
        written = run.summary
    except StoreError as error:
        problems.append(str(error))
    if plan is not None:
        problems += _link_problems(run, plan)
    for stage, fingerprint in track(run.artifacts, "verify"):
        problems += store.verify(stage, fingerprint)
    broken = bool(problems)
    problems += seal_problems(run)
    if broken:
        return problems
    try:
        found = Finished.linked(run, store)
        if written is not None and written["complete"]:
            problems += _result_problems(run, written, found)
        problems += [*_split_problems(found), *_frozen_problems(run, found)]
    except Exception as error:
        # Data that was changed may be unreadable, and each format has errors of its own. What is
        # known by now says which.
        if not problems:
            raise
        problems.append(f"not all was compared: {error}")
    return problems


def notes(run: RunDirectory, store: Store) -> list[str]:
    """What is no problem and may explain a difference in last bits: in what the run's artifacts
    were made with, and which of them with what. Raises StoreError as `Finished.linked`."""
    lines = []
    for mixture in mixtures(Finished.linked(run, store).every):
        for value, artifacts in mixture.found.items():
            lines.append(f"made with {mixture.name} {value}: {', '.join(artifacts)}")
    return lines


def differences(written: Any, made: Any, where: str) -> Iterator[str]:
    """One line per value in which two JSON values differ, with its dotted key and both values."""
    if isinstance(written, dict) and isinstance(made, dict):
        for key in dict.fromkeys([*made, *written]):
            name = f"{where}.{key}" if where else str(key)
            if key not in written:
                yield f"{name} is missing, its artifacts say {_short(made[key])}"
            elif key not in made:
                yield f"{name} is {_short(written[key])}, its artifacts say nothing of it"
            else:
                yield from differences(written[key], made[key], name)
    elif isinstance(written, list) and isinstance(made, list) and len(written) == len(made):
        for i, (one, other) in enumerate(zip(written, made, strict=True)):
            yield from differences(one, other, f"{where}[{i}]")
    elif written != made:
        yield f"{where} is {_short(written)}, its artifacts say {_short(made)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _link_problems(run: RunDirectory, plan: Mapping[str, Any]) -> Iterator[str]:
    """Links against the plan. Of a run that is not complete, only existing links are compared."""
    state, complete = run.state, run.standing == "complete"
    written = {"shared": state["shared"], **state["layers"]}
    made: dict[str, Any] = {}
    for group, links in (("shared", plan["shared"]), *plan["layers"].items()):
        old = written.setdefault(group, {})
        made[group] = {name: each for name, (_, each) in links.items() if complete or name in old}
    for line in differences(written, made, ""):
        place = line if line.startswith("shared") else f"layers.{line}"
        yield f"{run.path / 'state.json'}: {place.replace('its artifacts say', 'the plan says')}"


def _result_problems(run: RunDirectory, written: dict[str, Any], found: Finished) -> Iterator[str]:
    """Summary and node table against the artifacts."""
    cfg = run.config()
    expected = node_table(found, cfg.free.count)
    made = json.loads(json.dumps(summary(run.name, cfg, found, expected)))
    for line in differences(written, made, ""):
        yield f"{run.path / 'summary.json'}: {line}"
    file = run.path / "nodes.parquet"
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        yield f"{file}: cannot be read ({error})"
        return
    for line in islice(_row_differences(table, expected), N_SHOWN):
        yield f"{file}: {line}"


def _row_differences(written: pa.Table, made: pa.Table) -> Iterator[str]:
    if written.schema != made.schema or len(written) != len(made):
        yield (
            f"{len(written)} rows of {', '.join(written.column_names)}; its artifacts have "
            f"{len(made)} of {', '.join(made.column_names)}"
        )
        return
    for one, other in zip(written.to_pylist(), made.to_pylist(), strict=True):
        if one != other:
            yield from differences(one, other, f"layer {other['layer']} node {other['node']}")


def _split_problems(found: Finished) -> Iterator[str]:
    """Invariant 2, from the documents' hashes."""
    path = found.shared["corpus"].path / "documents.parquet"
    documents = pq.read_table(path, columns=["split", "sha256"]).group_by("sha256")
    counts = documents.aggregate([("split", "count_distinct")])["split_count_distinct"]
    shared = sum(count > 1 for count in counts.to_pylist())
    if shared:
        yield f"{path}: {shared} documents are in more than one split"


def _frozen_problems(run: RunDirectory, found: Finished) -> Iterator[str]:
    """Invariant 1: aligned activations and frozen weights of each layer in every later checkpoint.

    With schedule=joint the checkpoints of align and dictionary are older than all freezes.
    """
    sequential = run.config().schedule == "sequential"
    done = {index: each for index, each in found.layers.items() if "continue" in each}
    for index, artifacts in done.items():
        later = [(above, each, "continue") for above, each in done.items() if above >= index]
        if sequential:
            later += [(above, each, "align") for above, each in done.items() if above >= index]
            later += [
                (above, each, "dictionary")
                for above, each in done.items()
                if above > index and "dictionary" in each
            ]
        for above, each, stage in later:
            model = each[stage].path / "model"
            if not frozen_identical(load_subject(model), artifacts["freeze"].path):
                yield (
                    f"{model}: layer {index} is not as it was frozen, seen after {stage} of "
                    f"layer {above}"
                )
