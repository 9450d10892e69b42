"""The label-conditioned head in a run: matching, targets, scores, and `ibc simulate` without a
server."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_server import FakeServer, fake_text
from random_head import simulate_text, write_random_head
from rich.console import Console
from safetensors.numpy import load_file
from small_run import matched
from stage_jobs import compute, given
from stock import Stock

from interp_by_construction import pipeline
from interp_by_construction.config import compose
from interp_by_construction.corpus import load_blocks
from interp_by_construction.corpus.parts import part_passage
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.words import normalised
from interp_by_construction.engine.rows import read_rows, write_rows
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError
from interp_by_construction.labelling.general import general_labels
from interp_by_construction.labelling.labels import Label, Proposal, read_history, read_labels
from interp_by_construction.labelling.matching import (
    Candidate,
    Correlations,
    Correlator,
    MatchLimits,
    deal,
    match,
    pool,
    usable,
)
from interp_by_construction.llm.embedded import resolve_model
from interp_by_construction.llm.handle import LanguageModel
from interp_by_construction.report import run_tables, terminal
from interp_by_construction.results.verification import verify
from interp_by_construction.simulators import check, create
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.files import simulate_file
from interp_by_construction.simulators.handle import ConfiguredSimulator, simulator_of
from interp_by_construction.simulators.head import Head
from interp_by_construction.simulators.head_simulator import HeadEncoder, HeadSimulation
from interp_by_construction.stages.assign import Assign
from interp_by_construction.stages.simulate import Simulate
from interp_by_construction.stats.correlation import columnwise_correlation, pairwise_correlation
from interp_by_construction.subject.load import load_subject
from interp_by_construction.subject.nodes import read_opposites
from interp_by_construction.subject.reading import activations_on


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture(scope="module")
def head_file(finished: tuple[Path, RunDirectory]) -> Path:
    return finished[0] / "head.safetensors"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(resolve_model("smollm2"), (1,), "cpu")


@pytest.fixture(scope="module")
def finished(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunDirectory]:
    root = tmp_path_factory.mktemp("finished")
    return root, stock.head(root)


# Matching.


def test_an_assignment_is_distinct_and_no_permutation_beats_it() -> None:
    rng = np.random.default_rng(0)
    r = rng.uniform(-1, 1, (8, 20))
    chosen = match(r)
    assert len(set(chosen)) == 8 and None not in chosen
    total = sum(r[node, label] for node, label in enumerate(chosen))
    for _ in range(500):
        other = rng.permutation(20)[:8]
        assert total >= r[np.arange(8), other].sum() - 1e-12


def test_a_node_that_correlates_with_nothing_takes_no_label() -> None:
    r = np.array([[np.nan, np.nan], [0.1, 0.9], [0.2, 0.3]])
    assert match(r) == [None, 1, 0]
    # Undefined is the last resort, and then a failure.
    assert match(np.array([[0.5, np.nan], [0.4, np.nan]])) == [0, None]
    # Fewer labels than nodes: the others fail.
    assert match(np.array([[0.5], [0.9]])) == [None, 0]
    assert match(np.zeros((2, 0))) == [None, None]


def test_labels_that_are_absent_or_say_the_same_are_not_dealt_out() -> None:
    """Of two labels with one meaning the better fit stays; neither order nor scale of the columns
    matters."""
    rng = np.random.default_rng(0)
    base = rng.random((200, 3))
    simulated = np.stack([base[:, 0], 0.5 * base[:, 0], base[:, 1], base[:, 2]], axis=1)
    real = np.stack([base[:, 0] + 0.1 * rng.random(200), base[:, 1]], axis=1)
    r = pairwise_correlation(real, simulated)
    r[0, 1] += 1e-3
    between = pairwise_correlation(simulated, simulated)
    counts = np.array([100, 90, 80, 7])
    assert usable(counts, between, r, 8, 0.95) == [1, 2]
    order = np.array([3, 1, 0, 2])
    shuffled = usable(counts[order], between[np.ix_(order, order)], r[:, order], 8, 0.95)
    assert sorted(order[shuffled].tolist()) == [1, 2]
    assert usable(counts, between, r, 0, 1.0) == [0, 1, 2, 3]


def test_a_match_below_the_least_score_leaves_the_node_free() -> None:
    labels = [Label(node, 1, None, "failed", 1, "none") for node in range(2)]
    candidates = [Candidate("animals", "prompt"), Candidate("colors", "general")]
    r = np.array([[0.9, 0.1], [0.2, 0.3]])
    found = Correlations(r, np.eye(2), np.array([50, 50]), None)
    for least, expected in (
        (None, ["animals", "colors"]),
        (0.3, ["animals", "colors"]),
        (0.4, ["animals", None]),
    ):
        limits = MatchLimits(1, 0.95, 0.0, least)
        matches = deal(labels, candidates, found, limits, np.zeros(2, bool)).matches
        assert [each.label.text for each in matches] == expected
    assert "r 0.30, less than label.min_score=0.4" in str(matches[1].label.reason)
    assert matches[1].label.status == "failed" and matches[1].label.source is None
    assert matches[0].label.source == "prompt"


def test_heavier_labels_are_dealt_out_first_and_only_ratios_of_weights_count() -> None:
    labels = [Label(node, 1, None, "failed", 1, "none") for node in range(2)]
    r = np.array([[0.5, 0.4, 0.1], [0.2, 0.3, 0.25]])
    found = Correlations(r, np.eye(3), np.full(3, 50), None)

    def dealt(weights: list[float]) -> list[str | None]:
        candidates = [
            Candidate(text, "labeler", weight) for text, weight in zip("abc", weights, strict=True)
        ]
        limits = MatchLimits(1, 0.95, 0.0)
        dealt = deal(labels, candidates, found, limits, np.zeros(2, bool))
        # What a label is worth to the whole does not change what it says of a node.
        for each in dealt.matches:
            assert each.r == r[each.label.node, "abc".index(str(each.label.text))]
        return [each.label.text for each in dealt.matches]

    assert dealt([1, 1, 1]) == dealt([7, 7, 7]) == ["a", "b"]
    assert dealt([1, 1, 2]) == dealt([0.5, 0.5, 1]) == ["a", "c"]
    assert dealt([0, 1, 1]) == ["b", "c"]


def test_a_constant_simulation_overlaps_with_nothing() -> None:
    between = np.array([[1.0, np.nan], [np.nan, np.nan]])
    assert usable(np.array([9, 9]), between, np.array([[0.5, np.nan]]), 8, 0.95) == [0, 1]


def test_streamed_correlations_equal_those_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    real, simulated = rng.normal(5, 1e-3, (90, 3)), rng.random((90, 4)).astype(np.float32)
    real[:, 2], simulated[:, 1] = 7.0, 0.25
    sums = Correlator(3, 4)
    for start in range(0, 90, 40):
        sums.add(real[start : start + 40], simulated[start : start + 40])
    expected = np.stack(
        [columnwise_correlation(real, np.repeat(simulated[:, [i]], 3, axis=1)) for i in range(4)],
        axis=1,
    )
    np.testing.assert_allclose(sums.correlations(), expected, atol=1e-9)
    assert np.isnan(expected[2]).all() and np.isnan(expected[:, 1]).all()
    assert np.isnan(Correlator(2, 2).correlations()).all()


def test_the_pool_is_distinct_and_keeps_the_first_wording() -> None:
    labels = [Label(0, 1, "Red things", "aligned", 1, None), Label(1, 1, None, "failed", 1, "none")]
    said = [
        Proposal(0, 1, 0, "proposal", "red thing"),
        Proposal(0, 1, 0, "proposal", None),
        Proposal(1, 1, 0, "proposal", "animals", in_prompt=True),
        Proposal(1, 1, 1, "retry", "food", in_prompt=True),
        Proposal(0, 1, 1, "retry", "Foods"),
    ]
    found = pool(labels, said, ["Animal", "verbs"])
    assert found == [
        Candidate("Red things", "labeler"),
        Candidate("animals", "prompt"),
        # Another prompt did not show it.
        Candidate("food", "labeler"),
        Candidate("verbs", "general"),
    ]


def test_general_labels_are_read_without_comments(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("# comment\nverbs\n\n  names  of people \n")
    assert general_labels(tmp_path / "labels.txt") == ["verbs", "names of people"]
    with pytest.raises(ConfigError, match=r"label.general_pool=false"):
        general_labels(tmp_path / "missing.txt")


# Configuration.


def test_matching_needs_a_head() -> None:
    with pytest.raises(ConfigError, match=r"nodes.assign=match.*simulate.simulator=ridge.*head"):
        check(compose(["nodes.assign=match", "simulate.simulator=ridge"]))


def test_a_head_of_another_encoder_is_refused(server: FakeServer, tmp_path: Path) -> None:
    other = write_random_head(tmp_path / "other.safetensors", encoder="some/model")
    with pytest.raises(ConfigError, match=r"simulate.encoder=smollm2.*some/model"):
        pipeline.run(matched(server, tmp_path, other))
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ConfigError, match="not a head's file"):
        pipeline.run(matched(server, tmp_path, tmp_path / "text.safetensors"))


def test_self_judged_is_a_matter_of_whose_model_simulates(head_file: Path) -> None:
    head = ["simulate.simulator=head", f"simulate.head={head_file}"]
    for overrides, expected in (
        (["simulate.simulator=exact"], True),
        (["simulate.simulator=ridge", "labeler.model=some/model"], True),
        (head, True),
        ([*head, "labeler.model=some/model"], False),
    ):
        assert simulator_of(compose(overrides)).self_judged is expected


def test_a_second_head_reads_what_the_first_one_reads(head_file: Path, tmp_path: Path) -> None:
    other = write_random_head(tmp_path / "other.safetensors", layers=(2,))
    settings = ["simulate.simulator=head", f"simulate.head={head_file}"]
    assert create(compose(settings).simulate).second_name is None
    with pytest.raises(ConfigError, match=r"simulate.second_head=.*reads another encoder"):
        create(compose([*settings, f"simulate.second_head={other}"]).simulate)
    first = Head.load(head_file)
    write_random_head(other, layers=(2,), beside=first)
    both = create(compose([*settings, f"simulate.second_head={other}"]).simulate)
    assert both.second_name == "second head" and both.identity["second"]
    # Each reads its own layers of one pass, as it would read them alone.
    together = both.load_encoder("cpu")
    texts = [["The", " old", " fox", " ran"], [" Home", "."]]
    for which, head in enumerate((first, Head.load(other))):
        alone = HeadEncoder([head], head.load_encoder("cpu"))
        labels = ["animals", "the word 'old'"]
        np.testing.assert_allclose(
            HeadSimulation(together, labels, which)(texts),
            HeadSimulation(alone, labels)(texts),
            rtol=2e-2,
            atol=2e-3,
        )


# A run.


def test_a_matched_run_keeps_every_contract(finished: tuple[Path, RunDirectory]) -> None:
    root, run = finished
    summary = run.summary
    assert summary is not None and summary["complete"] and verify(run, Store(root / "store")) == []
    for layer in summary["layers"]:
        assert (
            layer["n_aligned"] + layer["n_free"] == layer["n_nodes"]
            and layer["n_distinct_labels"] == layer["n_aligned"]
        )
        assert {name: score["simulator"] for name, score in layer["score"].items()} == {
            "before": "head",
            "after": "head",
            "final": "head",
            "shuffled": "head",
            "exact": "exact-contrast",
            "final_raw": "exact",
            "second": "second head",
        }
        assert {"exact_before", "exact_shuffled", "final_held_out"} <= set(layer["score_more"])
        for score in [*layer["score"].values(), *layer["score_more"].values()]:
            assert score["n"] + score["n_undefined"] == layer["n_aligned"]
            assert score["self_judged"] is (score["simulator"] != "rules")
        truth, assignment = layer["truth"], layer["assignment"]
        assert truth["n"] + truth["n_no_concept"] + truth["n_undefined"] == layer["n_aligned"]
        assert (
            assignment["r_mean_after"] >= assignment["r_mean_before"]
            or assignment["n_undefined_before"]
        )
        sources = layer["sources"]
        assert sources == assignment["sources"] and assignment["n_pool"] >= layer["n_aligned"]
        assert sources["n_general"] == 0 and sources["n_nodes"] == sum(
            sources[f"n_{name}"] for name in ("labeler", "prompt", "general", "none")
        )
        assert "fidelity" in layer["simulation"]


def test_final_labels_are_distinct_labels_of_the_pool_everywhere(
    finished: tuple[Path, RunDirectory],
) -> None:
    root, run = finished
    store, rows = Store(root / "store"), pq.read_table(run.path / "nodes.parquet").to_pylist()
    assert {"truth_concept", "truth_r", "truth_auc"} <= set(rows[0])
    moved = 0
    for layer, links in run.state["layers"].items():
        given, final = (store.path(stage, links[stage]) for stage in ("label", "assign"))
        labels = {label.node: label for label in read_labels(final)}
        texts = [label.text for label in labels.values() if label.text]
        assert len({normalised(text) for text in texts}) == len(texts)
        assert set(texts) <= {c.text for c in pool(read_labels(given), read_history(given), [])}
        assert {label.node: label.pole for label in read_labels(given)} == {
            node: label.pole for node, label in labels.items()
        }
        moved += sum(
            label.text != old.text
            for label, old in zip(labels.values(), read_labels(given), strict=True)
        )
        shown = {
            row["node"]: row["label"]
            for row in rows
            if row["layer"] == int(layer) and row["status"] == "aligned"
        }
        assert shown == {node: label.text for node, label in labels.items() if label.text}
        targets = load_file(store.path("simulate", links["simulate"]) / "targets.safetensors")
        assert targets["nodes"].tolist() == [node for node, label in labels.items() if label.text]
        assert (
            targets["values"].min() >= 0
            and targets["values"].max() <= 1
            and targets["values"].std() > 0.01
        )
        matched_r = {record["node"]: record["r"] for record in read_rows(final / "matched.jsonl")}
        assert all(
            f"r {matched_r[node]:.2f} " in str(label.reason)
            for node, label in labels.items()
            if label.text
        )
    assert moved, "matching changed no label at all"


def test_the_matched_r_is_that_of_label_and_node_on_the_label_split(
    finished: tuple[Path, RunDirectory], server: FakeServer, head_file: Path, encoder: Encoder
) -> None:
    root, run = finished
    cfg, store, state = matched(server, root, head_file), Store(root / "store"), run.state
    corpus = store.path("corpus", state["shared"]["corpus"])
    text = part_passage(corpus, "label", cfg.simulate)
    named = [
        label
        for label in read_labels(store.path("assign", state["layers"]["1"]["assign"]))
        if label.text
    ]
    nodes = np.array([label.node for label in named])
    model = store.path("subject", state["shared"]["subject"]) / "model"
    real = activations_on(load_subject(model), text, 1, nodes)
    simulated = [
        np.concatenate(
            [
                simulate_text(Head.load(head_file), encoder, str(label.text), tokens)
                for tokens in text.tokens
            ]
        )
        for label in named
    ]
    use = text.is_text.reshape(-1)
    r = columnwise_correlation(
        (real * [label.pole for label in named])[use], np.stack(simulated, axis=1)[use]
    )
    records = read_rows(store.path("assign", state["layers"]["1"]["assign"]) / "matched.jsonl")
    np.testing.assert_allclose(r, [record["r"] for record in records if record["label"]], atol=5e-3)


def test_labels_can_be_dealt_out_by_what_the_layer_learns(
    finished: tuple[Path, RunDirectory], server: FakeServer, head_file: Path, tmp_path: Path
) -> None:
    """The weight moves the assignment from what the nodes do already to what they can learn, and
    without it nothing changes."""
    root, run = finished
    cfg, store = matched(server, root, head_file), Store(root / "store")
    links, shared = run.state["layers"]["1"], run.state["shared"]
    final = store.path("assign", links["assign"])
    encoded = json.loads((final / "manifest.json").read_text())["parents"]["encoded"]
    stage = Assign(
        corpus=given(store.path("corpus", shared["corpus"])),
        model=given(store.path("subject", shared["subject"])),
        collect=given(store.path("collect", links["collect"])),
        labels=given(store.path("label", links["label"])),
        encoded=given(store.path("encode", encoded)),
        layer=1,
        n_tokens=cfg.simulate.n_label_tokens,
        simulator=ConfiguredSimulator(cfg.simulate, LanguageModel(cfg.labeler)),
        general=None,
        limits=MatchLimits(cfg.label.min_tokens, cfg.label.max_overlap, 0.0),
        seed=0,
    )
    metrics, written = {}, {}
    for weight in (0.0, 1e-9, 1.0):
        out = tmp_path / str(weight)
        limits = dataclasses.replace(stage.limits, learnable=weight)
        metrics[weight] = compute(dataclasses.replace(stage, limits=limits), out)
        written[weight] = [record["label"] for record in read_rows(out / "matched.jsonl")]
    assert (
        written[0.0]
        == written[1e-9]
        == [record["label"] for record in read_rows(final / "matched.jsonl")]
    )
    assert metrics[0.0].learnable_r_mean is None
    assert metrics[1.0].learnable_r_mean > metrics[1e-9].learnable_r_mean
    assert metrics[1.0].r_mean_after < metrics[1e-9].r_mean_after
    assert len(set(written[1.0])) == len(written[1.0])


def test_a_candidates_score_is_r_of_label_and_node_on_the_select_split(
    finished: tuple[Path, RunDirectory], server: FakeServer, head_file: Path, encoder: Encoder
) -> None:
    root, run = finished
    store, state = Store(root / "store"), run.state
    corpus, links = store.path("corpus", state["shared"]["corpus"]), state["layers"]["1"]
    parents = json.loads((store.path("label", links["label"]) / "manifest.json").read_text())[
        "parents"
    ]
    assert set(parents) == {"collect", "corpus", "model", "encoded_select", "encoded_label"}
    text = Passage.of_split(corpus, "select", n_tokens=640)
    assert matched(server, root, head_file).label.head_select_tokens == 640
    assert 1 < len(text.blocks) < len(load_blocks(corpus, "select"))
    use = text.is_text.reshape(-1)
    chosen = [
        proposal
        for proposal in read_history(store.path("label", links["label"]))
        if proposal.chosen
    ]
    nodes = np.array([proposal.node for proposal in chosen])
    model = store.path("subject", state["shared"]["subject"]) / "model"
    real = activations_on(load_subject(model), text, 1, nodes)
    head = Head.load(head_file)
    simulated = [
        np.concatenate(
            [simulate_text(head, encoder, str(proposal.text), tokens) for tokens in text.tokens]
        )
        for proposal in chosen
    ]
    r = columnwise_correlation(
        (real * [proposal.pole for proposal in chosen])[use], np.stack(simulated, axis=1)[use]
    )
    np.testing.assert_allclose(r, [proposal.score for proposal in chosen], atol=5e-3)
    labelling = (run.summary or {})["layers"][0]["labelling"]
    assert (
        labelling["selection"]["n"] == len(chosen) == 4 and labelling["revisions"]["n_rounds"] == 1
    )
    assert (
        labelling["selection"]["simulator"] == "head"
        and labelling["selection"]["n_tokens"] == use.sum()
    )
    revised, first = labelling["selection"]["r_revised"], labelling["selection"]["r_chosen"]
    assert revised > first if labelling["revisions"]["n_accepted"] else revised == first


def test_labels_depend_neither_on_the_text_that_is_aligned_nor_on_that_which_is_scored(
    server: FakeServer, head_file: Path, finished: tuple[Path, RunDirectory]
) -> None:
    """They would be asked for again otherwise: every field in a fingerprint is a reason to
    recompute."""
    root, run = finished
    more = (
        "simulate.max_align_tokens=512",
        "simulate.n_head_score_tokens=256",
        "align.weight=7",
    )
    graph = pipeline.graph_of(matched(server, root, head_file, *more), [1])
    before = run.state["layers"]["1"]
    after = {name: stage.fingerprint for name, stage in graph.layers[1].items()}
    assert all(before[stage] == after[stage] for stage in ("collect", "label", "assign"))
    assert before["simulate"] != after["simulate"]


def test_with_both_poles_every_match_is_by_the_sign_that_fits(
    server: FakeServer, head_file: Path, tmp_path: Path, stock: Stock
) -> None:
    more = ("layer=1", "nodes.poles=both", "model.activation=gelu")
    run = pipeline.run(stock.begin(matched(server, tmp_path, head_file, *more)))
    store, links = Store(tmp_path / "store"), run.state["layers"]["1"]
    assert len(read_opposites(store.path("collect", links["collect"]))) == 4
    given, final = (read_labels(store.path(stage, links[stage])) for stage in ("label", "assign"))
    records = read_rows(store.path("assign", links["assign"]) / "matched.jsonl")
    # A GELU takes both signs, so no node is left with a label that says the opposite.
    assert all(record["r"] >= 0 for record in records)
    assignment = (run.summary or {})["layers"][0]["assignment"]
    assert assignment["n_turned"] == sum(
        a.pole != b.pole for a, b in zip(given, final, strict=True)
    )
    poles = {label.node: label.pole for label in final}
    targets = load_file(store.path("simulate", links["simulate"]) / "targets.safetensors")
    assert dict(zip(targets["nodes"].tolist(), targets["poles"].tolist(), strict=True)) == poles
    rows = {row["node"]: row for row in pq.read_table(run.path / "nodes.parquet").to_pylist()}
    assert {node: rows[node]["pole"] for node in poles} == poles and len(rows) == 32
    assert all(rows[node]["top_tokens"] for node in poles)


def test_changing_assign_keeps_collect_and_label(
    server: FakeServer, head_file: Path, finished: tuple[Path, RunDirectory], tmp_path: Path
) -> None:
    root, run = finished
    again = pipeline.run(
        matched(
            server,
            root,
            head_file,
            "layer=1",
            "run=unmatched",
            "nodes.assign=none",
            "align.local_steps=1",
            "audit.enabled=false",
            "work.enabled=false",
        )
    )
    before, after = run.state["layers"]["1"], again.state["layers"]["1"]
    assert (
        all(before[stage] == after[stage] for stage in ("collect", "label"))
        and "assign" not in after
    )
    assert before["simulate"] != after["simulate"]
    assert (again.summary or {})["layers"][0]["assignment"] is None


def test_a_finished_matched_run_asks_and_computes_nothing(
    server: FakeServer, head_file: Path, finished: tuple[Path, RunDirectory]
) -> None:
    root, run = finished
    n_requests = len(server.requests)
    assert pipeline.run(matched(server, root, head_file)).summary == run.summary
    assert len(server.requests) == n_requests


def test_status_and_result_show_the_assignment_and_the_ground_truth(
    finished: tuple[Path, RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Console(record=True, width=250, highlight=False)
    for module in (run_tables, terminal):
        monkeypatch.setattr(module, "console", lambda: shown)
    run_tables.show_tables(finished[1])
    terminal.show_status(finished[1])
    text = shown.export_text()
    assert (
        "layer 1 ground truth" in text
        and "labels matched on the label split" in text
        and "assign" in text
    )


def test_a_matched_run_has_wider_truth_clamped_nodes_promoted_tokens_and_an_audit(
    finished: tuple[Path, RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    from interp_by_construction.labelling.audit_cases import worst_cases
    from interp_by_construction.scoring.audit import read_cases

    root, run = finished
    store = Store(root / "store")
    for layer in (run.summary or {})["layers"]:
        truth, wider = layer["truth"], layer["truth"]["wider"]
        assert wider["n"] + wider["n_no_rule"] + wider["n_undefined"] == truth["n_no_concept"]
        assert truth["n_covered"] == truth["n"] + wider["n"]
        for moment in ("before", "final"):
            clamp, audit = layer["function"][moment]["clamp"], layer["audit"][moment]
            assert clamp["n_single"] + clamp["n_undefined"] == layer["n_aligned"]
            assert clamp["all"]["n_on"] + clamp["all"]["n_off"] <= clamp["n_tokens"]
            assert 0 <= audit["rate"] <= 1 and audit["n_undefined"] < layer["n_aligned"]
            for origin in ("mined", "agreeing"):
                search = audit["search"][origin]
                if search["n"]:
                    assert search["gap_hotflip"] >= search["gap_before"] <= search["gap_random"]
        link = run.state["layers"][str(layer["layer"])]["audit"]
        cases = worst_cases(read_cases(store.path("audit", link)))
        each = [case for found in cases.values() for kind in found for case in kind]
        assert each and all(len(case.tokens) == len(case.activations) > case.peak for case in each)
    rows = pq.read_table(run.path / "nodes.parquet").to_pylist()
    assert all((row["promotes"] is None) == (row["status"] != "aligned") for row in rows)
    assert all(len(row["suppresses"]) == 10 for row in rows if row["promotes"])
    shown = Console(record=True, width=250, highlight=False)
    for module in (run_tables, terminal):
        monkeypatch.setattr(module, "console", lambda: shown)
    run_tables.show_tables(run)
    text = shown.export_text()
    assert (
        "ground truth of other labels" in text
        and "one node clamped" in text
        and "audit, before -> final" in text
    )


def test_an_audit_that_is_switched_off_is_not_made(
    server: FakeServer, head_file: Path, finished: tuple[Path, RunDirectory]
) -> None:
    cfg = matched(server, finished[0], head_file, "audit.enabled=false")
    run = pipeline.run(dataclasses.replace(cfg, run="unaudited"))
    assert all(layer["audit"] is None for layer in (run.summary or {})["layers"])


def test_head_targets_depend_on_label_and_text_alone(
    server: FakeServer,
    head_file: Path,
    finished: tuple[Path, RunDirectory],
    encoder: Encoder,
    tmp_path: Path,
) -> None:
    """Invariant 5: with fewer labels, in another order, and no subject in sight, every target is
    the same."""
    root, run = finished
    cfg, store, state = matched(server, root, head_file), Store(root / "store"), run.state
    links = state["layers"]["1"]
    parents = json.loads((store.path("simulate", links["simulate"]) / "manifest.json").read_text())[
        "parents"
    ]
    assert set(parents) == {"corpus", "encoded", "labels"}
    assert parents["labels"] == links["assign"]
    corpus, encoded = (store.path(stage, state["shared"][stage]) for stage in ("corpus", "encode"))
    head = Head.load(head_file)
    labels = [label for label in read_labels(store.path("assign", links["assign"])) if label.text]
    write_rows(tmp_path / "labels.jsonl", [dataclasses.asdict(label) for label in labels[:0:-1]])
    stage = Simulate.of(cfg, given(corpus), given(encoded), given(tmp_path), 1)
    compute(stage, tmp_path / "out")
    old = load_file(store.path("simulate", links["simulate"]) / "targets.safetensors")
    new = load_file(tmp_path / "out" / "targets.safetensors")
    assert new["nodes"].tolist() == old["nodes"].tolist()[:0:-1]
    np.testing.assert_allclose(
        new["values"].astype(float), old["values"][..., :0:-1].astype(float), atol=2e-3
    )
    # One text on its own gives what it gives among others, up to the rounding of half precision
    # (batches are padded).
    text = part_passage(corpus, "align", cfg.simulate)
    alone = simulate_text(head, encoder, str(labels[0].text), text.tokens[1])
    np.testing.assert_allclose(alone, old["values"][1, :, 0].astype(float), atol=1e-2)


def test_a_layer_whose_labels_all_failed_is_free(
    head_file: Path, tmp_path: Path, stock: Stock
) -> None:
    with FakeServer() as mute:
        mute.text_of = lambda prompt, seed, temperature: "!!!"
        run = pipeline.run(stock.begin(matched(mute, tmp_path, head_file, "layer=1")))
    layer = (run.summary or {})["layers"][0]
    assert (layer["n_aligned"], layer["n_failed_labels"]) == (0, 4)
    assert layer["score"]["final"]["mean"] is None and layer["truth"]["r_mean"] is None


def test_a_node_without_a_label_of_its_own_takes_one_from_the_pool(
    head_file: Path, tmp_path: Path, stock: Stock
) -> None:
    refused: set[str] = set()

    def text_of(prompt: str, seed: int, temperature: float) -> str:
        query = prompt.splitlines()[-1].split("|")[0]
        if not refused:
            refused.add(query)
        return "!!!" if query in refused else fake_text(prompt, seed, temperature)

    with FakeServer() as broken:
        broken.text_of = text_of
        run = pipeline.run(stock.begin(matched(broken, tmp_path, head_file, "layer=1")))
    store, links = Store(tmp_path / "store"), run.state["layers"]["1"]
    given = read_labels(store.path("label", links["label"]))
    final = read_labels(store.path("assign", links["assign"]))
    assert any(label.text is None for label in given) and all(label.text for label in final)


# The command line.

LINES = [
    {"label": "animals", "tokens": ["The", " dog", " saw", " a", " fox", "."]},
    {"label": "colors", "tokens": []},
    {"label": "animals", "tokens": ["", ""]},
    {"label": "a label\nof two lines", "tokens": [" word"] * 600},
]


def simulated(
    root: Path, head_file: Path, lines: list[dict[str, object]]
) -> list[dict[str, object]]:
    root.mkdir()
    (root / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # No server: an endpoint that nobody listens on.
    cfg = compose(
        [
            "labeler=endpoint",
            "labeler.url=http://127.0.0.1:9",
            f"paths.root={root}",
            f"simulate.head={head_file}",
        ]
    )
    simulate_file(cfg, root / "in.jsonl", root / "out.jsonl", "head")
    return [json.loads(line) for line in (root / "out.jsonl").read_text().splitlines()]


def test_labels_are_revised_against_the_worst_cases_of_an_audit(
    server: FakeServer, head_file: Path, tmp_path: Path, stock: Stock
) -> None:
    """Build 8: the audit of the model before alignment feeds the revision, and its settings are the
    label's."""
    more = (
        "layer=1",
        "label.audit_rounds=1",
        "audit.threshold=0.01",
        "audit.enabled=false",
    )
    run = pipeline.run(stock.begin(matched(server, tmp_path, head_file, *more)))
    store, link = Store(tmp_path / "store"), run.state["layers"]["1"]["label"]
    metrics = json.loads((store.path("label", link) / "metrics.json").read_text())
    audits = metrics["audits"]
    assert audits["n_rounds"] == 1 and audits["n_asked"] > 0
    assert audits["n_asked"] == sum(
        audits[key] for key in ("n_accepted", "n_rejected", "n_unparsed", "n_repeated")
    )
    answered = {p.node for p in read_history(store.path("label", link)) if p.origin == "audit"}
    assert len(answered) == audits["n_asked"] - audits["n_repeated"]


