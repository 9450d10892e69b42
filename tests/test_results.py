"""A stage that is new shows everywhere by itself; a plan that is not done yet is shown as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from stage_jobs import runtime

from interp_by_construction.engine import run_directory
from interp_by_construction.engine.engine import Engine
from interp_by_construction.engine.records import Column, Record
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.stage import Job, Stage
from interp_by_construction.errors import ConfigError, StoreError
from interp_by_construction.report import terminal
from interp_by_construction.report.lines import stage_facts
from interp_by_construction.results import lines
from interp_by_construction.results.finished import Finished, without_curves
from interp_by_construction.results.nodes import columns_of
from interp_by_construction.results.verification import differences
from interp_by_construction.schedules.graph import RunGraph
from interp_by_construction.stages import all_stages


@dataclass(frozen=True)
class ToyRecord(Record):
    n: int
    curve: list[list[float]]

    @classmethod
    def columns(cls, folder: Path) -> list[Column]:
        return [Column("toy", "int", {0: int((folder / "toy").read_text())})]


@dataclass(frozen=True)
class Toy(Stage[ToyRecord]):
    name = "toy"
    version = 1
    record = ToyRecord

    value: int
    parent: Stage[ToyRecord] | None = None

    @classmethod
    def examine(cls) -> None:
        """A measurement of a layer has this."""

    def compute(self, job: Job) -> ToyRecord:
        (job.out / "toy").write_text(str(self.value))
        return ToyRecord(self.value, [[1, 0.5]])


@dataclass(frozen=True)
class SpokenRecord(Record):
    share: float

    def lines(self) -> Iterator[str]:
        yield f"half of it is [{self.share / 2:.2f}]"


@dataclass(frozen=True)
class Spoken(Stage[SpokenRecord]):
    name = "spoken"
    version = 1
    record = SpokenRecord

    parent: Stage[ToyRecord]

    def compute(self, job: Job) -> SpokenRecord:
        return SpokenRecord(0.5)


def graph_of(layers: list[int]) -> RunGraph:
    base = Toy(7)
    toys = {layer: Toy(layer, base) for layer in layers}
    made = {layer: {"zebra": toys[layer], "spoken": Spoken(toys[layer])} for layer in layers}
    return RunGraph({"base": base}, made, {}, {})


def planned(root: Path, graph: RunGraph) -> tuple[RunDirectory, Engine]:
    run = RunDirectory(root / "runs" / "toys")
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_plan(graph.plan())
    return run, Engine(run.store, runtime(root))


def make_all(run: RunDirectory, engine: Engine, graph: RunGraph) -> None:
    for layer, name, stage in graph.links():
        run.mark(layer, name, engine.get(stage).fingerprint)


def test_a_new_stage_is_in_table_summary_terminal_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of([3])
    run, engine = planned(tmp_path, graph)
    make_all(run, engine, graph)
    found = Finished.of(graph, engine)
    assert found == Finished.linked(run, run.store)
    # As if both stood in the room of the stages.
    classes = all_stages() | {"toy": Toy, "spoken": Spoken}
    monkeypatch.setattr(lines, "all_stages", lambda: classes)
    assert classes["freeze"].__module__.endswith("stages.freeze")
    assert columns_of(found.layers[3]["zebra"], classes) == [Column("toy", "int", {0: 3})]
    layer = {name: without_curves(each.metrics) for name, each in found.layers[3].items()}
    assert layer["zebra"] == {"n": 3, "curve": []}
    assert [each.lines for each in stage_facts(run, layer, 3)] == [[], []], "as an older version"
    lines.write_lines(run, found)
    facts = stage_facts(run, layer, 3)
    assert [each.name for each in facts] == ["zebra", "spoken"], "in the order of the graph"
    assert [each.lines for each in facts] == [["zebra: n 3"], ["half of it is [0.25]"]]
    assert [each.values for each in facts] == [layer["zebra"], {"share": 0.5}]
    (run.path / "lines.json").write_text("{")
    with pytest.raises(StoreError, match=r"lines\.json is damaged: the same `ibc run`"):
        stage_facts(run, layer, 3)


def shown(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> str:
    out = Console(record=True, width=150, highlight=False)
    monkeypatch.setattr(terminal, "console", lambda: out)
    terminal.show_status(run)
    return out.export_text()


def test_status_shows_the_plan_and_what_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of([1, 10])
    run, engine = planned(tmp_path, graph)
    text = shown(run, monkeypatch)
    assert text.count("missing") == 5 and "base: missing" in text and " s " not in text
    engine.get(graph.shared["base"])
    run.mark(None, "base", graph.shared["base"].fingerprint)
    engine.get(graph.layers[1]["zebra"])
    run.mark(1, "zebra", graph.layers[1]["zebra"].fingerprint)
    run.announce("spoken", None)
    text = shown(run, monkeypatch)
    assert "base: 0 s" in text and text.count("stopped") == 1 and text.count("missing") == 2
    with run.lock():
        assert shown(run, monkeypatch).count("running") == 1
    make_all(run, engine, graph)
    text = shown(run, monkeypatch)
    assert "missing" not in text and text.index("zebra") < text.index("spoken")
    assert text.index("layer 1 ") < text.index("layer 10")
    (run.store.path("toy", graph.layers[10]["zebra"].fingerprint) / "manifest.json").unlink()
    assert "gone" in shown(run, monkeypatch)


def test_links_that_are_not_planned_any_more_go_and_the_summary_is_not_complete(
    tmp_path: Path,
) -> None:
    graph = graph_of([1])
    run, engine = planned(tmp_path, graph)
    make_all(run, engine, graph)
    other = graph_of([1, 2])
    run.write_plan(other.plan())
    assert len(run.links) == 3 and len(run.plan) == 5
    run.write_plan(RunGraph({"base": Toy(8)}, {2: {"zebra": Toy(2)}}, {}, {}).plan())
    assert not run.links and run.state["layers"] == {} == run.state["shared"]


def test_a_state_without_a_plan_is_of_an_older_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of([1])
    run, engine = planned(tmp_path, graph)
    make_all(run, engine, graph)
    run.finish()
    assert run.done_layers == [1] and run.start_layer == 1
    monkeypatch.setattr(run_directory, "SCHEMA", 2)
    assert len(run.links) == 3
    state = {key: value for key, value in run.state.items() if key != "plan"}
    (run.path / "state.json").write_text(json.dumps(state))
    with pytest.raises(ConfigError, match=r"before schema 2 wrote it; give a new run=NAME"):
        _ = run.links


def test_differences_name_the_place_and_both_values() -> None:
    made = {"a": [1, {"b": None}], "c": "x"}
    assert list(differences(made, json.loads(json.dumps(made)), "")) == []
    assert list(differences({"a": [1, {"b": 2}], "d": 0}, made, "")) == [
        "a[1].b is 2, its artifacts say null",
        'c is missing, its artifacts say "x"',
        "d is 0, its artifacts say nothing of it",
    ]
    assert list(differences({"a": []}, {"a": [1]}, "")) == ["a is [], its artifacts say [1]"]
