"""How well the simulators understand labels: scores on the hand-written neurons of
tests/known_truth/neurons.jsonl.

    python scripts/bench_known_truth.py                the head that ships with the package
    python scripts/bench_known_truth.py --exact        also exact simulation by the labeler, with
                                                       the contrast subtracted
    python scripts/bench_known_truth.py --more         also the head on word classes and on the
                                                       concepts of the stories lexicon
    python scripts/bench_known_truth.py --neurons 12   on every third of the 36 neurons only

Other arguments are configuration overrides, such as `labeler.model=... simulate.head=...`. The
benchmarks are fixed: nothing is tuned or trained on them. The labeler's answers are kept in the
store of `paths.root`, so a killed bench goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp_by_construction.config import compose
from interp_by_construction.corpus.stories import generate
from interp_by_construction.errors import IbcError
from interp_by_construction.llm.client import Labeler, make_labeler
from interp_by_construction.scoring.known_truth import (
    Simulate,
    evaluate_simulator,
    read_known_truth,
)
from interp_by_construction.scoring.truth import CONCEPTS, membership, roc_auc
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.exact import REFERENCE_LABELS, simulate_packed
from interp_by_construction.simulators.head import Head
from interp_by_construction.stats.correlation import simulation_score

NEURONS = Path(__file__).resolve().parent.parent / "tests" / "known_truth" / "neurons.jsonl"
WORD_CLASSES = NEURONS.with_name("word_classes.jsonl")
N_STORIES = 60
CLASSES = {
    ("nouns", "words that name a thing or a person"): (
        {"noun", "plural noun"},
        {"name", "pronoun"},
    ),
    ("plural nouns", "names of more than one thing"): ({"plural noun"}, {"pronoun"}),
    ("verbs", "words that say what somebody does or what happens"): (
        {"verb", "past-tense verb", "-ing verb"},
        {"auxiliary"},
    ),
    ("past-tense verbs", "verbs that tell what somebody did"): ({"past-tense verb"}, {"auxiliary"}),
    ("adjectives", "words that describe a thing"): ({"adjective"}, {"number", "possessive"}),
    ("adverbs", "words that say how, where or when"): ({"adverb"}, {"preposition"}),
    ("prepositions", "small words such as in, under and from"): ({"preposition"}, set()),
    ("pronouns", "words that stand for a person or a thing"): (
        {"pronoun"},
        {"possessive", "noun", "plural noun"},
    ),
}
"""Labels (the usual name, which is a phrasing of the head's training, and another) -> tags that
belong, tags that are left out."""
COLUMNS = ("r_true", "r_false", "share_true_above_false")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Scores of the simulators on hand-written neurons."
    )
    parser.add_argument("--exact", action="store_true", help="also exact simulation by the labeler")
    parser.add_argument(
        "--more", action="store_true", help="also word classes and the stories lexicon"
    )
    parser.add_argument(
        "--neurons", type=int, default=None, help="evenly spaced over the file; default: all"
    )
    options, overrides = parser.parse_known_args()
    cfg = compose(overrides)
    every = read_known_truth(NEURONS)
    n = min(options.neurons or len(every), len(every))
    neurons = [every[i * len(every) // n] for i in range(n)]
    head = Head.load(cfg.simulate.head)
    encoder = head.load_encoder("cpu")
    results = {"head": evaluate_simulator(neurons, head_simulator(head, encoder))}
    if options.exact:
        calls = cfg.store_dir / "calls.sqlite"
        with (
            tempfile.TemporaryDirectory() as scratch,
            make_labeler(cfg.labeler, calls, Path(scratch)) as labeler,
        ):
            results["exact"] = evaluate_simulator(neurons, exact_simulator(labeler))
    sys.stdout.write(table(results))
    if options.more:
        sys.stdout.write(word_classes(head_simulator(head, encoder)))
        sys.stdout.write(stories(head, encoder))


def head_simulator(head: Head, encoder: Encoder) -> Simulate:
    """The head on the encoder it was trained for. Every text and every label is encoded once."""

    def simulate(requests: list[tuple[str, list[str]]]) -> list[list[float]]:
        labels = list(dict.fromkeys(label for label, _ in requests))
        texts = list(dict.fromkeys(tuple(tokens) for _, tokens in requests))
        vectors = dict(zip(labels, head.label_vectors(encoder, labels), strict=True))
        # In half precision, as a run stores them.
        rows = (
            head.token_vectors(features).astype(np.float16) for features in encoder.encode(texts)
        )
        tokens_of = dict(zip(texts, rows, strict=True))
        return [
            head.simulate(tokens_of[tuple(tokens)], vectors[label][None])[:, 0].tolist()
            for label, tokens in requests
        ]

    return simulate


def word_classes(simulate: Simulate) -> str:
    """r of every class of words over the tokens of all sentences, for both of its labels."""
    sentences = [json.loads(line) for line in WORD_CLASSES.read_text(encoding="utf8").splitlines()]
    tags = [tag for sentence in sentences for tag in sentence["tags"]]
    rows, scores = [], []
    for labels, (members, open_question) in CLASSES.items():
        known = np.array([tag not in open_question for tag in tags])
        truth = np.array([float(tag in members) for tag in tags])[known]
        for label in labels:
            values = np.concatenate(
                simulate([(label, sentence["tokens"]) for sentence in sentences])
            )
            scores.append(simulation_score(truth, values[known]))
            rows.append(f"{label:60} {scores[-1]:8.3f}")
    usual, others = np.mean(scores[::2]), np.mean(scores[1::2])
    return (
        "\n".join(
            [
                "",
                "word classes: r",
                *rows,
                f"mean of the usual names {usual:.3f}, of other words {others:.3f}",
            ]
        )
        + "\n"
    )


def stories(head: Head, encoder: Encoder) -> str:
    """r and AUC of every concept of the stories lexicon, its name as label."""
    texts = [
        re.findall(r" ?\w+| ?[^\w\s]", story.text)
        for story in generate(["score"] * N_STORIES, seed=0)
    ]
    truth = membership(texts)
    vectors = np.concatenate(
        [head.token_vectors(features).astype(np.float16) for features in encoder.encode(texts)]
    )
    simulated: NDArray = head.simulate(vectors, head.label_vectors(encoder, CONCEPTS))
    rows, scores = [], []
    for i, concept in enumerate(CONCEPTS):
        scores.append(
            (
                simulation_score(truth[:, i].astype(float), simulated[:, i]),
                roc_auc(simulated[:, i], truth[:, i]),
            )
        )
        rows.append(f"{concept:60} {scores[-1][0]:8.3f} {scores[-1][1]:8.3f}")
    r, auc = np.mean(scores, axis=0)
    return (
        "\n".join(
            ["", "stories: r, AUC", *rows, f"mean of {len(CONCEPTS)} concepts {r:.3f} {auc:.3f}"]
        )
        + "\n"
    )


def exact_simulator(labeler: Labeler) -> Simulate:
    """The labeler, contrast against the reference labels, the texts of one label in one prompt."""

    def simulate(requests: list[tuple[str, list[str]]]) -> list[list[float]]:
        answers = []
        for label, group in groupby(requests, key=lambda request: request[0]):
            texts = [tokens for _, tokens in group]
            rated = simulate_packed(labeler, [label, *REFERENCE_LABELS], texts, label[:40])
            values = iter((rated[:, 0] - rated[:, 1:].mean(axis=1)).tolist())
            answers += [[next(values) for _ in tokens] for tokens in texts]
        return answers

    return simulate


def table(results: dict[str, dict[str, Any]]) -> str:
    """One line per simulator and kind, then one per neuron."""
    rows: list[str] = [
        f"{'':24} {'n':>4} {'r true':>8} {'r false':>8} {'true > false':>13} {'undefined':>10}"
    ]
    for name, result in results.items():
        for kind, summary in {"all": result, **result["per_kind"]}.items():
            true, false, share = (summary[column] for column in COLUMNS)
            undefined = f"{summary['n_undefined_true']} + {summary['n_undefined_false']}"
            rows.append(
                f"{name + ', ' + kind:24} {summary['n']:4} {true:8.3f} {false:8.3f} {share:13.2f} {undefined:>10}"
            )
    rows += ["", f"{'r true (r false)':24} " + " ".join(f"{name:>16}" for name in results)]
    for neuron in next(iter(results.values()))["per_neuron"]:
        scores = [result["per_neuron"][neuron] for result in results.values()]
        rows.append(
            f"{neuron:24} "
            + " ".join(f"{cell(each['r_true'], each['r_false']):>16}" for each in scores)
        )
    return "\n".join(rows) + "\n"


def cell(true: float | None, false: float | None) -> str:
    """`-` where r is undefined."""
    first, second = ("-" if value is None else f"{value:.2f}" for value in (true, false))
    return f"{first} ({second})"


if __name__ == "__main__":
    try:
        main()
    except IbcError as error:
        sys.stderr.write(f"bench: {error}\n")
        raise SystemExit(2) from None
