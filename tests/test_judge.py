"""The judge stage: a language model as judge behind the real HTTP interface, blind relabelling, and
a whole run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_server import FakeServer
from rich.console import Console
from safetensors.numpy import load_file
from small_run import config as small_config
from stock import Stock

from interp_by_construction import pipeline
from interp_by_construction.config import Config, LabelerConfig, compose
from interp_by_construction.corpus.windows import cut_windows
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError, LabelerError
from interp_by_construction.llm.client import Labeler, make_labeler
from interp_by_construction.report import run_tables, terminal
from interp_by_construction.results.verification import verify
from interp_by_construction.scoring.detect import (
    Answers,
    Questions,
    Texts,
    ask_judge,
    ask_simulator,
    items_of,
)
from interp_by_construction.scoring.llm_judge import Question, ask
from interp_by_construction.scoring.scorer import SimulatedTexts

WORDS = ("red", "dog", "ran", "seven", "the", "old", "house", "was")
LABELS = list(WORDS[:4])
QUESTION = re.compile(r"Sentence: (.*)\n(?:Marked: .*\n)?Mentions (.*):$")


def judging(
    tokenizer: Any, answer: Callable[[str, str], float]
) -> Callable[[list[int]], np.ndarray]:
    """Logits of a judge that answers (label, text) with the logit of yes; the label stands in the
    text or in the marks."""

    def logits_of(prompt: list[int]) -> np.ndarray:
        logits = np.zeros((len(prompt), 10), dtype=np.float32)
        for position in [
            i for i, token in enumerate(prompt) if tokenizer.decode([token]).endswith(":")
        ]:
            match = QUESTION.search(tokenizer.decode(prompt[: position + 1]))
            if match:
                logits[position, 1] = answer(match[2], match[1])
        return logits

    return logits_of


def oracle(label: str, text: str) -> float:
    marked = re.findall(r"<<(.*?)>>", text)
    return 4.0 if label in (" ".join(marked) if marked else text).split() else -4.0


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture
def labeler(server: FakeServer, tmp_path: Path) -> Iterator[Labeler]:
    cfg = LabelerConfig(backend="endpoint", url=server.url, classify_url=server.url)
    with make_labeler(cfg, tmp_path / "calls.sqlite", tmp_path) as made:
        yield made


WINDOWS = cut_windows(np.ones((12, 32), bool), np.zeros((12, 32), np.int64), 8)
"""Of the texts of `words`."""


def words(seed: int) -> tuple[list[str], np.ndarray]:
    """Random words, and nodes that fire on one word each, [token, node]."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(WORDS), 12 * 32, p=[0.04, 0.04, 0.04, 0.04, 0.3, 0.2, 0.17, 0.17])
    real = (chosen[:, None] == np.arange(4)) * np.array([1.0, 3.0, 0.1, 9.0])
    return [f" {WORDS[i]}" for i in chosen], real


# The judge.


def judged(labeler: Labeler, n_asked: int | None = None, seed: int = 0) -> Answers:
    (text, real), (select, on_select) = words(1), words(2)
    items = {
        "before": items_of(real[:, [1, 2, 3, 0]], WINDOWS, 6, (seed,)),
        "final": items_of(real, WINDOWS, 6, (seed,)),
    }
    fit_items = items_of(on_select, WINDOWS, 6, (seed,))
    questions = Questions(LABELS, items, fit_items, seed)
    return ask_judge(labeler, questions, Texts(text, select), n_asked, 1)


def test_an_oracle_judge_is_always_right_and_knows_shuffled_labels(
    server: FakeServer, labeler: Labeler
) -> None:
    server.logits_of = judging(labeler.tokenizer, oracle)
    scores = {(method, moment): values for method, moment, values in judged(labeler).scores(4)}
    for method in (
        "detection",
        "detection_fitted",
        "detection_auc",
        "fuzzing",
        "fuzzing_fitted",
        "fuzzing_auc",
    ):
        np.testing.assert_array_equal(scores[method, "final"], 1)
        # The labels are those of other nodes: no better than chance, up to words that share an
        # excerpt.
        assert scores[method, "shuffled"].mean() < 0.75 > scores[method, "before"].mean()


