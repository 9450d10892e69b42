"""Laws of what the shipped head is trained on, on a WordNet of twenty synsets, and of how it is
trained and exported."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pytest
import torch

from interp_by_construction.simulators import head as head_module
from interp_by_construction.simulators.encoder import Encoder
from interp_by_construction.simulators.head import Head

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import lexical_supervision  # noqa: E402
import train_simulator  # noqa: E402
from lexical_context import CONTEXT, FOLLOWED, N_CONCEPTS, OBJECTS, context_concepts  # noqa: E402
from lexical_supervision import (  # noqa: E402
    MIN_TOKENS,
    Sense,
    Supervision,
    WordNet,
    build,
    held_out,
)
from lexical_words import IGNORE, Concept  # noqa: E402


class Entry(NamedTuple):
    """A synset; `up`: `symbol name` of each pointer, a name being `word.pos` of a synset's first
    word."""

    pos: str
    file: int
    words: str
    up: str
    gloss: str


ENTRIES = (
    Entry("n", 3, "entity", "", "that which is perceived to have its own existence"),
    Entry("n", 7, "quality", "@ entity.n", "an essential attribute of something; any property"),
    Entry(
        "n",
        5,
        "animal creature",
        "@ entity.n",
        'a living organism that moves by itself; "every creature sleeps"',
    ),
    Entry(
        "n",
        5,
        "pony",
        "@ animal.n",
        'a small horse; "the ponies hopped over the fence"; "a pony eats grass"',
    ),
    Entry(
        "n", 5, "dog domestic_dog", "@ animal.n", 'a barking friend of man; "she walks her dogs"'
    ),
    Entry(
        "n",
        5,
        "goose",
        "@ animal.n",
        'a large bird with a long neck; "the geese left for the south"',
    ),
    Entry(
        "n",
        5,
        "bat",
        "@ animal.n",
        'a small flying thing of the night; "the bats flew home"; "many bats flew south"',
    ),
    Entry("n", 6, "artifact", "@ entity.n", "a man-made object taken as a whole"),
    Entry(
        "n",
        6,
        "bat",
        "@ artifact.n",
        'a club used for hitting a ball; "he broke both bats at practice"',
    ),
    Entry(
        "n", 6, "fence", "@ artifact.n", 'a barrier that encloses an area; "the fences were white"'
    ),
    Entry("n", 27, "wool", "@ entity.n", "fiber sheared from sheep and twisted into yarn"),
    Entry(
        "n",
        12,
        "happiness",
        "@ quality.n",
        'emotions experienced when in a state of well-being; "their happiness was short"',
    ),
    Entry(
        "n", 4, "walk", "@ entity.n", 'the act of walking somewhere; "he took a walk after lunch"'
    ),
    Entry("v", 38, "move travel", "", 'change location; "the train moved north"'),
    Entry(
        "v", 38, "hop", "@ move.v", 'jump lightly; "she hopped off the wall"; "stop hopping about"'
    ),
    Entry("v", 38, "run", "@ move.v", 'go fast by moving the legs; "he ran to the store"'),
    Entry("v", 38, "walk", "@ move.v", 'use the feet to advance; "walk with me"'),
    Entry("v", 35, "bat", "", 'strike with a club; "he batted the ball away"'),
    Entry(
        "a",
        0,
        "happy",
        "= happiness.n + happiness.n & glad.a",
        'enjoying well-being; "a happy smile"',
    ),
    Entry("s", 0, "glad content(p)", "& happy.a", 'showing joy; "glad to see you"'),
    Entry("a", 1, "woolly", "+ wool.n", 'covered with dense matted hair; "a woolly coat"'),
    Entry("r", 2, "happily", "", 'in a joyous manner; "they sang happily"'),
)
EXCEPTIONS = {"noun": "geese goose\n", "verb": "ran run\n", "adj": "", "adv": ""}
COUNTS = (
    "bat%1:05:00:: 1 3\nbat%1:06:00:: 2 3\nbat%2:35:00:: 1 3\nglad%5:00:00:happy:00 1 4\nhappy%3:00:00:: 1 7\n"
    "other%1:05:00:: 1 2\nwalk%2:38:00:: 1 9\n"
)
NAMES = {"n": "noun", "v": "verb", "a": "adj", "s": "adj", "r": "adv"}

# Between them every concept that is asked for has enough tokens and forms; most words are not in
# the dictionary.
SENTENCES = (
    "The ponies hopped near an old river before noon.",
    "A dog ran under some tall trees after dusk.",
    "Many geese walked slowly across our garden yesterday.",
    "His bats slept there because winter came early.",
    "She was happy although rain fell all week long.",
    "They grew happier when summer finally arrived again.",
    "We are glad about these long letters from home.",
    "It was cloudy; happiness comes and goes like rain.",
    "You hop and move and travel more than anyone here.",
    "This pony and that goose live behind a white wall.",
    "Most creatures keep away from every fence at night.",
)
EXTRA = list(SENTENCES) * 40


def write_wordnet(folder: Path) -> None:
    """The files of wndb(5WN) and cntlist(5WN); an offset is where the synset's line begins, as
    there."""
    header = "  1 This is no part of any WordNet.  \n"
    known = [
        (entry, f"{entry.words.split()[0]}.{'a' if entry.pos == 's' else entry.pos}")
        for entry in ENTRIES
    ]
    offsets: dict[int, int] = {}

    def line(i: int) -> str:
        entry = ENTRIES[i]
        words = entry.words.split()
        parts = [f"{offsets.get(i, 0):08d} {entry.file:02d} {entry.pos} {len(words):02x}"]
        parts += [f"{word} 0" for word in words]
        pointers = list(zip(entry.up.split()[::2], entry.up.split()[1::2], strict=True))
        parts.append(f"{len(pointers):03d}")
        for symbol, target in pointers:
            j = next(j for j, (_, name) in enumerate(known) if name == target)
            parts.append(f"{symbol} {offsets.get(j, 0):08d} {target[-1]} 0000")
        if entry.pos == "v":
            parts.append("01 + 02 00")
        return f"{' '.join(parts)} | {entry.gloss}  \n"

    for name, exceptions in EXCEPTIONS.items():
        own = [i for i, entry in enumerate(ENTRIES) if NAMES[entry.pos] == name]
        position = len(header)
        for i in own:
            offsets[i] = position
            position += len(line(i))
        (folder / f"{name}.exc").write_text(exceptions)
    for name in EXCEPTIONS:
        own = [i for i, entry in enumerate(ENTRIES) if NAMES[entry.pos] == name]
        (folder / f"data.{name}").write_text(header + "".join(line(i) for i in own))
        lemmas: dict[str, list[int]] = defaultdict(list)
        for i in own:
            for word in ENTRIES[i].words.split():
                lemmas[word.split("(")[0]].append(i)
        pos = next(pos for pos, file in NAMES.items() if file == name)
        (folder / f"index.{name}").write_text(
            header
            + "".join(
                f"{lemma} {pos} {len(senses)} 1 @ {len(senses)} 0 {' '.join(f'{offsets[i]:08d}' for i in senses)}  \n"
                for lemma, senses in sorted(lemmas.items())
            )
        )
    (folder / "cntlist.rev").write_text(COUNTS)


def halves(text: str) -> list[tuple[int, int]]:
    """A token is a word of up to five letters, half of a longer one, or a run of other
    characters."""
    found = []
    for match in re.finditer(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]+", text):
        start, end = match.span()
        cuts = [start, (start + end) // 2, end] if end - start > 5 else [start, end]
        found += list(zip(cuts, cuts[1:], strict=False))
    return found


def digest(data: Supervision) -> str:
    """Of everything that training reads."""
    parts = [data.texts, data.ends, [tuple(concept) for concept in data.concepts]]
    arrays = [data.types, data.membership, data.context]
    every = [repr(parts).encode()] + [
        str((a.shape, a.dtype)).encode() + a.tobytes() for a in arrays
    ]
    return hashlib.sha256(b"".join(every)).hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dict")
    write_wordnet(path)
    return path


@pytest.fixture(scope="module")
def net(folder: Path) -> WordNet:
    return WordNet(folder)


@pytest.fixture(scope="module")
def data(folder: Path) -> Supervision:
    return build(folder, EXTRA, halves, 1_000_000, seed=0)


def sense_of(net: WordNet, word: str, pos: str, file: int | None = None) -> Sense:
    """The one synset that has the word first, or has it in a lexicographer file."""
    (found,) = [
        sense
        for sense, synset in net.synsets.items()
        if sense.pos == pos and synset.words[0] == word and file in (None, synset.file)
    ]
    return found


def column(data: Supervision, name: str) -> int:
    """Of a synset concept `pos word`, or of another concept by its first phrasing."""
    (found,) = [
        i
        for i, concept in enumerate(data.concepts)
        if (
            f"{concept.kind[-1]} {concept.name.partition(' ')[2]}"
            if concept.kind.startswith("synset")
            else concept.phrasings[0]
        )
        == name
    ]
    return found


def tokens(data: Supervision) -> Iterator[tuple[int, str, int]]:
    """(row, text, end) of every token."""
    pairs = [(text, end) for text, ends in zip(data.texts, data.ends, strict=True) for end in ends]
    return ((row, text, end) for row, (text, end) in enumerate(pairs))


def is_fragment(text: str, end: int) -> bool:
    return text[end - 1].isalpha() and text[end : end + 1].isalpha()


def word_before(text: str, end: int) -> str:
    """The word that ends there, '' where none does."""
    found = re.search(r"(?<![A-Za-z])[A-Za-z]+$", text[:end])
    return found.group() if found and not is_fragment(text, end) else ""


def members(data: Supervision, name: str, word: str, after: str = "") -> set[int]:
    """Memberships of all tokens that end the word, where `after` follows."""
    i = column(data, name)
    rows = [
        row
        for row, text, end in tokens(data)
        if word_before(text, end).lower() == word and text[end:].startswith(after)
    ]
    assert rows, f"no text has {word}{after}"
    return {int(data.membership[data.types[row], i]) for row in rows}


def test_synsets_are_read_as_written(net: WordNet) -> None:
    """Markers leave words, definitions leave examples, offsets and pointers fit."""
    assert len(net.synsets) == len(ENTRIES)
    pony = net.synsets[sense_of(net, "pony", "n")]
    assert (pony.file, pony.gloss) == (5, "a small horse")
    assert pony.examples == ["the ponies hopped over the fence", "a pony eats grass"]
    assert pony.up == [sense_of(net, "animal", "n")]
    assert net.synsets[sense_of(net, "glad", "a")].words == ["glad", "content"]
    assert (
        net.synsets[sense_of(net, "quality", "n")].gloss
        == "an essential attribute of something; any property"
    )


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("hop", {("hop", "v", "base")}),
        ("hopped", {("hop", "v", "past")}),
        ("hopping", {("hop", "v", "ing")}),
        ("hops", {("hop", "v", "third")}),
        ("moved", {("move", "v", "past")}),
        ("moving", {("move", "v", "ing")}),
        ("ponies", {("pony", "n", "plural")}),
        ("geese", {("goose", "n", "plural")}),
        ("ran", {("run", "v", "past")}),
        ("happier", {("happy", "a", "comparative")}),
        ("happiest", {("happy", "a", "superlative")}),
        ("gladder", {("glad", "a", "comparative")}),
        ("happily", {("happily", "r", "base")}),
        ("walks", {("walk", "n", "plural"), ("walk", "v", "third")}),
        ("river", set()),
        ("s", set()),
    ],
)
def test_readings_of_a_form(net: WordNet, form: str, expected: set[tuple[str, str, str]]) -> None:
    assert set(net.lemmas(form)) == expected


def test_shares_of_readings_sum_to_one_and_follow_the_counts(net: WordNet) -> None:
    forms = {form + ending for form, _ in net.senses for ending in ("", "s", "ed", "ing", "er")} | {
        "geese",
        "ran",
    }
    read = [net.readings(form) for form in sorted(forms)]
    assert sum(bool(readings) for readings in read) > 40
    for readings in filter(None, read):
        assert sum(share for *_, share in readings) == pytest.approx(1)
        assert all(share > 0 for *_, share in readings)
    assert net.readings("river") == []
    shares = {sense: share for sense, _, share in net.readings("walk")}
    assert shares == pytest.approx(
        {sense_of(net, "walk", "v"): 9.5 / 10, sense_of(net, "walk", "n"): 0.5 / 10}
    )
    # Of the same count the sense that is listed first is a little more frequent.
    shares = {sense: share for sense, _, share in net.readings("bats")}
    animal, club, hit = (
        sense_of(net, "bat", "n", 5),
        sense_of(net, "bat", "n", 6),
        sense_of(net, "bat", "v"),
    )
    assert shares == pytest.approx({animal: 3.5 / 10.25, club: 3.25 / 10.25, hit: 3.5 / 10.25})


def test_ancestors_are_closed_and_lead_from_an_adjective_to_a_quality_only(net: WordNet) -> None:
    for sense in net.synsets:
        own = net.ancestors(sense)
        assert sense in own
        assert all(net.ancestors(up) <= own for up in own)
    entity, quality, happiness = (
        sense_of(net, word, "n") for word in ("entity", "quality", "happiness")
    )
    glad, happy, woolly = (sense_of(net, word, "a") for word in ("glad", "happy", "woolly"))
    assert net.ancestors(sense_of(net, "pony", "n")) == {
        sense_of(net, "pony", "n"),
        sense_of(net, "animal", "n"),
        entity,
    }
    assert net.ancestors(glad) == {glad, happy, happiness, quality, entity}
    assert net.ancestors(happy) == {happy, happiness, quality, entity}, "not down to its satellite"
    assert net.ancestors(woolly) == {woolly}
    assert net.synsets[woolly].up == [sense_of(net, "wool", "n")], "read, not followed"


@pytest.mark.parametrize("seed", range(3))
def test_an_examples_own_word_is_known_by_sense(net: WordNet, seed: int) -> None:
    """However the example was varied; a definition knows nothing."""
    texts = net.texts(np.random.default_rng(seed))
    marked = Counter(sense for text in texts for sense in set(text.senses.values()))
    for sense, synset in net.synsets.items():
        assert marked[sense] == len(synset.examples)
    for text in texts:
        for end, sense in text.senses.items():
            lemmas = {
                lemma
                for lemma, pos, _ in net.lemmas(word_before(text.text, end).lower())
                if pos == sense.pos
            }
            assert lemmas & set(net.synsets[sense].words)
    definitions = [text for text in texts if text.text == "A small horse."]
    assert [text.senses for text in definitions] == [{}]


def test_tokens_have_one_row_each_and_rows_fit_the_offsets(data: Supervision) -> None:
    assert data.ends == [[end for _, end in halves(text)] for text in data.texts]
    n_tokens = sum(len(ends) for ends in data.ends)
    assert data.types.shape == (n_tokens,) and len(data.context) == n_tokens
    assert len(data.concepts) == data.membership.shape[1] + data.context.shape[1]
    assert data.context.shape[1] == N_CONCEPTS == len(CONTEXT) + len(FOLLOWED) + len(OBJECTS)
    assert set(np.unique(data.membership)) == set(np.unique(data.context)) == {0, 1, IGNORE}
    assert data.types.max() + 1 == len(data.membership)
    # A concept that the text itself shows, at every token.
    for word in ("ponies", "dog", "the"):
        member = data.membership[data.types, column(data, f"the word {word}")] == 1
        assert member.any()
        assert [bool(m) for m in member] == [
            word_before(text, end).lower() == word for _, text, end in tokens(data)
        ]


def test_a_token_of_spaces_is_nothing(folder: Path) -> None:
    def with_spaces(text: str) -> list[tuple[int, int]]:
        return sorted([*halves(text), *(match.span() for match in re.finditer(r"\s+", text))])

    spaced = build(folder, EXTRA, with_spaces, 3000, seed=0)
    spaces = [row for row, text, end in tokens(spaced) if text[end - 1].isspace()]
    assert len(spaces) > 500
    assert not spaced.membership[spaced.types[spaces]].any() and not spaced.context[spaces].any()


def test_a_word_is_a_member_of_all_that_it_is_a_kind_of(net: WordNet, data: Supervision) -> None:
    names = {f"{sense.pos} {net.synsets[sense].words[0]}": sense for sense in net.synsets}
    kept = {
        name
        for name in names
        if any(c.kind == f"synset {name[0]}" and c.name.endswith(name[1:]) for c in data.concepts)
    }
    assert {"n animal", "n entity", "n happiness", "v move", "a happy"} <= kept
    for word, pos, first in (
        ("ponies", "n", "pony"),
        ("geese", "n", "goose"),
        ("creatures", "n", "animal"),
        ("hopped", "v", "hop"),
        ("ran", "v", "run"),
        ("happier", "a", "happy"),
        ("glad", "a", "glad"),
    ):
        own = net.ancestors(sense_of(net, first, pos))
        for name in kept:
            assert members(data, name, word) == {int(names[name] in own)}, (word, name)
    assert members(data, "nouns", "ponies") == members(data, "plural nouns", "ponies") == {1}
    assert (
        members(data, "animals", "ponies")
        == members(data, "animals, in the plural", "ponies")
        == {1}
    )
    assert members(data, "animals", "pony") == {1} and members(
        data, "animals, in the plural", "pony"
    ) == {0}
    assert members(data, "past-tense verbs", "hopped") == {1} and members(
        data, "past-tense verbs", "hop"
    ) == {0}


def test_an_ambiguous_word_is_ignored_unless_its_senses_agree_or_its_sense_is_known(
    data: Supervision,
) -> None:
    assert members(data, "n animal", "bats", " slept") == {IGNORE}
    assert members(data, "animals", "bats", " slept") == {IGNORE}
    assert members(data, "n entity", "bats", " slept") == {1}, "two of three senses are entities"
    assert members(data, "v move", "bats", " slept") == {0}, "none of its senses"
    assert members(data, "n animal", "bats", " flew") == {1}, "the example's own word"
    assert members(data, "v move", "walk", " after lunch") == {0}, "mostly a verb, here a noun"


def test_nothing_is_known_before_a_word_has_ended(data: Supervision) -> None:
    fragments = [row for row, text, end in tokens(data) if is_fragment(text, end)]
    assert len(fragments) > 500
    assert not (data.membership[data.types[fragments]] == 1).any()
    assert not (data.context[fragments] == 1).any()
    # It is not denied either where the whole word belongs.
    begun = [
        row
        for row, text, end in tokens(data)
        if text[:end].endswith(" pon") and text[end:].startswith("ies")
    ]
    assert begun
    assert (data.membership[data.types[begun], column(data, "n animal")] == IGNORE).all()
    assert (data.membership[data.types[begun], column(data, "v move")] == 0).all()


def test_every_concept_has_phrasings_and_members(
    data: Supervision, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(
        concept.phrasings and all(phrase.strip() for phrase in concept.phrasings)
        for concept in data.concepts
    )
    monkeypatch.setattr(lexical_supervision, "N_PHRASINGS", 99)
    every = build(folder, EXTRA, halves, 1_000_000, seed=0)
    for name, phrase in (("n animal", "words for animals"), ("v move", "ways to move")):
        some, all_ = (found.concepts[column(found, name)].phrasings for found in (data, every))
        assert phrase in all_ and set(some) < set(all_) and some[0] == all_[0]
    counts = (data.membership[data.types] == 1).sum(axis=0)
    for concept, count in zip(data.concepts, counts, strict=False):
        if concept.kind.startswith("synset"):
            assert MIN_TOKENS <= count < 0.2 * len(data.types)


def test_no_phrasing_of_a_held_out_concept_is_told_by_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical_supervision, "HELD_OUT", 0.5)
    concepts = build(folder, EXTRA, halves, 1_000_000, seed=0).concepts
    secret = {phrase.lower() for c in concepts if held_out(c, 0.5) for phrase in c.phrasings}
    kinds = ("synset n", "synset v", "synset a", "lemma", "parts", "topic")
    told = {
        phrase.lower()
        for c in concepts
        if c.kind in kinds and not held_out(c, 0.5)
        for phrase in c.phrasings
    }
    assert secret and told and not secret & told


def test_states_are_kept_as_their_principal_components(tmp_path: Path) -> None:
    """All components without whitening: a rotation, which keeps every inner product up to one
    factor."""
    encoder = FakeEncoder("any")
    texts = ["one two three", "four five"] * 50
    n = FakeEncoder.n_features
    states = np.concatenate(list(encoder.states(texts)))
    args = argparse.Namespace(components=n, whiten=0.0)
    kept, projection = train_simulator.encode_texts(
        cast(Encoder, encoder), texts, len(states), tmp_path / "x.npy", args, None
    )
    x = np.clip((states - projection.mean) / projection.scale, -6, 6)
    gram, expected = kept.astype(np.float64) @ kept.T.astype(np.float64), x.astype(np.float64) @ x.T
    np.testing.assert_allclose(gram / np.trace(gram), expected / np.trace(expected), atol=1e-4)
    fewer = train_simulator.fit(states, 4, 0.5)
    spread = fewer(states).astype(np.float64)
    np.testing.assert_allclose(spread.T @ spread / len(spread), np.eye(4), atol=2e-2)
    again, _ = train_simulator.encode_texts(
        cast(Encoder, None), texts, len(states), tmp_path / "x.npy", args, None
    )
    np.testing.assert_array_equal(again, kept)


def test_a_batch_has_members_of_every_rare_concept(data: Supervision) -> None:
    args = argparse.Namespace(
        seed=0, batch_concepts=20, batch_tokens=30, positives=2, mixed=1.0, general=0.3
    )
    columns = np.arange(len(data.concepts))
    batches = train_simulator.Batches(data, np.arange(len(data.types)), columns, args)
    labels = torch.arange(float(batches.phrasing.max() + 1))[:, None]
    batch, chosen, features = batches.draw(labels)
    member = train_simulator.membership(data, batch, chosen) == 1
    possible = np.array([len(batches.members[c]) > 0 for c in chosen])
    assert (member.any(axis=0) == possible).all() and possible.any()
    # Few concepts are of a general kind, and they have their share.
    assert len(chosen) == len(set(chosen)) == 20
    assert sum(data.concepts[c].kind in train_simulator.GENERAL for c in chosen) == 6
    # A mixture lies between phrasings of its own concept.
    own = batches.phrasing[chosen]
    assert (features[:, 0].numpy() >= own.min(axis=1) - 1e-3).all() and (
        features[:, 0].numpy() <= own.max(axis=1) + 1e-3
    ).all()


def test_a_build_depends_on_its_seed_and_on_no_hash(folder: Path, data: Supervision) -> None:
    code = "\n".join(
        [
            "from __future__ import annotations",
            "import hashlib, json, re, sys",
            "from pathlib import Path",
            f"sys.path.insert(0, {str(SCRIPTS)!r})",
            "from lexical_supervision import Supervision, build",
            inspect.getsource(halves),
            inspect.getsource(digest),
            "folder, extra = json.load(sys.stdin)",
            "sys.stdout.write(digest(build(Path(folder), extra, halves, 1_000_000, seed=0)))",
        ]
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps([str(folder), EXTRA]),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, digest(data), "")
    assert digest(build(folder, EXTRA, halves, 1_000_000, seed=1)) != digest(data)


def test_a_build_stops_at_about_as_many_tokens_as_it_was_asked_for(
    folder: Path, data: Supervision
) -> None:
    short = build(folder, EXTRA, halves, 1000, seed=0)
    assert 1000 <= len(short.types) < 1000 + max(len(ends) for ends in short.ends)
    assert short.texts == data.texts[: len(short.texts)]


def test_what_is_held_out_is_decided_by_name_and_of_synsets_only(data: Supervision) -> None:
    def synset(name: str, kind: str = "synset n") -> Concept:
        return Concept(kind, name, [])

    # These never change: what the shipped head's record says of held-out concepts depends on it.
    held = {
        "n1740 entity": False,
        "n7480068 emotion": True,
        "n283568 walk": True,
        "n2084071 dog": False,
        "v1835496 travel": False,
    }
    assert {name: held_out(synset(name), 0.15) for name in held} == held
    names = [f"n{i} word" for i in range(4000)]
    few, more = ({name for name in names if held_out(synset(name), share)} for share in (0.15, 0.4))
    assert few < more and len(few) / len(names) == pytest.approx(0.15, abs=0.02)
    for name in names[:50]:
        assert held_out(synset(name), 0.15) == held_out(
            Concept("synset v", name, ["other phrasings"]), 0.15
        )
        assert not held_out(synset(name), 0) and held_out(synset(name), 1)
    assert {held_out(c, 1) for c in data.concepts if not c.kind.startswith("synset")} == {False}


@pytest.mark.parametrize(
    ("text", "concept", "expected"),
    [
        ('Tom came. "Stay with me!" Then he left.', "words inside quotation marks", "Stay with me"),
        ('"Go." She went. "Why?"', "words inside quotation marks", "Go Why"),
        ("The dog saw the big cat, the end.", "words after the", "dog big end"),
        (
            "Tom came home. Who knew? Nobody! It rained.",
            "first words of a sentence",
            "Tom Who Nobody It",
        ),
        ('He said, "Come in, please." Yes.', "first words of a sentence", "He Come Yes"),
        ("A cat ate an apple.", "words after a", "cat apple"),
        ("We went to town to eat.", "words after to", "town eat"),
        ("A cup of tea.", "words after of", "tea"),
        ("Bread and butter.", "words after and", "butter"),
        ("We did not go home.", "words after a negation", "go home"),
        ("We don't know.", "words after a negation", "know"),
        ("Yesterday I met Mary in Paris.", "names", "Mary Paris"),
        ("Red, green, blue.", "words after a comma", "green blue"),
        ("He ran and she hid.", "words after he or she", "ran hid"),
        ("Cats like fish and the cats eat the fish.", "words that occurred before", "cats fish"),
        ("A cat (my cat) slept.", "words inside brackets", "my cat"),
        ("We sat on chairs under trees.", "words after a preposition", "chairs trees"),
        ("It was cold and we are sad.", "words after is or was", "cold sad"),
        ('"Come," she said. We left.', "first words of a sentence", "Come We"),
        ("We ran home. Nobody saw us.", "second words of a sentence", "ran saw"),
        ('He said, "Come in, please." Yes.', "the first word inside quotation marks", "Come"),
        ('"Go," she said.', "words right after a quotation", "she"),
        ("Three cats had 2 tails.", "words after a number", "cats tails"),
        ("He left because rain fell, so what.", "words in a clause with because", "rain fell"),
        ("If it rains we stay. Go.", "words in an if clause", "it rains we stay"),
        ("Boys who run win.", "words in a relative clause", "run win"),
        ("Then Mary met Bob and Mary left.", "names that were mentioned before", "Mary"),
        ("It was painted and is moving.", "passive verbs", "painted"),
        ("It was painted and is moving.", "progressive verbs", "moving"),
        ("In spring and in May.", "words after in", "spring May"),
        ("He gave the boy a coat and left.", "objects of the verb give", "boy coat"),
        ("She uses old tools in winter.", "objects of the verb use", "old tools"),
    ],
)
def test_concepts_of_context_on_texts_written_by_hand(
    text: str, concept: str, expected: str
) -> None:
    ends = [end for _, end in halves(text)]
    concepts, rows = context_concepts([text], [ends])
    i = [c.phrasings[0] for c in concepts].index(concept)
    assert (
        " ".join(word_before(text, end) for end, row in zip(ends, rows, strict=True) if row[i] == 1)
        == expected
    )
    # Where a word of two tokens belongs, its first token is left out.
    whole = {word_before(text, end): row[i] for end, row in zip(ends, rows, strict=True)}
    for end, row in zip(ends, rows, strict=True):
        if is_fragment(text, end):
            rest = re.match("[a-z]+", text[end:])
            assert rest is not None
            word = word_before(text, end + len(rest.group()))
            assert row[i] == (IGNORE if whole[word] else 0)


def _pairs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and memberships, [token, concept]; the last concept is too rare for a correlation."""
    generator = torch.Generator().manual_seed(seed)
    member = torch.randint(0, 3, (40, 6), generator=generator).to(torch.uint8)
    member[:, -1] = 0
    member[0, -1] = 1
    return torch.randn(40, 6, generator=generator), member


