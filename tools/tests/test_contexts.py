"""The rules of contextual supervision, on passages that are parsed by hand."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tune_labeler"))
from contexts import Rule, rules
from lexical_words import IGNORE
from supervision import HELD_OUT_KINDS, cut, is_held_out, member
from table import Table

# form/tag/relation/head (counted from the first word of the passage).
PASSAGES = (
    "\"/``/punct/5 Come/VB/ccomp/5 here/RB/advmod/1 ,/,/punct/5 \"/''/punct/5 said/VBD/ROOT/5 Tom/NNP/nsubj/5 ././punct/5 "
    "Tom/NNP/nsubj/12 Sawyer/NNP/nsubj/12 did/VBD/aux/12 not/RB/neg/12 come/VB/ROOT/12 to/IN/prep/12 the/DT/det/15 "
    "old/JJ/amod/16 house/NN/pobj/13 ././punct/12",
    "On/IN/prep/2 Monday/NNP/pobj/0 came/VBD/ROOT/2 two/CD/nummod/4 boys/NNS/nsubj/2 ,/,/punct/2 then/RB/advmod/7 "
    "three/CD/conj/4 ././punct/2 Who/WP/nsubj/10 saw/VBD/ROOT/10 her/PRP/dobj/10 ?/./punct/10",
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    path = tmp_path_factory.mktemp("parsed") / "parsed.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for passage in PASSAGES:
            text, words, sentence = "", [], 0
            for each in passage.split():
                form, tag, relation, head = each.rsplit("/", 3)
                glued = form in ".,?" or (text.endswith('"') and text.count('"') == 1)
                glued |= form == '"' and text.count('"') == 1
                text += "" if not text or glued else " "
                start = len(text)
                text += form
                words.append([start, len(text), form.lower(), tag, relation, int(head), sentence])
                sentence += form in ".?"
            line = {"book": "hand", "text": text, "senses": {}, "words": words}
            file.write(json.dumps(line) + "\n")
    return Table.load(path)


@pytest.fixture(scope="module")
def found(table: Table) -> dict[str, Rule]:
    animals = {"buildings": table.among("house"), "fear": table.among("old")}
    return {rule.phrasings[0]: rule for rule in rules(table, animals)}


def words(table: Table, rule: Rule) -> str:
    return " ".join(table.form[rule.rows].tolist())


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("the first word of a sentence", "Come Tom On Who"),
        ("words inside quotation marks", "Come here"),
        ("the first word inside quotation marks", "Come"),
        ("the word after closing quotation marks", "said"),
        ("verbs of saying after a quotation", "said"),
        ("who is speaking", "Tom"),
        ("words after a comma", "then"),
        ("the word after 'the'", "old"),
        ("the subject of a sentence, a noun", "Tom Tom Sawyer boys"),
        ("objects of a preposition", "house Monday"),
        ("'her' as an object", "her"),
        ("the second part of a name", "Sawyer"),
        ("nouns with a number before them", "boys"),
        ("words after a negation in the same sentence", "come to the old house"),
        ("negated verbs", "come"),
        ("words in a question", "Who saw her"),
        ("names that were mentioned before", "Tom"),
        ("words that were used before in the text", "Tom come"),
        ("verbs in the past tense", "said did came saw"),
        ("before a name", "said . Tom On"),
        ("before the word 'the'", "to"),
        ("before a word for buildings", "old"),
        ("sentences about fear", "Tom Sawyer did not come to the old house"),
        ("words after a mention of buildings in the same sentence", ""),
        ("a number larger than the last one", "three"),
        ("names at the start of a sentence", "Tom"),
    ],
)
def test_a_rule_finds_its_words(
    table: Table, found: dict[str, Rule], label: str, expected: str
) -> None:
    assert words(table, found[label]) == expected


def test_pieces_are_the_text_and_parts_of_words_know_what_can_be_known(
    table: Table, found: dict[str, Rule]
) -> None:
    for seed in range(20):
        pieces, ends, rows, whole = cut(table, np.random.default_rng(seed))
        assert ["".join(own) for own in pieces] == table.texts
        assert [own[-1] for own in ends] == [len(text) for text in table.texts]
        assert len(rows) == sum(map(len, pieces)) and whole.sum() == len(table)
        first = found["the first word of a sentence"]
        assert (member(first, rows, whole) == first.rows[rows]).all()
        past = found["verbs in the past tense"]
        truth = member(past, rows, whole)
        assert (truth[whole] == past.rows[rows[whole]]).all() and (truth[~whole] != 1).all()
        next_ = member(found["before a name"], rows, whole)
        assert not next_[~whole].any() and IGNORE not in next_


def test_what_is_held_out_depends_on_kind_and_label_alone(found: dict[str, Rule]) -> None:
    from lexical_words import Concept

    held = {}
    for rule in found.values():
        held[rule.phrasings[0]] = is_held_out(Concept(rule.kind, rule.phrasings[0], []))
        if rule.kind in HELD_OUT_KINDS:
            assert held[rule.phrasings[0]]
    assert held["the word after 'with'"] and held["the word 'but' inside quotation marks"]
    assert held["nouns in a question"]
    share = np.mean([held[name] for name, rule in found.items() if rule.kind == "grammar"])
    assert 0.05 < share < 0.4
