"""`ibc show`: a finished run and its nodes on the terminal, fast, and clear about what is not
there."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from report_run import copy_of

from interp_by_construction.cli import main
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.labelling.labels import Label, Proposal, read_labels
from interp_by_construction.report import layer_view, show
from interp_by_construction.report.facts import RunFacts, node_rows
from interp_by_construction.report.label_source import label_source
from interp_by_construction.report.layer_view import LayerView, read_layer
from interp_by_construction.report.viewer import build_viewer


@pytest.fixture(scope="module")
def facts(shared_run: tuple[Path, RunDirectory]) -> RunFacts:
    _, run = shared_run
    return RunFacts(run, run.finished_summary(), run.store)


def node_of(facts: RunFacts, status: str, layer: int = 1) -> dict[str, Any]:
    rows = node_rows(facts.directory)
    return next(row for row in rows if row["layer"] == layer and row["status"] == status)


def shown(facts: RunFacts, capsys: pytest.CaptureFixture[str], *place: Any) -> str:
    """What the command prints of the run, or of a node."""
    root = facts.store.root.parent
    main(["show", facts.name, *map(str, place), f"paths.root={root}"])
    text = capsys.readouterr().out
    if place:
        lines = text.splitlines()
        assert len(lines) <= 60 and max(map(len, lines[:-1])) <= 100
    return text


def test_a_labelled_node_has_label_source_scores_text_and_effects(
    facts: RunFacts, capsys: pytest.CaptureFixture[str]
) -> None:
    for layer in facts.layers:
        row = node_of(facts, "aligned", layer)
        text = shown(facts, capsys, layer, row["node"])
        assert text.startswith(f"L{layer}/{row['node']}  {row['label']}  (labelled)")
        for name in ("source", "activity", "scores", "strongest", "promotes", "suppresses"):
            assert f"\n{name} " in text
        assert f"{row['score_before']:.2f}" in text and f"{row['score_final']:.2f}" in text
        assert re.search(r"\br\s+-?0\.", text), "how well it matched"
        assert ("writes to   L2/" in text) == (layer == 1)
        assert ("reads from  L1/" in text) == (layer == 2)


def test_a_free_node_is_shown_as_free_with_what_it_does(
    facts: RunFacts, capsys: pytest.CaptureFixture[str]
) -> None:
    row = node_of(facts, "free")
    text = shown(facts, capsys, 1, row["node"])
    assert text.startswith(f"L1/{row['node']}  (free: no label)")
    assert "it was not chosen to get a label" in text and "\nscores" not in text
    assert "\nstrongest" in text and "\npromotes" in text and "label predicts" not in text


def test_a_failed_node_says_why(
    facts: RunFacts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_of(facts, "aligned")["node"]

    def labels(path: Path) -> list[Label]:
        failed = {"text": None, "status": "failed", "reason": "no label of the pool is left for it"}
        return [
            dataclasses.replace(each, **failed) if each.node == node else each
            for each in read_labels(path)
        ]

    rows = [
        row | {"status": "failed", "label": None}
        if (row["layer"], row["node"]) == (1, node)
        else row
        for row in node_rows(facts.directory)
    ]
    monkeypatch.setattr(layer_view, "read_labels", labels)
    monkeypatch.setattr(show, "node_rows", lambda _: rows)
    text = shown(facts, capsys, 1, node)
    assert text.startswith(f"L1/{node}  (failed: no label)")
    assert "it was to get a label, but no label of the pool is left for it" in text


def test_tables_show_the_whole_run(facts: RunFacts, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(facts, capsys)
    loss = facts.summary["loss"]
    for said in (
        "held-out simulation score",
        "labels matched on the label split",
        "layer 2 ground truth",
        f"tax {loss['tax']:+.4f}",
        "nodes ablated",
        "example nodes",
        "invariants: frozen_identical yes",
        "summary.json",
    ):
        assert said in text, said


def test_where_labels_come_from_is_said_in_words(facts: RunFacts) -> None:
    view = read_layer(facts, 1, node_rows(facts.directory), build_viewer(facts, 1))

    def source(
        label: str | None, history: list[Proposal], of: Any = "labeler", **matched: Any
    ) -> str:
        made: LayerView = dataclasses.replace(
            view,
            labels={3: Label(3, 1, label, "aligned", 1, None, of)},
            history={3: history, 7: [Proposal(7, 1, 0, "proposal", "kings")]},
            matched={3: {"label": label, "r": None} | matched} if matched else {},
        )
        return label_source(made, 3)

    revised = Proposal(3, 1, 6, "revision", "kings", 0.3, True, "the highest score")
    assert source("kings", [revised]).startswith("revised by the labeler after it saw where")
    assert source("kings", [revised]).endswith("; the highest score")
    shown = "which repeats a label that its prompt showed; the highest score"
    assert shown in source("kings", [revised], "prompt")
    every = {"own_label": "queens"}
    assert "the labeler proposed it for neuron 7" in source("kings", [], r=0.25, **{**every})
    assert "“queens” (r" not in source("kings", [], **every)
    assert "another answer of the labeler for this neuron" in source("kings", [revised], **every)
    assert "which it kept" in source("kings", [], **every | {"own_label": "kings"})
    assert "from the general list" in source("kings", [], "general", **every)
    assert "in place of its own" not in source("kings", [], "general", own_label=None)


@pytest.mark.parametrize(
    ("place", "named"),
    [
        (["7", "0"], ["layer 7", "layers 1 and 2"]),
        (["1", "32"], ["node 32", "nodes 0 to 31"]),
        (["1"], ["show small 1", "one layer and one node", "`ibc show small 1 0`"]),
        (["1", "2", "3"], ["one layer and one node"]),
        (["one", "2"], ["layer one", "no number"]),
        (["1", "-2"], ["node -2", "no number"]),
        (["1", "layer=2"], ["layer=2", "unknown option"]),
    ],
)
def test_a_place_that_is_not_there(
    place: list[str], named: list[str], facts: RunFacts, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(["small", *place], facts.store.root.parent, named, capsys)


def test_a_run_that_cannot_be_shown(
    facts: RunFacts, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Missing, unfinished, of fewer layers than it is to have, of another schema, a sweep."""
    root = facts.store.root.parent
    assert_refused(["nope"], root, ["run nope: not found", "small"], capsys)
    unfinished = copy_of(facts.directory, "unfinished")
    summary = unfinished.path / "summary.json"
    for content, named in (
        (json.dumps(facts.summary | {"complete": False}), ["not finished", "ibc status"]),
        (json.dumps(facts.summary | {"schema": 1}), ["schema=1", "run=NAME"]),
        (None, ["not finished", "`ibc run`"]),
    ):
        summary.unlink(missing_ok=True)
        if content is not None:
            summary.write_text(content)
        for place in ([], ["1", "0"]):
            assert_refused(["unfinished", *place], root, named, capsys)
    for job in ("0", "1"):
        (tmp_path / "runs" / "many" / job).mkdir(parents=True)
        (tmp_path / "runs" / "many" / job / "config.yaml").touch()
    assert_refused(["many"], tmp_path, ["is a sweep", "many/0"], capsys)


def assert_refused(
    arguments: list[str], root: Path, named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["show", *arguments, f"paths.root={root}"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and len(error.splitlines()) == 1
    assert all(name in error for name in named), error


def test_a_viewer_that_is_missing_is_made_and_said(
    facts: RunFacts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "find_viewer", lambda *_: None)
    main(["show", "small", "1", "0", f"paths.root={facts.store.root.parent}"])
    assert "choosing excerpts of layer 1" in capsys.readouterr().err


def test_nothing_heavy_is_imported(facts: RunFacts) -> None:
    node, root = node_of(facts, "aligned")["node"], facts.store.root.parent
    code = (
        "import sys\nfrom interp_by_construction.cli import main\n"
        f"main(['show', 'small', 'paths.root={root}'])\n"
        f"main(['show', 'small', '1', '{node}', 'paths.root={root}'])\n"
        "sys.exit(str([m for m in ('torch', 'transformers', 'pytorch_lightning', 'matplotlib', "
        "'jinja2') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