def test_the_loss_ignores_what_is_not_known() -> None:
    logits, member = _pairs()
    logits.requires_grad_()
    loss = train_simulator.loss_of(logits, member, 0.5)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[member == IGNORE] == 0).all()
    assert (logits.grad[member != IGNORE] != 0).all()
    other = torch.where(member == IGNORE, torch.full_like(logits, 7.0), logits.detach())
    assert train_simulator.loss_of(other, member, 0.5).item() == pytest.approx(
        loss.item(), rel=1e-5
    )


def test_the_loss_is_least_where_membership_is_told() -> None:
    logits, member = _pairs()
    perfect = torch.where(member == 1, 8.0, -8.0)
    losses = [
        train_simulator.loss_of(guess, member, 0.5).item() for guess in (perfect, logits, -perfect)
    ]
    assert losses == sorted(losses) and 0 <= losses[0] < 0.01 * losses[1]
    # The correlation of each frequent concept, and its worst case: 1 - (-1).
    apart = train_simulator.loss_of(-perfect, member, 1.5).item() - losses[2]
    assert apart == pytest.approx(2.0, abs=1e-3)
    rare = torch.zeros_like(member)
    rare[0] = 1
    assert (
        train_simulator.loss_of(logits, rare, 0.0).item()
        == train_simulator.loss_of(logits, rare, 5.0).item()
    )


