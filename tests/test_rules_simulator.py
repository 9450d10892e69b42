"""Labels simulated without a language model: the law of causality, refusals, and a run."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_server import FakeServer
from small_run import QUICK, config
from stock import Stock

from interp_by_construction import pipeline
from interp_by_construction.config import SimulateConfig, compose
from interp_by_construction.engine.rows import read_rows
from interp_by_construction.engine.run_directory import RunDirectory
from interp_by_construction.engine.store import Store
from interp_by_construction.errors import ConfigError, LabelerError
from interp_by_construction.labelling.ask import hash_seed
from interp_by_construction.results.verification import verify
from interp_by_construction.schedules.truth_bench import run_truth_bench
from interp_by_construction.simulators import create
from interp_by_construction.simulators.base import Models
from interp_by_construction.simulators.files import simulate_file
from interp_by_construction.simulators.rules import RulesSimulation
from interp_by_construction.truth.language import EXAMPLES, parsed
from interp_by_construction.truth.vocabulary import atoms

PIECES = (
    "the; Dog;s';';t; don;’t;\"; \";3;.;5; Mr;.;,;\n;?; he; said; Anna;!;(;);un; ;;é;\u0301; and;_;½;“;”;…;THE;\n\n; 3rd;  ;I;-; Queen’s"
).split(";")
"""Of texts that are hard to cut."""


def labels() -> list[str]:
    """All kinds of rules that need no later text."""
    every = [
        *atoms(),
        *EXAMPLES,
        *(f"words after {label}" for label in ("names", "commas", "nouns")),
    ]
    more = ["(nouns anywhere after an article in the sentence) except names", "not long words"]
    return [label for label in (*every, *more) if not parsed(label).looks_ahead]


def cut(text: str, rng: random.Random) -> list[str]:
    """Anywhere, also into empty tokens."""
    tokens = []
    while text:
        n = rng.randint(0, 5)
        tokens.append(text[:n])
        text = text[n:]
    return tokens


def test_values_depend_on_the_text_up_to_the_end_of_a_token() -> None:
    """Later text changes, inside words too; and the text before is cut otherwise."""
    rng = random.Random(0)
    simulate = RulesSimulation(labels())
    for _ in range(60):
        text, other = ("".join(rng.choices(PIECES, k=rng.randint(1, 40))) for _ in range(2))
        at = rng.randint(0, len(text))
        front = cut(text[:at], rng)
        full, changed, alone = (
            simulate([[*front, *behind]])[: len(front)]
            for behind in (cut(text[at:], rng), cut(other, rng), [])
        )
        np.testing.assert_array_equal(full, alone)
        np.testing.assert_array_equal(changed, alone)
        again = cut(text[:at], rng)
        if front and front[-1].strip() and again and again[-1].strip():
            np.testing.assert_array_equal(simulate([again])[-1], alone[-1])


def test_values_are_0_or_1_and_white_space_is_0() -> None:
    tokens = ["The", " ", "", "\n", " dog", " \n", "s.", "  "]
    values = RulesSimulation(["not commas", "words", "nouns"])([tokens, ["dog"], []])
    assert values.dtype == np.float32 and values.shape == (9, 3)
    assert values[:, 0].tolist() == [1, 0, 0, 0, 1, 0, 1, 0, 1]
    assert values[:, 2].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert RulesSimulation([])([tokens]).shape == (8, 0)
    assert RulesSimulation(["nouns"])([]).shape == (0, 1)


def test_a_word_is_taken_as_it_stands_so_far() -> None:
    """A token belongs to the unit in which its last character stands."""
    values = RulesSimulation(["the word 'dog'", "the word 'dogma'", "full stops"])
    assert values([[" dog", "ma", ".", ' "dog', 's."']]).tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 0, 0],
        [0, 0, 0],
    ]


def test_many_texts_at_once_are_as_one_by_one() -> None:
    rng = random.Random(1)
    simulate = RulesSimulation(labels())
    texts = [rng.choices(PIECES, k=30) for _ in range(6)]
    one_by_one = np.concatenate([simulate([text]) for text in texts])
    np.testing.assert_array_equal(simulate(texts), one_by_one)


def test_a_label_that_needs_later_text_is_refused() -> None:
    with pytest.raises(LabelerError, match=r"'nouns before a verb' needs later text"):
        RulesSimulation(["nouns", "nouns before a verb"])
    with pytest.raises(LabelerError, match=r"'things'.*in no form that rules can read"):
        RulesSimulation(["things"])
    own = create(SimulateConfig(simulator="rules"))
    wanted = {"nouns": True, "nouns before a verb": False, "things": False}
    assert {label: own.reads(label) for label in wanted} == wanted
    assert create(SimulateConfig(simulator="exact")).reads("things")


def test_the_identity_names_lexicon_and_language() -> None:
    own = create(SimulateConfig(simulator="rules"))
    assert set(own.identity) == {"language", "lexicon"} and not own.encoded_parts

    def none() -> object:
        raise AssertionError("no language model is needed")

    simulation = own.open(Models(none, none))(["articles"])  # type: ignore[arg-type]
    assert simulation([["the", " dog"]]).tolist() == [[1], [0]]


def test_a_file_is_simulated_line_by_line(tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [
        {"label": "words after a comma", "tokens": ["So", ",", " he", " ran", "."]},
        {"label": "nouns", "tokens": []},
    ]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    simulate_file(compose([]), source, output, "rules")
    found = read_rows(output)
    assert [line["activations"] for line in found] == [[0, 0, 1, 0, 0], []]
    source.write_text("\n" + json.dumps({"label": "words that rhyme", "tokens": ["a"]}))
    with pytest.raises(LabelerError, match=r"line 2: label 'words that rhyme'"):
        simulate_file(compose([]), source, output, "rules")


def test_planted_nodes_have_labels_that_rules_do_not_read() -> None:
    with pytest.raises(ConfigError, match=r"simulator=rules: give one of exact, head"):
        run_truth_bench(compose(["data=stories"]), "rules")


# A run.

READABLE = (
    "words after the; nouns; past-tense verbs; articles; pronouns; names; full stops; commas; the first word of a sentence; "
    "verbs of speaking; animals; words after a comma; the second word of a sentence; prepositions; words of three letters; words ending in -ed"
).split("; ")


SEED = compose([]).seed
UNREADABLE = {
    hash_seed(SEED, 1, node, pole, round_, candidate)
    for node in range(0, 32, 3)
    for pole in (-1, 1)
    for round_ in range(8)
    for candidate in range(2)
}
"""Seeds of all answers about every third node of layer 1 that are sampled."""


def answer(prompt: str, seed: int, temperature: float) -> str:
    """Greedy answers have no seed that tells the node, so none of them can be read."""
    if temperature == 0 or seed in UNREADABLE:
        return " things that rhyme"
    return f" {READABLE[seed % len(READABLE)]}"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        running.text_of = answer
        yield running


def rules_run(server: FakeServer, root: Path, stock: Stock, *more: str) -> RunDirectory:
    own = (
        "simulate.simulator=rules",
        "layer=1",
        "nodes.count=24",
        "label.retries=1",
        *QUICK,
        *more,
    )
    return pipeline.run(stock.begin(config(server, root, *own)))


def test_a_run_ends_and_counts_what_rules_cannot_read(
    server: FakeServer, stock: Stock, tmp_path: Path
) -> None:
    scores = ("scores.enabled=true", "scores.blind=true", "scores.n_top=2", "scores.n_random=2")
    run = rules_run(server, tmp_path, stock, *scores, "scores.detection_excerpts=2")
    summary = run.summary
    assert summary is not None and summary["complete"]
    assert verify(run, Store(tmp_path / "store")) == []
    (layer,) = summary["layers"]
    assert layer["n_aligned"] >= 1 and layer["n_failed_labels"] >= 3
    assert layer["score"]["final"]["simulator"] == "rules"
    assert not layer["score"]["final"]["self_judged"]
    assert layer["judge"]["n_blind_failed"] is not None
    rows = pq.read_table(run.path / "nodes.parquet").to_pylist()
    assert {row["label"] for row in rows if row["label"]} <= set(READABLE)
    label = run.store.path("label", dict(run.artifacts)["label"])
    failed = [row for row in read_rows(label / "labels.jsonl") if row["text"] is None]
    for row in failed:
        unread = row["node"] % 3 == 0
        reason = "unreadable by rules" if unread else "every proposal is another node's label"
        assert row["reason"] == reason
    assert not any(row["node"] % 3 == 0 for row in rows if row["label"])
    why = {row["why"] for row in read_rows(label / "history.jsonl") if row["text"] is None}
    assert why == {"no label: unreadable by rules"}


def test_a_match_deals_out_what_rules_read(
    server: FakeServer, stock: Stock, tmp_path: Path
) -> None:
    more = ("nodes.assign=match", "simulate.n_label_tokens=640", "label.head_select_tokens=0")
    run = rules_run(server, tmp_path, stock, *more, "label.min_tokens=0", "audit.enabled=false")
    assert run.summary is not None and run.summary["complete"]
    (layer,) = run.summary["layers"]
    rows = pq.read_table(run.path / "nodes.parquet").to_pylist()
    dealt = [row["label"] for row in rows if row["label"]]
    assert len(dealt) == layer["n_aligned"] >= 1
    assert all(not parsed(label).looks_ahead for label in dealt)