def test_the_vector_of_a_label_is_the_same_bit_by_bit_whatever_stands_beside_it(
    head_file: Path, encoder: Encoder
) -> None:
    """Invariant 5: padding, company and order change nothing; the labels are of many lengths, some
    of them equal."""
    head = Head.load(head_file)
    labels = [
        *general_labels()[::15],
        "food",
        "a rather long label about small animals that live in the woods",
    ]
    together = head.label_vectors(encoder, labels)
    np.testing.assert_array_equal(head.label_vectors(encoder, labels[::-1])[::-1], together)
    np.testing.assert_array_equal(
        head.label_vectors(encoder, [*labels[:3], *labels[:5]])[3:], together[:5]
    )
    for i in (0, 7, len(labels) - 1):
        np.testing.assert_array_equal(head.label_vectors(encoder, [labels[i]])[0], together[i])
    kept = HeadEncoder([head], encoder)
    for some in (labels[3:5], [], labels, labels[::-2]):
        np.testing.assert_array_equal(
            kept.label_vectors(some), together[[labels.index(label) for label in some]]
        )
    with pytest.raises(ConfigError, match="a label is empty"):
        kept.label_vectors(["food", " "])


def test_simulate_with_a_head_needs_no_server_and_each_line_stands_alone(
    tmp_path: Path, head_file: Path
) -> None:
    together = simulated(tmp_path / "together", head_file, LINES)
    assert [len(line["activations"]) for line in together] == [
        len(line["tokens"]) for line in LINES
    ]  # type: ignore[arg-type]
    assert simulated(tmp_path / "backwards", head_file, LINES[::-1])[::-1] == together
    assert [
        simulated(tmp_path / f"alone{i}", head_file, [line])[0] for i, line in enumerate(LINES)
    ] == together