def test_the_exported_towers_are_the_trained_ones(
    tmp_path: Path, data: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch against the package's numpy, through the file and half precision."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    n, width = 24, 6
    args = argparse.Namespace(
        encoder="some-encoder",
        layers=[1, 3],
        text=[Path("more.txt")],
        out=tmp_path / "head.safetensors",
        lr=0.1,
        seed=0,
        whiten=0.25,
        label_components=7,
        hidden=16,
        label_hidden=12,
        width=width,
        dropout=0.5,
        label_dropout=0.5,
    )
    token = train_simulator.fit(
        rng.normal(size=(300, n)).astype(np.float32) * rng.uniform(0.1, 3, n), 10, args.whiten
    )
    # Some features lie far outside, where they are cut off.
    x, z = (rng.normal(size=shape).astype(np.float32) * 3 for shape in ((50, n), (90, 3 * n)))
    x[0], z[0] = 1000.0, -1000.0
    labels, label = train_simulator.project_labels(z, token, args, None)
    model = train_simulator.new_model(len(token.basis), len(label.basis), args).eval()
    train_simulator.save(
        args, train_simulator.exported(model.state_dict(), token, label), {"step": 5}, data
    )
    head = Head.load(args.out)
    assert (head.encoder, head.encoder_layers, head.width) == ("some-encoder", (1, 3), width)
    assert head.record["result"] == {"step": 5} and head.record["n_concepts"] == len(data.concepts)
    assert head.record["settings"]["layers"] == [1, 3] and "more.txt" in head.record["texts"]
    projected = torch.as_tensor(token(x)).float()
    with torch.inference_mode():
        expected = {
            "token": model.token(projected).numpy(),
            "label": model.label_vectors(labels.float()).numpy(),
        }
        simulated = torch.sigmoid(model(projected, labels.float())).numpy()
    monkeypatch.setattr(head_module, "label_features", lambda encoder, labels, suffix: z)
    vectors = {
        "token": head.token_vectors(x),
        "label": head.label_vectors(cast(Encoder, None), ["a"] * len(z)),
    }
    assert head.label_suffix == train_simulator.LABEL_SUFFIX
    for name, value in expected.items():
        assert vectors[name].dtype == np.float32
        np.testing.assert_allclose(vectors[name], value, atol=2e-2)
    np.testing.assert_allclose(
        head.simulate(vectors["token"], vectors["label"]), simulated, atol=2e-2
    )


def test_phrasing_table_repeats_each_concepts_own_phrasings() -> None:
    concepts = [
        Concept("word", str(i), [f"{i} {j}" for j in range(n)]) for i, n in enumerate((2, 5, 1))
    ]
    flat, table, numbers = train_simulator.phrasing_table(concepts)
    assert flat == ["0 0", "0 1", "1 0", "1 1", "1 2", "1 3", "1 4", "2 0"]
    assert table.tolist() == [[0, 1, 0, 1, 0], [2, 3, 4, 5, 6], [7, 7, 7, 7, 7]]
    assert numbers.tolist() == [2, 5, 1]


def test_memberships_of_a_batch_join_words_and_context(data: Supervision) -> None:
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(data.types), 200, replace=False))
    columns = rng.permutation(len(data.concepts))
    every = np.concatenate([data.membership[data.types], data.context], axis=1)
    np.testing.assert_array_equal(
        train_simulator.membership(data, rows, columns), every[np.ix_(rows, columns)]
    )