def test_nodes_that_are_not_asked_about_are_no_failures(
    server: FakeServer, labeler: Labeler
) -> None:
    server.logits_of = judging(labeler.tokenizer, oracle)
    answers = judged(labeler, 3)
    assert answers.n_not_asked == 1
    for _, moment, values in answers.scores(4):
        assert np.isnan(values).sum() == 1 and (moment != "final" or np.nanmin(values) == 1)


def test_braces_of_labels_and_texts_stay_what_they_are(
    server: FakeServer, labeler: Labeler
) -> None:
    seen: list[tuple[str, str]] = []

    def answer(label: str, text: str) -> float:
        seen.append((label, text))
        return 0.0

    server.logits_of = judging(labeler.tokenizer, answer)
    ask(labeler, [Question("fuzzing", "a {text} {0}", "<<{label}>> {marked}")], 1, "test")
    assert seen[-1] == ("a {text} {0}", "<<{label}>> {marked}")


@pytest.mark.parametrize("logit", [-3.0, 0.0, 3.0])
def test_a_constant_judge_is_right_half_the_time(
    server: FakeServer, labeler: Labeler, logit: float
) -> None:
    server.logits_of = judging(labeler.tokenizer, lambda label, text: logit)
    for _, _, values in judged(labeler).scores(4):
        np.testing.assert_array_equal(values, 0.5)


def test_a_fitted_threshold_removes_a_bias_of_the_judge(
    server: FakeServer, labeler: Labeler
) -> None:
    server.logits_of = judging(labeler.tokenizer, lambda label, text: oracle(label, text) - 20)
    answers = judged(labeler)
    assert all(-24 < threshold < -16 for threshold in answers.threshold.values())
    scores = {(method, moment): values for method, moment, values in answers.scores(4)}
    np.testing.assert_array_equal(scores["detection", "final"], 0.5)
    np.testing.assert_array_equal(scores["detection_fitted", "final"], 1)


def test_thresholds_are_fitted_on_select_alone() -> None:
    (_, real), (_, on_select) = words(1), words(2)
    items, fit_items = (
        {"final": items_of(real, WINDOWS, 6, (0,))},
        items_of(on_select, WINDOWS, 6, (0,)),
    )
    simulated = [np.concatenate([values, values[:, :1]], axis=1) for values in (real, on_select)]
    questions = Questions(LABELS, items, fit_items, 0)
    first = ask_simulator(questions, SimulatedTexts(*simulated), 0)
    other = ask_simulator(questions, SimulatedTexts(simulated[0] * -5 + 1, simulated[1]), 0)
    moved = ask_simulator(questions, SimulatedTexts(simulated[0], simulated[1] + 100), 0)
    assert first.threshold == other.threshold
    assert all(moved.threshold[task] > 100 for task in first.threshold)
    assert set(first.asked) == {"final", "shuffled", "empty_label", "common_label"}


def test_questions_share_a_prefix_and_equal_ones_are_asked_once(
    server: FakeServer, labeler: Labeler
) -> None:
    server.logits_of = judging(
        labeler.tokenizer, lambda label, text: float(re.sub(r"\D", "", text) or 0)
    )
    questions = [Question("detection", "numbers", f"text {i}") for i in range(11)]
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(questions)), 2))
    # The first call of a labeler also checks its digits.
    ask(labeler, [Question("fuzzing", "numbers", "text 0")], 8, "test")
    before = len(server.requests)
    answers = ask(labeler, [questions[i] for i in order], 8, "test")
    np.testing.assert_array_equal(answers, order)
    assert len(server.requests) - before == 2
    assert ask(labeler, [], 8, "test").shape == (0,)


def test_what_cannot_be_asked_is_an_error(labeler: Labeler) -> None:
    with pytest.raises(LabelerError, match="empty label"):
        ask(labeler, [Question("fuzzing", "  ", "text")], 1, "test")
    with pytest.raises(LabelerError, match=r"does not fit.*scores.window"):
        ask(labeler, [Question("fuzzing", "label", "text " * 3000)], 1, "test")


