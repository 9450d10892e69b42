"""A finished run in Python: what it answers equals what its stages computed; clear errors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fake_server import FakeServer
from random_head import write_random_head
from safetensors.numpy import load_file
from stock import Stock

import interp_by_construction as ibc
from interp_by_construction.cli import main
from interp_by_construction.config import TextAmounts, only
from interp_by_construction.corpus.parts import part_passage
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.tokenize import token_ids
from interp_by_construction.errors import ConfigError, LabelerError, StoreError
from interp_by_construction.loaded import LoadedRun
from interp_by_construction.scoring.simulated import SimulatedLayer
from interp_by_construction.simulators.exact import simulate_raw
from interp_by_construction.stages import viewer
from interp_by_construction.subject.reading import activations_on

TEXT = "The fox ran into the forest and ate a red apple."


@pytest.fixture(scope="module")
def root(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("loaded")
    stock.head(made)
    return made


@pytest.fixture(scope="module")
def run(root: Path) -> LoadedRun:
    return ibc.load(root / "runs" / "small")


@pytest.fixture
def copied(root: Path, tmp_path: Path) -> Path:
    """A run directory that a test may damage. Its store is the same."""
    (tmp_path / "store").symlink_to(root / "store")
    return Path(shutil.copytree(root / "runs" / "small", tmp_path / "runs" / "small"))


def corpus(run: LoadedRun) -> Path:
    return run.found.shared["corpus"].path


def simulated(run: LoadedRun, layer: int) -> SimulatedLayer:
    amounts = only(TextAmounts, run.config.simulate)
    folder = run.found.layers[layer]["simulate"].path
    return SimulatedLayer(folder, corpus(run), layer, amounts, contrast=True)


def plain_excerpts(run: LoadedRun) -> list[tuple[int, Passage]]:
    """Excerpts of the score split which are read the same when they are given as a text, each with
    its place in the part."""
    part = part_passage(corpus(run), "score", only(TextAmounts, run.config.simulate))
    every = [(i, part.part(slice(i, i + 1))) for i in range(len(part))]
    return [
        (i, each)
        for i, each in every
        if token_ids(run.tokenizer, ["".join(each.tokens[0])])[0] == each.ids[0].tolist()
    ]


def test_nodes_have_a_row_for_each_neuron_of_the_labelled_layers(run: LoadedRun) -> None:
    nodes = run.nodes
    assert run.layers == [1, 2] and run.name == "small"
    assert {"layer", "node", "pole", "label", "status", "score_final"} <= set(nodes.columns)
    assert nodes.groupby("layer").size().to_dict() == {1: 32, 2: 32}
    labelled = nodes[nodes["label"].notna()]
    assert set(labelled["status"]) == {"aligned"} and len(labelled) == 8
    assert repr(run) == "LoadedRun('small', layers=[1, 2])"


def test_models_are_copies_in_evaluation_mode(run: LoadedRun) -> None:
    before, final = run.model("before", layer=1), run.model()
    assert not final.training and not before.training
    with torch.no_grad():
        next(final.parameters()).zero_()
    again = run.model("final", layer=2)
    weights = [
        dict(model.named_parameters())["transformer.h.1.mlp.c_fc.weight"]
        for model in (before, again)
    ]
    assert next(again.parameters()).abs().sum() > 0 and not torch.equal(*weights)
    for at, layer, named in (("middle", 1, "before"), ("before", None, "layer"), ("final", 7, "7")):
        with pytest.raises(ConfigError, match=named):
            run.model(at, layer)


def test_tokens_give_the_text(run: LoadedRun) -> None:
    assert "".join(run.tokens(TEXT)).strip() == TEXT and run.tokens("") == []
    assert len(run.tokens(TEXT * 100)) > 1000
    assert "".join(run.tokens("A naïve 🦊 said <|endoftext|>")).strip().endswith("<|endoftext|>")


def test_activations_are_those_that_stages_read(run: LoadedRun) -> None:
    excerpts = plain_excerpts(run)
    assert excerpts
    for _, excerpt in excerpts:
        found = run.activations("".join(excerpt.tokens[0]))
        for layer in run.layers:
            read = activations_on(run.model(), excerpt, layer, np.arange(32))
            assert found[layer].dtype == np.float32
            np.testing.assert_allclose(found[layer], read, atol=1e-5)


def test_simulations_are_those_that_the_run_stored(run: LoadedRun) -> None:
    for layer in run.layers:
        named = simulated(run, layer)
        nodes = run.nodes[run.nodes["layer"] == layer].set_index("node")
        labels = [nodes.loc[node, "label"] for node in named.aligned.nodes]
        for i, excerpt in plain_excerpts(run):
            stored = named.values["score_dense"].reshape(-1, excerpt.length, len(labels))[i]
            said = run.simulate(labels, "".join(excerpt.tokens[0]))
            assert said.dtype == np.float32 and stored.std() > 0
            np.testing.assert_allclose(said, stored, atol=2e-3)
    assert run.simulate([], TEXT).shape == (len(run.tokens(TEXT)), 0)


def test_explain_shows_real_beside_simulated_in_one_scale(run: LoadedRun) -> None:
    found = run.explain(TEXT, top=100)
    tokens, real = run.tokens(TEXT), run.activations(TEXT)
    assert found.tokens == tokens and found.layers == [1, 2] and found.n_labelled == 8
    n_free = 0
    for layer in run.layers:
        named = simulated(run, layer)
        text = named.calibration_text("calibrate")
        line = viewer._calibration(run.model(), text, named.aligned)
        held_out = activations_on(run.model(), text.passage, layer, np.arange(32))
        held_out = held_out[text.passage.is_text.reshape(-1)]
        assert found.n_held_out == len(held_out)
        for each in (each for each in found.firings if each.layer == layer):
            column = named.aligned.nodes.tolist().index(each.node)
            pole = named.aligned.poles[column]
            said = run.simulate([each.label], TEXT)[:, 0] * line.scale[column] + line.offset[column]
            np.testing.assert_allclose(each.real, real[layer][:, each.node] * pole, atol=1e-6)
            np.testing.assert_allclose(each.simulated, said, atol=1e-5)
            assert each.largest == pytest.approx((held_out[:, each.node] * pole).max(), rel=1e-4)
            assert each.real[each.strongest] == each.real.max() > 0
        free = np.setdiff1d(np.arange(32), named.aligned.nodes)
        sign = np.where(-held_out.min(0) > held_out.max(0), -1, 1)[free]
        peaks = (real[layer][:, free] * sign).max(0), (held_out[:, free] * sign).max(0)
        n_free += int(((peaks[0] >= 0.5 * peaks[1]) & (peaks[1] > 0)).sum())
    assert found.n_free_strong == n_free > 0
    shares = [each.share for each in found.firings]
    assert shares == sorted(shares, reverse=True) and len(shares) > 2


def test_explain_can_be_cut_to_some_neurons(run: LoadedRun) -> None:
    whole = run.explain(TEXT, top=100)
    two, lower = run.explain(TEXT, top=2), run.explain(TEXT, layer=1)
    assert two.table.equals(whole.table[:2]) and two.n_labelled == 8
    only_lower = whole.table[whole.table["layer"] == 1].reset_index(drop=True)
    assert lower.table.equals(only_lower) and lower.n_labelled == 4
    columns = ["layer", "node", "label", "status", "token", "real", "simulated", "share"]
    assert list(two.table.columns) == columns


def test_the_labeler_answers_where_the_simulator_is_exact(run: LoadedRun) -> None:
    labels = ["animals", "red things"]
    with FakeServer() as server:
        labeler = replace(run.config.labeler, url=server.url, classify_url=server.url)
        simulate = replace(run.config.simulate, simulator="exact")
        exact = replace(run, config=replace(run.config, labeler=labeler, simulate=simulate))
        said = exact.simulate(labels, TEXT)
        assert exact._runtime._opened == {}
        with exact._runtime.use(exact._simulator.labeler) as opened:
            raw = simulate_raw(opened, labels, [run.tokens(TEXT)], "test")
    np.testing.assert_array_equal(said, raw.contrasted())
    gone = replace(labeler, retries=0, classify_url="http://127.0.0.1:9")
    with pytest.raises(LabelerError, match=r"127\.0\.0\.1:9"):
        replace(exact, config=replace(exact.config, labeler=gone)).simulate(["new"], TEXT)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ["no tokens", "at least one word"]),
        ("fox" + " fox" * 299, ["900 tokens", "holds 128", "shorter"]),
        ("a \ud800 b", ["Unicode"]),
    ],
)
def test_texts_that_cannot_be_read(run: LoadedRun, text: str, named: list[str]) -> None:
    for ask in (run.activations, run.explain, lambda text: run.simulate(["animals"], text)):
        with pytest.raises(ConfigError) as refused:
            ask(text)
        assert all(name in str(refused.value) for name in named), refused.value


def test_questions_that_have_no_answer(run: LoadedRun) -> None:
    with pytest.raises(ConfigError, match=r"layer=7.*\[1, 2\]"):
        run.explain(TEXT, layer=7)
    with pytest.raises(ConfigError, match="top=0"):
        run.explain(TEXT, top=0)
    with pytest.raises(ConfigError, match=r"labels\[1\]=' '"):
        run.simulate(["animals", " "], TEXT)
    with pytest.raises(ConfigError, match=r"give a list, as in \['animals'\]"):
        run.simulate("animals", TEXT)


def damaged(kind: str, path: Path) -> None:
    """Makes a run directory one that cannot be loaded."""
    summary = json.loads((path / "summary.json").read_text())
    if kind == "unfinished":
        (path / "summary.json").write_text(json.dumps(summary | {"complete": False}))
    elif kind == "begun":
        (path / "summary.json").unlink()
    elif kind == "older":
        (path / "summary.json").write_text(json.dumps(summary | {"schema": 1}))
    elif kind == "other settings":
        config = yaml.safe_load((path / "config.yaml").read_text())
        (path / "config.yaml").write_text(yaml.safe_dump(config | {"colour": "red"}))
    elif kind == "store":
        (path.parent.parent / "store").unlink()


@pytest.mark.parametrize(
    ("kind", "error", "named"),
    [
        (
            "unfinished",
            ConfigError,
            ["small is not finished", "same `ibc run`", "ibc status small"],
        ),
        ("begun", ConfigError, ["small is not finished", "same `ibc run`"]),
        ("older", ConfigError, ["schema=1", "reads schema", "new run=NAME"]),
        ("other settings", ConfigError, ["colour", "new run=NAME"]),
        ("store", StoreError, ["small is gone", "same `ibc run`"]),
    ],
)
def test_runs_that_cannot_be_loaded(
    copied: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    error: type[Exception],
    named: list[str],
) -> None:
    damaged(kind, copied)
    with pytest.raises(error) as refused:
        ibc.load(copied)
    assert all(name in str(refused.value) for name in named), refused.value
    with pytest.raises(SystemExit) as ended:
        main(["explain", "small", TEXT, f"paths.root={copied.parent.parent}"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and all(name in said for name in named)


def test_a_path_that_is_no_run(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run is there.*runs/demo.*beside it are small"):
        ibc.load(root / "runs" / "smal")
    with pytest.raises(ConfigError, match=r"no run is there.*`ibc run` makes one"):
        ibc.load(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="it holds the runs small"):
        ibc.load(root / "runs")


def test_files_that_are_gone_or_changed(copied: Path, root: Path) -> None:
    (copied / "nodes.parquet").write_bytes(b"no table")
    loaded = ibc.load(copied)
    with pytest.raises(StoreError, match=r"nodes\.parquet is missing or damaged"):
        _ = loaded.nodes
    other = str(write_random_head(copied.parent / "other.safetensors", seed=1))
    changed = replace(loaded.config.simulate, head=other)
    with pytest.raises(ConfigError, match=r"simulate\.head=.*other.*has changed"):
        replace(loaded, config=replace(loaded.config, simulate=changed)).simulate(["a"], TEXT)
    assert load_file(Path(loaded.config.simulate.head or "")) and root.is_dir()


def explain(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> str:
    main(["explain", *arguments, f"paths.root={root}"])
    return capsys.readouterr().out


def test_explain_on_the_terminal(
    root: Path, run: LoadedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    said = explain(capsys, root, "small", TEXT, "top=3")
    found = run.explain(TEXT, top=3)
    assert f"reads {len(found.tokens)} tokens" in said and "Of 8 labelled neurons" in said
    for each in found.firings:
        assert f"L{each.layer}/{each.node}  {each.label}  {each.share:.0%} on" in said
    lines = said.splitlines()
    real = [line.split("real", 1)[1] for line in lines if line.startswith("  real")]
    assert len(real) == 3 == sum(line.startswith("  simulated") for line in lines)
    bare = real[0].translate(str.maketrans("", "", "[]()"))
    assert TEXT in bare
    assert f"{found.n_free_strong} free neurons of layers 1, 2" in lines[-1]
    only = explain(capsys, root, "small", TEXT, "layer=2")
    assert "Of 4 labelled neurons of layer 2" in only and "L1/" not in only


def test_explain_paints_on_a_terminal(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in explain(capsys, root, "small", TEXT, "top=1")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nope", "text"], ["run nope", "there are small"]),
        (["small"], ["one RUN and one text", "quotes"]),
        (["small", "two", "words"], ["got 3", "quotes"]),
        (["small", "text", "top=few"], ["top=few", "number"]),
        (["small", "text", "top=0"], ["top=0"]),
        (["small", "text", "layer=x"], ["layer=x", "number"]),
        (["small", "text", "layer=7"], ["layer=7", "[1, 2]"]),
        (["small", ""], ["no tokens", "at least one word"]),
        (["small", "fox" + " fox" * 299], ["900 tokens", "128", "shorter"]),
    ],
)
def test_bad_input_of_explain(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        explain(capsys, root, *arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert all(name in said for name in named), said


def test_the_quickstart_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code cells, one after the other, on a run of seconds in the place of the demo."""
    notebook = Path(__file__).parent.parent / "examples" / "quickstart.ipynb"
    cells: list[dict[str, Any]] = json.loads(notebook.read_text())["cells"]
    (tmp_path / "store").symlink_to(root / "store")
    shutil.copytree(root / "runs" / "small", tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {"display": lambda *_: None}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), str(notebook), "exec"), names)
    assert isinstance(names["run"], LoadedRun)