def test_features_are_standardised_without_their_extremes() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, size=(4000, 3)).astype(np.float32)
    features[0] = 1e6
    features[:, 2] = 1.0
    mean, scale = train_simulator.standard(features)
    np.testing.assert_allclose(mean, [3, 3, 1], atol=0.2)
    np.testing.assert_allclose(scale, [2, 2, 1e-4], atol=0.2)
    assert scale.min() > 0


def test_more_texts_are_read_by_paragraph(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One\ntwo  three.\n\n\n\nFour.\n")
    (tmp_path / "b.txt").write_text("Five.")
    assert train_simulator.extra_sentences([tmp_path / "a.txt", tmp_path / "b.txt"]) == [
        "One two three.",
        "Four.",
        "Five.",
    ]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The script sets the number of threads for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class FakeEncoder:
    """Of every token a few numbers that its letters and its encoder decide; counts the texts that
    it reads."""

    n_features = 16

    def __init__(self, name: str) -> None:
        self.name, self.n_read, self.tokenizer = name, 0, self

    def __call__(self, text: str, **_: bool) -> dict[str, list[tuple[int, int]]]:
        return {"offset_mapping": halves(text)}

    def encode(self, text: str, **_: bool) -> list[str]:
        return [text[start:end] for start, end in halves(text)]

    def states(self, texts: list[str], **_: int) -> Iterator[np.ndarray]:
        for text in texts:
            self.n_read += 1
            seeds = [zlib.crc32(f"{self.name} {token}".encode()) for token in self.encode(text)]
            yield np.stack(
                [np.random.default_rng(seed).normal(size=self.n_features) for seed in seeds]
            ).astype(np.float32)


def test_the_script_trains_writes_a_head_and_reads_each_text_once(
    tmp_path: Path,
    folder: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    encoders: dict[str, FakeEncoder] = {}

    def load(path: str, layers: list[int], device: str, adapter: object) -> FakeEncoder:
        encoders[path] = FakeEncoder(path)
        return encoders[path]

    def run(encoder: str, out: str) -> Path:
        paths = {
            "--wordnet": folder,
            "--text": tmp_path / "more.txt",
            "--work": tmp_path / "work",
            "--out": tmp_path / out,
        }
        files = [str(part) for pair in paths.items() for part in pair]
        small = (
            "--layers 1 --steps 120 --every 60 --lr 0.02 --batch-tokens 512 --batch-concepts 64 --hidden 16 --width 16 --dropout 0 "
            "--label-dropout 0 --components 16 --label-components 16 --average 0.9 --general 0.7"
        )
        monkeypatch.setattr(
            sys, "argv", ["train", *files, *small.split(), "--encoder", encoder, "--threads", "1"]
        )
        train_simulator.main()
        return tmp_path / out

    (tmp_path / "more.txt").write_text("\n\n".join(EXTRA))
    monkeypatch.setattr(train_simulator.Encoder, "load", load)
    monkeypatch.setattr(train_simulator, "resolve_model", lambda name: name)
    for module in (train_simulator, lexical_supervision):
        monkeypatch.setattr(module, "HELD_OUT", 0.5)  # there are few
    first = Head.load(run("one", "a.safetensors"))
    assert encoders["one"].n_read > 100
    records = [
        json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")
    ]
    assert [record["step"] for record in records] == [60, 120]
    # Words are told apart, context is not: the fake encoder reads none.
    seen = records[-1]["seen_concepts"]
    assert seen["auc"] > 0.65 and seen["by_kind"]["word"] > 0.3 and seen["by_kind"]["mark"] > 0.6
    assert first.record["result"] == max(
        records, key=lambda record: record["held_out_concepts"]["r"]
    )
    # Again: the same head, without reading a text. Another encoder's states are not taken for this
    # one's.
    again = Head.load(run("one", "b.safetensors"))
    assert encoders["one"].n_read == 0
    assert all((again.weights[name] == value).all() for name, value in first.weights.items())
    run("two", "c.safetensors")
    assert encoders["two"].n_read > 100