# A run.


def config(server: FakeServer, root: Path, *more: str) -> Config:
    return small_config(server, root, "scores.enabled=true", *more)


@pytest.fixture(scope="module")
def finished(
    stock: Stock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, RunDirectory, FakeServer, list[str]]]:
    """Two layers with a head, which are judged by a separate judge on a server of its own."""
    root = tmp_path_factory.mktemp("judged")
    stock.head(root)
    with FakeServer() as server, FakeServer("other") as judge:
        more = [
            "run=judged",
            "simulate.simulator=head",
            f"simulate.head={root / 'head.safetensors'}",
            "nodes.assign=match",
            "simulate.n_label_tokens=640",
            "label.general_pool=false",
            "scores.detection_nodes=3",
            "judge=endpoint",
            f"judge.classify_url={judge.url}",
            "judge.model=other",
        ]
        # The fake judge has the labeler's tokenizer.
        patch = pytest.MonkeyPatch()
        patch.setattr(Labeler, "tokenizer", property(lambda _: _tokenizer()))
        run = pipeline.run(config(server, root, *more))
        yield root, run, server, more
        patch.undo()


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    from interp_by_construction.llm.embedded import resolve_model

    if not _TOKENIZER:
        _TOKENIZER.append(AutoTokenizer.from_pretrained(resolve_model("smollm2")))
    return _TOKENIZER[0]


_TOKENIZER: list[Any] = []


def test_every_score_stands_beside_its_baselines(
    finished: tuple[Path, RunDirectory, FakeServer, list[str]],
) -> None:
    summary = finished[1].summary
    assert summary is not None and summary["judge"] == {"model": "other", "backend": "endpoint"}
    for layer in summary["layers"]:
        moments: dict[tuple[str, str | None], set[str]] = {}
        for record in layer["scores_by_method"]:
            moments.setdefault((record["method"], record["judge"]), set()).add(record["moment"])
            assert set(record) == {
                "method",
                "title",
                "judge",
                "self_judged",
                "moment",
                "mean",
                "ci95",
                "n",
                "n_undefined",
                "n_not_asked",
            }
            assert record["n"] + record["n_undefined"] + record["n_not_asked"] == layer["n_aligned"]
            assert record["n_not_asked"] == (
                record["judge"] == "other" and not record["method"].startswith("simulation")
            )
            assert (record["mean"] is None) == (record["n"] == 0) == (record["ci95"] is None)
            # The random head reads the labeler's own model; the judge is another one.
            assert record["self_judged"] == (record["judge"] != "other")
        both = {"before", "final", "shuffled"}
        baselines = both | {"empty_label", "common_label"}
        for judge in ("head", "smollm2", "other"):
            for variant in ("top", "random", "combined"):
                assert moments[f"simulation_{variant}", judge] == baselines
        assert (
            moments["simulation", "head"]
            == moments["simulation", "smollm2"]
            == moments["own_label_first", "head"]
            == both
        )
        for task in ("detection", "fuzzing"):
            for kind in ("_fitted", "_auc"):
                assert (
                    moments[f"{task}{kind}", "other"] == both
                    and moments[f"{task}{kind}", "head"] == baselines
                )
            assert moments[task, "other"] == both and (task, "head") not in moments
        assert (
            moments["blind_simulation", "head"]
            == moments["blind_same_text", None]
            == {"final", "shuffled"}
        )
        assert layer["judged"]["common_label"] and set(layer["judged"]["thresholds"]) == {
            "head",
            "other",
        }