def test_simulate_names_what_is_wrong(tmp_path: Path, head_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 1.*label"):
        simulated(tmp_path / "a", head_file, [{"label": " ", "tokens": ["a"]}])
    with pytest.raises(ConfigError, match=r"simulate.head=.*no such file"):
        simulated(tmp_path / "b", tmp_path / "none.safetensors", LINES)
    with pytest.raises(
        ConfigError, match=r"simulator=ridge: it is fitted.*give one of exact, head"
    ):
        simulate_file(compose([]), tmp_path / "in.jsonl", tmp_path / "out.jsonl", "ridge")


def test_without_a_lexicon_there_is_no_ground_truth(
    server: FakeServer, head_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another corpus, and some of the general list in the pool: all of it would take the encoder
    half a minute."""
    some = general_labels()[::20]
    monkeypatch.setattr("interp_by_construction.labelling.general.general_labels", lambda: some)
    more = ("data=moby_dick", "data.max_documents=60", "label.general_pool=true", "layer=1")
    run = pipeline.run(matched(server, tmp_path, head_file, *more))
    layer = (run.summary or {})["layers"][0]
    assert layer["truth"] is None and layer["n_distinct_labels"] == layer["n_aligned"] == 4
    assert layer["assignment"]["n_pool_general"] > 0
    rows = pq.read_table(run.path / "nodes.parquet").to_pylist()
    assert all(row[f"truth_{name}"] is None for row in rows for name in ("concept", "r", "auc"))
    by_source = Counter(row["source"] for row in rows if row["status"] == "aligned")
    assert by_source["general"] == layer["sources"]["n_general"]
    assert by_source["labeler"] == layer["sources"]["n_labeler"] and by_source.total() == 4
