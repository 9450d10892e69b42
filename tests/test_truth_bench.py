"""Planted nodes: exact correlations, excerpts that show the concept, and a labeler that names what
it sees recovers all of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import FakeServer
from given_text import given_passage
from random_head import write_random_head
from small_run import overrides

from interp_by_construction.cli import main
from interp_by_construction.config import CollectConfig, compose
from interp_by_construction.config.labels import SelectionConfig
from interp_by_construction.corpus.lexicon import LEXICON
from interp_by_construction.errors import ConfigError
from interp_by_construction.labelling.evidence import gather_evidence
from interp_by_construction.labelling.general import general_labels
from interp_by_construction.labelling.prompts import top_words
from interp_by_construction.schedules.rule_bench import Planted, agreement, summary
from interp_by_construction.schedules.truth_bench import planted_sets, run_truth_bench
from interp_by_construction.scoring.recovery import recovery, related_concept, true_label_ranks
from interp_by_construction.truth.language import is_rule, truth_on
from interp_by_construction.truth.planted import plant, planted_batches
from interp_by_construction.truth.planted_rules import KINDS

CONCEPT_OF = {word: concept for concept, words in LEXICON.items() for word in words}


def names_what_it_sees(prompt: str, seed: int, temperature: float) -> str:
    """A labeler that knows the lexicon: the concept of most of the words that it is shown."""
    words = prompt.splitlines()[-1].removesuffix(" =").rsplit("|", 1)[-1].split(",")
    named = Counter(
        CONCEPT_OF[word] for each in words if (word := each.strip().lower()) in CONCEPT_OF
    )
    return f" {named.most_common(1)[0][0]}" if named else " words"


@pytest.mark.parametrize("grade", [1.0, 0.7, 0.2])
def test_planted_activations_have_exactly_the_grade(grade: float) -> None:
    rng = np.random.default_rng(0)
    member, is_text = rng.random((3000, 5)) < 0.03, rng.random(3000) < 0.9
    values = plant(member, is_text, grade, rng)
    for node in range(5):
        r = np.corrcoef(values[is_text, node], member[is_text, node])[0, 1]
        assert r == pytest.approx(grade, abs=1e-6)
    assert values.min() == 0 and (values[~is_text] == 0).all()


def test_noise_needs_no_concept_and_a_missing_concept_is_constant() -> None:
    member = np.zeros((100, 2), dtype=bool)
    member[3, 1] = True
    assert plant(member, np.ones(100, bool), 0.0, np.random.default_rng(1)).std(axis=0).min() > 0
    values = plant(member, np.ones(100, bool), 0.5, np.random.default_rng(1))
    assert (values[:, 0] == 0).all() and values[:, 1].std() > 0


class Words(list[str]):
    """A tokenizer whose tokens are words."""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self[i] for i in ids)


def test_nodes_show_the_words_of_their_concept_and_stay_in_the_document() -> None:
    rng = np.random.default_rng(2)
    words = [" cat", " dog", " ran", " the", " red", "."]
    ids = rng.integers(0, len(words), (40, 12))
    documents = np.repeat(np.arange(80), 6).reshape(40, 12)
    text = given_passage([[words[i] for i in row] for row in ids], ids, documents)
    member = np.isin(ids, [0, 1]).reshape(-1, 1)
    cfg = CollectConfig(top_k=10, window=8)
    vars(text.source)["tokenizer"] = Words(words)
    values = plant(member, text.is_text.reshape(-1), 1.0, rng)
    read, which = planted_batches(text, values, 16), SelectionConfig(count=None, select="all")
    (node,) = gather_evidence(read, text, 0, cfg, which, 0).nodes
    assert node.pole == 1 and set(top_words(node, 10)) == {"cat", "dog"}
    for excerpt in (*node.top, *node.quantiles, *node.near_misses):
        assert len(excerpt.tokens) == len(excerpt.activations) <= 6
        assert excerpt.tokens[excerpt.peak] in words
    strongest = {excerpt.activations[excerpt.peak] for excerpt in node.top}
    assert len(strongest) == 1 and min(strongest) > 0
    assert [sum(node.histogram), len(node.quantiles)] == [
        ids.size,
        cfg.n_quantiles * cfg.per_quantile,
    ]


def test_recovery_counts_failures_and_compares_with_chance() -> None:
    planted = [
        frozenset({"animals"}),
        frozenset({"colors"}),
        frozenset({"family", "days"}),
        frozenset({"food"}),
    ]
    record = recovery(["wild animals", "animals", "weekdays", None], planted)
    assert record == {
        "n": 4,
        "n_failed": 1,
        "n_named": 3,
        "recovered": 0.5,
        "chance": pytest.approx(1 / 12),
        "related": 0.5,
        "chance_related": pytest.approx(1 / 12),
    }
    nothing = recovery(["animals", None], [frozenset(), frozenset()])
    assert nothing["recovered"] is None and nothing["n_named"] == 1


def test_a_label_of_a_part_is_related_and_one_of_much_more_is_not() -> None:
    related = {
        "walking and running": "movement",
        "parts of the face": "body parts",
        "adverbs ending in -ly": "manner",
        "animals": "animals",
        "verbs in the past tense": None,
        "adjectives": None,
        "commas": None,
        "rare words": None,
    }
    assert {label: related_concept(label) for label in related} == related


def test_a_simulator_that_knows_the_concepts_ranks_the_truth_first_and_a_constant_one_is_undefined() -> (
    None
):
    rng = np.random.default_rng(3)
    names = ["a", "b", "c", "d"]
    truth = (rng.random((500, 4)) < 0.2).astype(float)
    planted = [frozenset({"a"}), frozenset({"b", "c"}), frozenset({"d"})]
    real = np.stack([truth[:, 0], truth[:, 1] + truth[:, 2], truth[:, 3]], axis=1)
    found = true_label_ranks(real, truth, names, planted)
    assert (found["top1"], found["median_rank"], found["auc"], found["n"]) == (1, 1, 1, 3)
    wrong = true_label_ranks(real, -truth, names, planted)
    assert wrong["top1"] == 0 and wrong["auc"] == 0
    same = true_label_ranks(real, np.repeat(truth[:, :1], 4, axis=1), names, planted)
    assert same["top1"] == 0 and same["auc"] == 0.5
    constant = np.where(np.arange(4) == 3, 0.5, truth)
    some = true_label_ranks(real, constant, names, planted)
    assert (some["n"], some["n_undefined"], some["n_names"]) == (2, 1, 3)


def test_sets_have_a_node_per_concept_and_distractors() -> None:
    concepts = [f"c{i}" for i in range(9)]
    sets = planted_sets(concepts, [1.0, 0.4], 3, 0)
    assert [(each.name, each.grade, len(each.concepts)) for each in sets] == [
        ("r 1", 1.0, 9),
        ("r 0.4", 0.4, 9),
        ("two concepts", 1.0, 3),
        ("noise", 0.0, 3),
    ]
    assert (
        all(len(pair) == 2 for pair in sets[2].concepts)
        and len(frozenset().union(*sets[2].concepts)) == 6
    )
    assert [each.name for each in planted_sets(concepts, [0.5], 0, 0)] == ["r 0.5"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeServer, Path, list[str]]]:
    root = tmp_path_factory.mktemp("bench")
    head = write_random_head(root / "head.safetensors")
    budget = [
        "bench.grades=[1.0,0.4]",
        "bench.n_tokens=2560",
        "bench.n_score_tokens=1280",
        "bench.n_distractors=2",
        f"simulate.head={head}",
        "label.n_contexts=0",
    ]
    # All of the general list would take the encoder most of the test's time.
    some = general_labels()[::60]
    with FakeServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp_by_construction.labelling.general.general_labels", lambda: some)
        server.text_of = names_what_it_sees
        arguments = [
            each for each in overrides(server, root, *budget) if not each.startswith("run=")
        ]
        yield server, root, arguments


def test_a_labeler_that_names_what_it_sees_recovers_planted_nodes(
    small: tuple[FakeServer, Path, list[str]],
) -> None:
    _, root, arguments = small
    path, result = run_truth_bench(compose(arguments), "exact")
    assert (
        path == root / "runs" / ".bench" / "truth.json" and json.loads(path.read_text()) == result
    )
    sets: dict[str, Any] = {each["name"]: each for each in result["sets"]}
    assert list(sets) == ["r 1", "r 0.4", "two concepts", "noise"]
    assert sets["r 1"]["labelling"]["n"] == result["n_concepts"] > 20
    assert sets["r 1"]["labelling"]["recovered"] > 0.95 > 0.1 > sets["r 1"]["labelling"]["chance"]
    assert sets["two concepts"]["labelling"]["recovered"] == 1
    assert sets["noise"]["labelling"]["recovered"] is None
    for each in result["sets"]:
        for name in ("head", "exact"):
            found = each["simulators"][name]
            assert found["n"] + found["n_undefined"] == (
                0 if each["name"] == "noise" else each["labelling"]["n"]
            )
    # A head of random weights understands nothing.
    assert sets["r 1"]["simulators"]["head"]["top1"] < 0.3


def test_the_command_prints_a_table_per_set_and_repeats_itself(
    small: tuple[FakeServer, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    server, root, arguments = small
    file, n_requests = root / "runs" / ".bench" / "truth.json", len(server.requests)
    first = file.read_bytes()
    main(["bench", "truth", "simulator=exact", *arguments])
    shown = capsys.readouterr().out
    for title in (
        "r 1 with their concept",
        "r 0.4 with their concept",
        "two concepts",
        "no label is right",
        "written to",
    ):
        assert title in shown
    assert file.read_bytes() == first
    asked = server.requests[n_requests:]
    assert len(asked) <= 3, "every call is in the cache, but the check of the endpoint"


def test_bad_input_names_the_field(
    small: tuple[FakeServer, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, arguments = small
    with pytest.raises(ConfigError, match="data=stories"):
        run_truth_bench(compose([*arguments, "data=moby_dick"]))
    with pytest.raises(ConfigError, match="simulator=ridge"):
        run_truth_bench(compose(arguments), "ridge")
    with pytest.raises(ConfigError, match=r"bench.grades"):
        compose([*arguments, "bench.grades=[2.0]"])
    with pytest.raises(SystemExit) as stopped:
        main(["bench"])
    assert stopped.value.code == 2 and "ibc bench truth" in capsys.readouterr().err


def test_planted_rules_take_no_simulator(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "truth", "planted=rules", "simulator=exact"])
    assert stopped.value.code == 2 and "leave simulator out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["bench", "truth", "planted=words"])
    assert "planted=words: give concepts or rules" in capsys.readouterr().err


def names_the_rule(prompt: str, seed: int, temperature: float) -> str:
    """A labeler that knows one rule by the words that it is shown."""
    top = prompt.splitlines()[-1]
    words = [word.strip() for word in top.removesuffix(" =").rsplit("|", 1)[-1].split(",")]
    return " words ending in -ed" if all(word.endswith("ed") for word in words) else " things"


def test_planted_rules_are_recovered_by_what_a_label_means(
    small: tuple[FakeServer, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    server, root, arguments = small
    server.text_of = names_the_rule
    main(["bench", "truth", "planted=rules", *arguments])
    shown = capsys.readouterr().out
    assert "planted rules, r 1 with their nodes" in shown and "word in context" in shown
    result = json.loads((root / "runs" / ".bench" / "rules.json").read_text())
    exact = result["sets"][0]
    found = {each["planted"]: each for each in exact["nodes"]}
    assert found["words ending in -ed"]["right"]
    right = sum(each["right"] for each in exact["nodes"])
    assert exact["any"] == pytest.approx(right / exact["n"]) and right < exact["n"] / 4
    assert exact["n"] == result["n_planted"] >= 30
    assert exact["n_readable"] < exact["n_answers"]
    assert sum(kind["n"] for kind in exact["kinds"].values()) == exact["n"]


def test_every_planted_rule_can_be_read_and_none_is_there_twice() -> None:
    every = [label for labels in KINDS.values() for label in labels]
    assert len(set(every)) == len(every) >= 45 and all(map(is_rule, every))


def test_an_answer_is_right_if_it_holds_on_the_same_words() -> None:
    passage = given_passage([[" the", " cat", " and", " a", " dog", " ran", ",", " but", "\n"]] * 3)
    planted = Planted(
        ["articles", "verbs"], ["class", "class"], truth_on(passage.tokens, ["articles", "verbs"])
    )
    answers = [["things", "'the' or 'a'"], ["the word 'ran'", "animals"]]
    r = agreement(passage, planted.truth, [text for own in answers for text in own])
    assert set(r) == {"'the' or 'a'", "the word 'ran'", "animals"}
    found = summary(planted, answers, r)
    assert (found["first"], found["any"], found["chance"]) == (0.5, 1.0, 0.0)
    assert (found["n_readable"], found["n_answers"]) == (3, 4)
    assert found["kinds"] == {"class": {"n": 2, "first": 0.5, "any": 1.0}}
    assert summary(planted, [[], []], {})["any"] == 0.0