def test_nodes_hold_every_method_before_alignment_and_in_the_end(
    finished: tuple[Path, RunDirectory, FakeServer, list[str]],
) -> None:
    root, run, _, _ = finished
    rows = pq.read_table(run.path / "nodes.parquet").to_pylist()
    values = load_file(
        Store(root / "store").path("judge", run.state["layers"]["2"]["judge"]) / "judge.safetensors"
    )
    for i, node in enumerate(values["nodes"].tolist()):
        (row,) = [row for row in rows if (row["layer"], row["node"]) == (2, node)]
        for column, key in (
            ("simulation_top_head", "simulation_top/head/final"),
            ("detection_auc_judge", "detection_auc/other/final"),
            ("simulation_random_labeler", "simulation_random/smollm2/final"),
            ("blind_same_text", "blind_same_text/text/final"),
            ("simulation_top_head_before", "simulation_top/head/before"),
            ("fuzzing_judge_before", "fuzzing/other/before"),
        ):
            expected = float(values[key][i])
            assert row[column] is None if np.isnan(expected) else row[column] == expected
    assert all(row["simulation_top_head"] is None for row in rows if row["status"] == "free")
    # Whatever the store holds for both moments stands in both columns; blind labels were asked for
    # in the end alone.
    moments = {
        moment: {key[: -len(moment)] for key in values if key.endswith(f"/{moment}")}
        for moment in ("before", "final")
    }
    assert (
        len(
            [
                name
                for name in rows[0]
                if name.endswith("_before") and name.rpartition("_")[0] in rows[0]
            ]
        )
        == len(moments["before"] & moments["final"]) + 3
    )
    assert "blind_same_text_before" not in rows[0] and not moments["before"] - moments["final"]


def test_the_separate_judge_alone_is_asked_questions(
    finished: tuple[Path, RunDirectory, FakeServer, list[str]],
) -> None:
    root, run, server, _ = finished
    decoded = [
        _tokenizer().decode(body["input"][:20])
        for path, body in server.requests
        if path == "/pooling"
    ]
    assert decoded and not [text for text in decoded if "Mentions" in text]
    answers = (
        Store(root / "store").path("judge", run.state["layers"]["1"]["judge"]) / "answers.jsonl"
    )
    records = [json.loads(line) for line in answers.read_text().split("\n") if line]
    assert {record["moment"] for record in records} == {"before", "final", "shuffled"}
    assert all(("<<" in record["text"]) == (record["task"] == "fuzzing") for record in records)


def test_again_nothing_is_asked_and_a_switch_leaves_it_out(
    finished: tuple[Path, RunDirectory, FakeServer, list[str]],
) -> None:
    root, run, server, more = finished
    n_requests = len(server.requests)
    assert pipeline.run(config(server, root, *more)).summary == run.summary
    off = pipeline.run(config(server, root, *more, "run=off", "scores.enabled=false")).summary
    assert len(server.requests) == n_requests and off is not None
    for layer in off["layers"]:
        assert layer["judged"] is None and {
            record["method"] for record in layer["scores_by_method"]
        } == {
            "simulation",
            "own_label_first",
            "auprc",
            "f1",
        }


def test_the_run_verifies(finished: tuple[Path, RunDirectory, FakeServer, list[str]]) -> None:
    root, run, _, _ = finished
    assert {"judge", "work"} <= {stage for stage, _ in run.artifacts}
    assert verify(run, Store(root / "store")) == []


def test_growing_a_run_judges_no_layer_twice(
    finished: tuple[Path, RunDirectory, FakeServer, list[str]],
) -> None:
    """Aligned nodes are frozen: the judge of a lower layer does not depend on the layers above
    it."""
    root = finished[0]
    assert (
        len(
            [path for path in (root / "store" / "judge").iterdir() if not path.name.startswith(".")]
        )
        == 2
    )


def test_work_of_all_layers_substitutes_in_all_of_them(
    finished: tuple[Path, RunDirectory, FakeServer, list[str]],
) -> None:
    summary = finished[1].summary
    assert summary is not None
    whole, (first, second) = summary["work"], summary["layers"]
    assert whole["layers"] == [1, 2] and first["work"]["layers"] == [1]
    for layer in (first, second):
        alone = layer["function"]["final"]
        assert layer["work"]["substitution"] == alone["substitution"]["own_labels"]
        assert layer["work"]["other_labels"] == alone["substitution"]["other_labels"]
        assert whole["loss"] == pytest.approx(alone["loss"])
        assert whole["substitution"] != alone["substitution"]["own_labels"]
    assert whole["other_labels"] is not None


