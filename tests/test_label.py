"""Choosing, revising and telling apart labels: the label stage on a text whose truth is known, with
a scripted labeler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import FakeServer
from given_text import given_passage
from stage_jobs import given

from interp_by_construction.config import LabelerConfig, compose
from interp_by_construction.config.labels import AskConfig
from interp_by_construction.corpus.passage import Passage
from interp_by_construction.corpus.words import normalised
from interp_by_construction.engine.records import to_json
from interp_by_construction.engine.rows import write_rows
from interp_by_construction.errors import ConfigError
from interp_by_construction.labelling.ask import Asker
from interp_by_construction.labelling.choice import LabelChoice
from interp_by_construction.labelling.compare import Comparison, disagreements
from interp_by_construction.labelling.labels import (
    Label,
    Proposal,
    read_history,
    read_labels,
)
from interp_by_construction.labelling.prompts import peak_word
from interp_by_construction.labelling.rounds import Revisions, label_nodes
from interp_by_construction.labelling.sources import SourceCounts
from interp_by_construction.llm.client import make_labeler
from interp_by_construction.simulators import check
from interp_by_construction.stages.collect import Collect
from interp_by_construction.stages.label import LabelNodes, LabelRecord
from interp_by_construction.subject.nodes import Excerpt, Node

CONCEPTS = {
    "animals": ["cat", "dog", "cow", "hen"],
    "farm animals": ["cow", "hen"],
    "pets": ["cat", "dog"],
    "colors": ["red", "blue", "green"],
    "furniture": ["table", "chair"],
}
FILLER = ["the", "sat", "on", "and"]
Answers = Callable[[str, int, float], str]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def text_of(split: str) -> Passage:
    """Six excerpts of 40 words that end with a separator; each split has a word that the other one
    has not."""
    rng = np.random.default_rng(len(split))
    own = {"select": "emu", "label": "yak"}[split]
    words = [*CONCEPTS["animals"], *CONCEPTS["colors"], *CONCEPTS["furniture"], *FILLER, own]
    tokens = [[*(f" {word}" for word in rng.permutation(words * 4)[:39]), "\n"] for _ in range(6)]
    return given_passage(tokens, blocks=np.arange(6) * 3)


def words_in(text: Passage) -> list[str]:
    return [token.strip() for row in text.tokens for token in row]


def member(words: Sequence[str], concept: str) -> np.ndarray:
    known = [
        *CONCEPTS[concept],
        *(["emu", "yak"] if concept in ("animals", "farm animals") else []),
    ]
    return np.array([float(word in known) for word in words])


def comparison(split: str, real: dict[int, Callable[[list[str]], np.ndarray]]) -> Comparison:
    """Nodes that are functions of the words, plus a little noise; a label simulates its concept, an
    unknown one furniture."""
    text = text_of(split)
    words, rng = words_in(text), np.random.default_rng(1)
    columns = [does(words) + 0.01 * rng.normal(size=len(words)) for does in real.values()]

    def simulate(labels: Sequence[str]) -> np.ndarray:
        return np.stack(
            [member(words, text if text in CONCEPTS else "furniture") for text in labels], axis=1
        )

    return Comparison(text, np.stack(columns, axis=1), list(real), simulate, "head")


def view(node: int, words: Sequence[str], pole: int = 1, variance: float = 1.0) -> Node:
    top = [
        Excerpt(["the", f" {word}", " sat"], [0.0, 3.0 - 0.1 * i, 0.0], 1, i)
        for i, word in enumerate(words)
    ]
    return Node(1, node, pole, 0.1, variance, top, top, [], [1], [0.0, 1.0])


def run(
    server: FakeServer,
    out: Path,
    views: Sequence[Node],
    real: dict[int, Callable[[list[str]], np.ndarray]],
    answers: Answers,
    revisions: int = 0,
    scored: bool = True,
    concurrency: int = 4,
    min_score: float | None = None,
    **changes: Any,
) -> dict[str, Any]:
    server.text_of = answers
    out.mkdir(exist_ok=True)
    cfg = replace(AskConfig(n_contexts=0, retries=1), **changes)
    labeler_cfg = LabelerConfig(backend="endpoint", url=server.url, concurrency=concurrency)
    with make_labeler(labeler_cfg, out / "calls.sqlite", out) as labeler:
        select, counter = (
            comparison(split, real) if scored else None for split in ("select", "label")
        )
        asker = Asker(labeler, cfg, {}, 0)
        rounds = Revisions(revisions, counter) if counter and revisions else None
        found = label_nodes(views, asker, select, rounds, min_score=min_score)
    for file, rows in (("labels", found.labels), ("history", found.history)):
        write_rows(out / f"{file}.jsonl", [asdict(row) for row in rows])
    return to_json(LabelRecord.of(found))


def kind_of(prompt: str) -> str:
    """What the last line of a completion prompt asks for."""
    line = prompt.splitlines()[-1]
    return (
        "revision"
        if line.startswith("was: ")
        else "contrast"
        if ", but not " in line
        else "proposal"
    )


def animals(words: list[str]) -> np.ndarray:
    return member(words, "animals")


# Selection.


def test_the_planted_best_candidate_is_chosen_by_r_on_the_select_split(
    server: FakeServer, tmp_path: Path
) -> None:
    def answers(prompt: str, seed: int, temperature: float) -> str:
        return "furniture" if temperature == 0 else ("animals", "colors", "pets")[seed % 3]

    views = [view(0, CONCEPTS["animals"])]
    metrics = run(server, tmp_path, views, {0: animals}, answers, n_candidates=12)
    assert [found.text for found in read_labels(tmp_path)] == ["animals"]
    history = read_history(tmp_path)
    assert {p.text for p in history} == {"furniture", "animals", "colors", "pets"}
    # The solved examples of the prompt end with this label: it is none of the labeler's own.
    assert {p.text for p in history if p.in_prompt} == {"animals"}
    assert read_labels(tmp_path)[0].source == "prompt"
    sources = metrics["sources"]
    assert (sources["n_nodes"], sources["n_prompt"], sources["n_labeler"]) == (1, 1, 0)
    columns = {each.name: each.values for each in LabelRecord.columns(tmp_path)}
    assert columns == {"first_label": {0: "furniture"}, "first_r": {0: history[0].score}}
    select = text_of("select")
    use, words = select.is_text.reshape(-1), words_in(select)
    real = (animals(words) + 0.01 * np.random.default_rng(1).normal(size=len(words)))[use]
    for proposal in history:
        expected = np.corrcoef(real, member(words, str(proposal.text))[use])[0, 1]
        assert proposal.score == pytest.approx(expected, abs=1e-6)
        assert proposal.chosen == (proposal.text == "animals") and proposal.why
    selection = metrics["selection"]
    assert (
        selection["r_first"] == pytest.approx(history[0].score)
        and selection["r_chosen"] > 0.95 > selection["r_first"]
    )
    assert (selection["n"], selection["n_undefined"], selection["n_candidates"]) == (1, 0, 4)
    # Without a select split the first one counts.
    metrics = run(server, tmp_path / "first", views, {0: animals}, answers, scored=False)
    assert [found.text for found in read_labels(tmp_path / "first")] == ["furniture"] and metrics[
        "selection"
    ] is None


def test_no_node_wants_a_label_of_another_that_wants_it_less() -> None:
    """The law of `LabelChoice.take`: labels are distinct, and whoever scores higher on a label than
    on his own does not get it only because its holder scores at least as high."""
    rng = np.random.default_rng(0)
    views = [view(node, ["cat"], variance=1.0 + node) for node in range(12)]
    claims = [
        Proposal(node, 1, 0, "proposal", f"label {rng.integers(9)}", float(rng.normal()))
        for node in range(12)
        for _ in range(4)
    ]
    choice = LabelChoice(views, None)
    choice.take([claims[i] for i in rng.permutation(len(claims))])
    texts = [normalised(str(held.text)) for held in choice.held.values()]
    assert len(set(texts)) == len(texts) == 9
    for claim in claims:
        held, score = choice.held.get(claim.node), claim.score
        assert score is not None
        if held is None or (held.score is not None and score > held.score):
            holder = choice.held[choice.holder(str(claim.text))]  # type: ignore[index]
            assert holder.score is not None and holder.score >= score


def test_undefined_scores_are_null_and_never_preferred() -> None:
    real = {0: animals, 1: lambda words: np.zeros(len(words))}
    constant = comparison("select", real)
    constant._real[:, 1] = 0.0
    choice = LabelChoice([view(0, ["cat"]), view(1, ["dog"])], constant)
    fresh = choice.add(
        [
            Proposal(node, 1, 0, "proposal", text)
            for node in (0, 1)
            for text in ("furniture", "animals")
        ]
    )
    assert [p.score is None for p in fresh] == [False, False, True, True]
    choice.take(fresh)
    assert {node: held.text for node, held in choice.held.items()} == {0: "animals", 1: "furniture"}
    # An undefined score replaces nothing.
    assert choice.take([Proposal(1, 1, 1, "revision", "colors")]) == set()


# Both poles.


def test_the_negative_of_a_concept_gets_pole_minus_one_and_the_concepts_label(
    server: FakeServer, tmp_path: Path
) -> None:
    def answers(prompt: str, seed: int, temperature: float) -> str:
        return "animals" if "cat" in prompt.splitlines()[-1] else "furniture"

    real = {0: lambda words: -animals(words), 1: lambda words: member(words, "furniture")}
    views = [
        view(0, FILLER),
        view(1, CONCEPTS["furniture"]),
        view(0, CONCEPTS["animals"], -1),
        view(1, FILLER, -1),
    ]
    metrics = run(server, tmp_path, views, real, answers)
    assert [(found.node, found.pole, found.text) for found in read_labels(tmp_path)] == [
        (0, -1, "animals"),
        (1, 1, "furniture"),
    ]
    chosen = {p.node: p for p in read_history(tmp_path) if p.chosen}
    assert chosen[0].score is not None and chosen[0].score > 0.95 and chosen[0].pole == -1
    dropped = [p for p in read_history(tmp_path) if p.node == 0 and p.pole == 1]
    assert dropped and all(p.why == "the other pole scores higher" for p in dropped)
    assert metrics["n_other_pole"] == 1


# Revision.


def revised(first: str, second: str) -> Answers:
    return lambda prompt, seed, temperature: second if kind_of(prompt) == "revision" else first


def test_a_revision_that_scores_lower_is_refused(server: FakeServer, tmp_path: Path) -> None:
    views, real = [view(0, CONCEPTS["pets"])], {0: animals}
    metrics = run(server, tmp_path, views, real, revised("pets", "colors"), revisions=1)
    assert read_labels(tmp_path)[0].text == "pets"
    assert metrics["revisions"] == {
        "n_rounds": 1,
        "n_asked": 1,
        "n_accepted": 0,
        "n_rejected": 1,
        "n_unparsed": 0,
        "n_repeated": 0,
        "n_without_counter_examples": 0,
    }
    refused = [p for p in read_history(tmp_path) if p.origin == "revision"]
    assert [(p.text, p.chosen, p.why) for p in refused] == [
        ("colors", False, "its score is not higher")
    ]
    assert metrics["selection"]["r_revised"] == metrics["selection"]["r_chosen"]


def test_a_revision_that_scores_higher_replaces_the_label(
    server: FakeServer, tmp_path: Path
) -> None:
    metrics = run(
        server,
        tmp_path,
        [view(0, CONCEPTS["pets"])],
        {0: animals},
        revised("pets", "animals"),
        revisions=1,
    )
    assert read_labels(tmp_path)[0].text == "animals"
    assert (
        metrics["revisions"]["n_accepted"] == 1
        and metrics["selection"]["r_revised"] > metrics["selection"]["r_chosen"]
    )


@pytest.mark.parametrize(("answer", "count"), [("!!!", "n_unparsed"), ("pets", "n_repeated")])
def test_every_revision_is_counted(
    server: FakeServer, tmp_path: Path, answer: str, count: str
) -> None:
    metrics = run(
        server,
        tmp_path,
        [view(0, CONCEPTS["pets"])],
        {0: animals},
        revised("pets", answer),
        revisions=2,
    )
    done = metrics["revisions"]
    assert done["n_asked"] == done[count] == 2 and done["n_accepted"] == done["n_rejected"] == 0
    assert (
        metrics["n_unparsed_answers"]
        == sum(metrics["unparsed_answers"].values())
        == (4 if answer == "!!!" else 0)
    )


def test_a_revision_takes_no_label_of_another_node(server: FakeServer, tmp_path: Path) -> None:
    def answers(prompt: str, seed: int, temperature: float) -> str:
        return (
            "animals"
            if kind_of(prompt) == "revision" or "cow" in prompt.splitlines()[-1]
            else "pets"
        )

    views = [view(0, CONCEPTS["animals"]), view(1, CONCEPTS["pets"])]
    run(server, tmp_path, views, {0: animals, 1: animals}, answers, revisions=1)
    assert [found.text for found in read_labels(tmp_path)] == ["animals", "pets"]
    assert [p.why for p in read_history(tmp_path) if p.origin == "revision"] == [
        "it is the label of node 0"
    ]


def test_counter_examples_are_words_of_the_label_split_on_which_label_and_node_disagree(
    server: FakeServer, tmp_path: Path
) -> None:
    """The node is active on animals and yaks; the label `pets` misses cows, hens and yaks. `colors`
    says red, blue, green."""
    select, counter = comparison("select", {0: animals}), comparison("label", {0: animals})
    found = counter.counter_examples([(0, 1, "pets")], 5)[0]
    assert {peak_word(excerpt) for excerpt in found.missed} == {
        "cow",
        "hen",
        "yak",
    } and found.wrong == []
    both = counter.counter_examples([(0, 1, "colors")], 5)[0]
    assert {peak_word(excerpt) for excerpt in both.wrong} == set(CONCEPTS["colors"])
    assert {peak_word(excerpt) for excerpt in both.missed} == {*CONCEPTS["animals"], "yak"}
    for excerpt in [*both.missed, *both.wrong]:
        row = text_of("label").tokens[excerpt.block // 3]
        assert "".join(excerpt.tokens) in "".join(row) and "\n" not in excerpt.tokens
        active = excerpt.activations[excerpt.peak] > 0.5
        assert active == (peak_word(excerpt) in (*CONCEPTS["animals"], "yak"))
    # Nothing of the select split reaches the labeler.
    run(
        server,
        tmp_path,
        [view(0, CONCEPTS["pets"])],
        {0: animals},
        revised("pets", "colors"),
        revisions=1,
    )
    asked = [
        body["prompt"].splitlines()[-1]
        for _, body in server.requests
        if kind_of(body["prompt"]) == "revision"
    ]
    assert asked and all("yak" in line and "emu" not in line for line in asked)
    assert asked[0].startswith("was: pets | missing: ") and asked[0].endswith(" | cat, dog =")
    assert "emu" in words_in(select.text)


def test_disagreements_are_what_they_claim_worst_first() -> None:
    rng = np.random.default_rng(3)
    real, simulated = rng.exponential(size=400), rng.exponential(size=400)
    missed, wrong = disagreements(real, simulated)
    assert len(missed) and len(wrong)
    high, low = real.mean() + real.std(), simulated.mean() + simulated.std()
    assert set(missed) == set(np.flatnonzero((real > high) & (simulated < simulated.mean())))
    assert set(wrong) == set(np.flatnonzero((simulated > low) & (real < real.mean())))
    gap = (real - real.mean()) / real.std() - (simulated - simulated.mean()) / simulated.std()
    assert (np.diff(gap[missed]) <= 0).all() and (np.diff(gap[wrong]) >= 0).all()
    assert [len(tokens) for tokens in disagreements(np.ones(5), np.arange(5.0))] == [0, 0]
    assert [len(tokens) for tokens in disagreements(real, real)] == [0, 0]


# Distinctness.


def told_apart(answer: str) -> Answers:
    return lambda prompt, seed, temperature: answer if kind_of(prompt) == "contrast" else "animals"


def test_a_contender_is_asked_what_sets_it_apart_from_the_holder(
    server: FakeServer, tmp_path: Path
) -> None:
    real = {0: animals, 1: lambda words: member(words, "farm animals")}
    views = [view(0, [*CONCEPTS["pets"], "cow"]), view(1, ["cow", "hen"])]
    metrics = run(server, tmp_path, views, real, told_apart("farm animals"))
    assert [found.text for found in read_labels(tmp_path)] == ["animals", "farm animals"]
    assert metrics["contrast"] == {"n_asked": 1, "n_accepted": 1} and metrics["n_last_resort"] == 0
    asked = [
        body["prompt"].splitlines()[-1]
        for _, body in server.requests
        if kind_of(body["prompt"]) == "contrast"
    ]
    # Both nodes' words, and the word that they share last and on the contender's side alone.
    assert set(asked) == {"animals, but not cat, dog | hen, cow ="}


def test_the_last_resort_stays_and_is_counted(server: FakeServer, tmp_path: Path) -> None:
    real = {0: animals, 1: lambda words: member(words, "farm animals")}
    views = [view(0, CONCEPTS["pets"]), view(1, ["cow", "hen"])]
    metrics = run(server, tmp_path, views, real, told_apart("Animals."))
    found = read_labels(tmp_path)
    assert [one.text for one in found] == ["animals", "animals, such as cow, hen"]
    assert metrics["n_last_resort"] == 1 and metrics["contrast"] == {"n_asked": 1, "n_accepted": 0}
    assert found[1].reason and found[1].attempts > 1 and metrics["n_distinct"] == 2


# Failures, forms, order.


def test_failures_are_counted_by_reason(server: FakeServer, tmp_path: Path) -> None:
    junk = ["", "12", "I'm sorry, but I cannot help", "a | b"]

    def answers(prompt: str, seed: int, temperature: float) -> str:
        return junk[seed % 4] if "red" in prompt.splitlines()[-1] else "animals"

    metrics = run(
        server,
        tmp_path,
        [view(0, ["cat"]), view(1, ["red"])],
        {0: animals, 1: animals},
        answers,
        n_candidates=8,
    )
    assert read_labels(tmp_path)[1] == Label(1, 1, None, "failed", 2, "no proposal could be parsed")
    assert metrics["n_failed"] == 1 and metrics["failed"] == {"no proposal could be parsed": 1}
    unread = [p for p in read_history(tmp_path) if p.node == 1]
    assert all(
        p.text is None and p.score is None and p.why.startswith("no label: ") for p in unread
    )
    assert (
        metrics["n_unparsed_answers"]
        == len(unread)
        == sum(metrics["unparsed_answers"].values())
        == 16
    )
    assert set(metrics["unparsed_answers"]) == {"empty", "no letters", "refusal", "format remains"}


@pytest.mark.parametrize("takes_formats", [True, False])
def test_chat_labels_come_as_json_where_the_server_can_and_as_text_where_not(
    server: FakeServer, tmp_path: Path, takes_formats: bool
) -> None:
    server.takes_formats = takes_formats
    views, real = (
        [view(0, CONCEPTS["animals"]), view(1, CONCEPTS["colors"])],
        {0: animals, 1: lambda w: member(w, "colors")},
    )

    def answers(prompt: str, seed: int, temperature: float) -> str:
        return "animals" if "most: cat" in prompt else "colors"

    metrics = run(server, tmp_path, views, real, answers, style="chat", revisions=1)
    assert [found.text for found in read_labels(tmp_path)] == ["animals", "colors"]
    assert metrics["n_structured_answers"] == (metrics["n_answers"] if takes_formats else 0)


def test_labels_do_not_depend_on_the_order_or_timing_of_requests(
    server: FakeServer, tmp_path: Path
) -> None:
    def answers(prompt: str, seed: int, temperature: float) -> str:
        return list(CONCEPTS)[(seed + len(prompt)) % len(CONCEPTS)]

    concepts = list(CONCEPTS)[:4]
    views = [view(i, CONCEPTS[name], variance=4.0 - i) for i, name in enumerate(concepts)]
    real = {i: (lambda words, name=name: member(words, name)) for i, name in enumerate(concepts)}
    run(server, tmp_path / "a", views, real, answers, revisions=1, concurrency=1)
    server.delay = 0.002
    run(server, tmp_path / "b", views[::-1], real, answers, revisions=1, concurrency=8)
    first, second = ({one.node: one for one in read_labels(tmp_path / name)} for name in "ab")
    assert first == second
    assert sorted(map(repr, read_history(tmp_path / "a"))) == sorted(
        map(repr, read_history(tmp_path / "b"))
    )
    # What a node is first proposed does not depend on the other nodes of the layer either.
    run(server, tmp_path / "c", views[2:], real, answers)
    proposed = [
        {
            (p.node, p.text, p.score)
            for p in read_history(tmp_path / name)
            if p.round == 0 and p.node >= 2
        }
        for name in "ac"
    ]
    assert proposed[0] == proposed[1] and proposed[0]


def test_a_node_whose_label_says_too_little_has_none(server: FakeServer, tmp_path: Path) -> None:
    """One label predicts its node, one has another meaning, one node is constant."""
    real = {0: animals, 1: animals, 2: lambda words: np.zeros(len(words))}
    views = [view(node, CONCEPTS["animals"], variance=3.0 - node) for node in real]
    names = iter(["animals", "colors", "furniture"])
    given: dict[str, str] = {}

    def answers(prompt: str, seed: int, temperature: float) -> str:
        if str(seed) not in given:
            given[str(seed)] = next(names)
        return given[str(seed)]

    options = {"n_candidates": 1, "retries": 0, "concurrency": 1, "temperature": 0.7}
    found = {}
    for least in (None, 0.5):
        run(server, tmp_path / "run", views, real, answers, min_score=least, **options)
        found[least] = read_labels(tmp_path / "run")
    assert [label.text is not None for label in found[None]] == [True, True, True]
    kept = [label.text for label in found[0.5]]
    assert kept == [label.text if label.text == "animals" else None for label in found[None]]
    assert kept.count("animals") == 1
    for label, whole in zip(found[0.5], found[None], strict=True):
        assert label.status == ("aligned" if label.text else "failed")
        if label.text is None:
            assert "less than label.min_score=0.5" in str(label.reason), whole
    chosen = [p.text for p in read_history(tmp_path / "run") if p.chosen]
    assert chosen == ["animals"]


def test_what_is_decided_by_score_needs_scores() -> None:
    with pytest.raises(ConfigError, match=r"label.revisions=2.*label.select_tokens >= 1"):
        check(compose(["label.revisions=2", "label.select_tokens=0"]))
    with pytest.raises(ConfigError, match=r"nodes.poles=both.*label.head_select_tokens >= 1"):
        check(
            compose(["nodes.poles=both", "simulate.simulator=head", "label.head_select_tokens=0"])
        )
    with pytest.raises(ConfigError, match=r"label.min_score=0.1.*label.select_tokens >= 1"):
        check(compose(["label.min_score=0.1", "label.select_tokens=0", "label.revisions=0"]))
    with pytest.raises(ConfigError, match=r"label.min_score=2.*between -1 and 1"):
        compose(["label.min_score=2"])
    with pytest.raises(ConfigError, match=r"label.revisions=-1"):
        compose(["label.revisions=-1"])
    with pytest.raises(ConfigError, match=r"label.audit_rounds=1.*simulator=ridge.*head"):
        check(compose(["label.audit_rounds=1"]))
    with pytest.raises(ConfigError, match=r"label.audit_rounds=1.*label.head_select_tokens >= 1"):
        check(
            compose(
                ["label.audit_rounds=1", "simulate.simulator=head", "label.head_select_tokens=0"]
            )
        )
    check(compose(["label.select_tokens=0", "label.revisions=0"]))


def test_label_hashes_how_it_asks_and_not_what_matching_reads(tmp_path: Path) -> None:
    def fingerprint(*changes: str) -> str:
        cfg = compose(["labeler=endpoint", "labeler.url=http://127.0.0.1:1", *changes])
        collect = Collect.of(cfg, given(tmp_path), given(tmp_path / "before"), 1)
        return LabelNodes.of(cfg, collect, None, {}).fingerprint

    same = ("label.min_tokens=3", "label.head_select_tokens=64", "evaluate.batch_size=2")
    other = ("label.n_candidates=7", "label.select_tokens=64", "simulate.contrast=false", "seed=5")
    assert {fingerprint(change) for change in same} == {fingerprint()}
    assert len({fingerprint(change) for change in ("seed=0", *other)}) == 1 + len(other)


def test_labels_that_name_a_single_word_are_counted() -> None:
    single = ["the word 'with'", "The Word “with”", "'with'", "word with", "the name 'Tom'"]
    single += ["the word 'don't'"]
    others = ["animals", "the words 'a' and 'b'", "the word 'a' after 'b'", "words", "'to be'"]
    labels = [
        Label(node, 1, text, "aligned", 1, None, "general")
        for node, text in enumerate([*single, *others])
    ]
    labels.append(Label(99, 1, None, "failed", 1, "no"))
    found = SourceCounts.of(labels)
    assert found.n_single_word == len(single)
    assert (found.n_nodes, found.n_none, found.n_general) == (12, 1, 11)