def test_the_terminal_shows_one_row_per_method_and_judge(
    finished: tuple[Path, RunDirectory, FakeServer, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Console(record=True, width=200, highlight=False)
    for module in (run_tables, terminal):
        monkeypatch.setattr(module, "console", lambda: shown)
    run_tables.show_tables(finished[1])
    terminal.show_status(finished[1])
    text = shown.export_text()
    rows = [line for line in text.splitlines() if "fuzzing, AUC" in line]
    assert (
        len(rows) == 4
        and any("head (self)" in row for row in rows)
        and any("other, 3 nodes" in row for row in rows)
    )
    assert "judge" in text


# Blind relabelling.


def test_an_exact_run_is_judged_without_a_head(
    server: FakeServer, tmp_path: Path, stock: Stock
) -> None:
    exact = ("simulate.simulator=exact", "simulate.max_align_tokens=256", "scores.blind=false")
    summary = pipeline.run(stock.begin(config(server, tmp_path, "layer=1", *exact))).summary
    assert summary is not None
    methods = {
        (record["method"], record["judge"]) for record in summary["layers"][0]["scores_by_method"]
    }
    assert ("simulation_combined", "smollm2") in methods and (
        "detection_fitted",
        "smollm2",
    ) in methods
    assert not [
        method for method, judge in methods if judge == "head" or method.startswith("blind")
    ]
    assert summary["layers"][0]["judged"]["common_label"]


def test_an_unchanged_node_gets_its_own_label_again(
    server: FakeServer, tmp_path: Path, stock: Stock
) -> None:
    # The blind labeler takes the most likely answer, so the first one must do so too.
    steps = (
        "align.steps=0",
        "align.local_steps=0",
        "continue.steps=0",
        "label.n_candidates=1",
        "label.select_tokens=0",
    )
    cfg = config(server, tmp_path, "layer=1", "start_layer=1", *steps)
    run = pipeline.run(stock.begin(cfg))
    summary = run.summary
    assert summary is not None and summary["judge"] is None
    scores = {
        (r["method"], r["moment"]): r
        for r in summary["layers"][0]["scores_by_method"]
        if r["method"].startswith("blind")
    }
    assert (
        scores["blind_same_text", "final"]["mean"]
        == scores["blind_shared_words", "final"]["mean"]
        == 1
    )
    assert scores["blind_simulation", "final"]["mean"] == pytest.approx(1)
    assert (
        scores["blind_same_text", "shuffled"]["mean"] == 0
        and scores["blind_simulation", "shuffled"]["mean"] < 0.9
    )


def test_a_failure_of_the_blind_labeler_is_counted(
    server: FakeServer, tmp_path: Path, stock: Stock
) -> None:
    greedy_calls: list[str] = []

    def text_of(prompt: str, seed: int, temperature: float) -> str:
        greedy_calls.append(prompt)
        return " animals" + str(len(set(greedy_calls))) if len(set(greedy_calls)) <= 4 else "!!!"

    server.text_of = text_of
    run = pipeline.run(stock.begin(config(server, tmp_path, "layer=1", "label.retries=0")))
    layer = (run.summary or {})["layers"][0]
    assert layer["judged"]["n_blind_failed"] > 0
    for record in layer["scores_by_method"]:
        if record["method"].startswith("blind"):
            assert (
                record["n"] + record["n_undefined"] == layer["n_aligned"]
                and record["n_undefined"] > 0
            )


# Configuration.


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scores.detection_excerpts=5", "scores.detection_excerpts=5: give an even number"),
        ("scores.window=1", "scores.window=1: give at least 2"),
        ("scores.n_top=0", "scores.n_top=0: give an integer >= 1"),
    ],
)
def test_impossible_scores_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([override])


def test_a_judge_needs_a_classifying_server() -> None:
    assert compose([]).judge is None
    assert compose(["judge=transformers", "judge.model=some/model"]).judge == LabelerConfig(
        name="transformers", backend="transformers", model="some/model"
    )
    with pytest.raises(ConfigError, match=r"judge.classify_url=None: give the URL"):
        compose(["judge=endpoint", "judge.classify_url=null"])
