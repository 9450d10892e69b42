"""Ground truth beyond the lexicon: every rule on hand-made stories, read from the label's text
alone."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

from interp_by_construction.corpus import grammar
from interp_by_construction.corpus.grammar import units
from interp_by_construction.corpus.lexicon import LEXICON, words_of
from interp_by_construction.corpus.stories import generate
from interp_by_construction.labelling.general import general_labels
from interp_by_construction.scoring.rule_truth import (
    candidates,
    concept_target,
    read_target,
    target_mask,
)
from interp_by_construction.scoring.truth import CONCEPTS, membership, nearest_concept
from interp_by_construction.truth.rules import RULES
from interp_by_construction.truth.word_predicates import possessive

STORY = (
    'One sunny morning, Tom walked to the park. "Do not be sad, my friend!" said Mia to Tom. It was a very big, red ball.\n'
    'She gave her milk to her dog, but it did not want to eat. "Is this your hat?" asked the king slowly. Oh, they had two foxes'
    " because he can run."
)

EXPECTED = {
    "the word 'to'": "to to to to",
    "the word into": "",
    "to": "to to to to",
    "the word after 'the'": "park king",
    "the word after 'a'": "very",
    "words after a comma": "Tom my red but they",
    "the word after a negation": "be want",
    "words after a number": "foxes",
    "the verb after a pronoun": "was gave did had can",
    "words after a verb of speaking": "Mia the",
    "the first word of a sentence": "One Do It She Is Oh",
    "last words of sentences": "park Tom ball eat slowly run",
    "ends of sentences": ". . . . . .",
    "the first word of the text": "She",
    "words inside quotation marks": "Do not be sad my friend Is this your hat",
    "the first word of a quotation": "Do Is",
    "words in a question": "",
    "punctuation": ', . " , ! " . , . , . " ? " . , .',
    "commas": ", , , , ,",
    "full stops": ". . . . . .",
    "question marks": "?",
    "the quotation mark": '" " " "',
    "exclamation marks": "!",
    "verbs in the past tense": "walked said was gave did asked had",
    "past tenses": "walked said was gave did asked had",
    "verbs in the present tense": "Do Is",
    "infinitives after 'to'": "eat",
    "modal verbs": "can",
    "forms of the verb 'to be'": "be was Is",
    "forms of the verb 'to have'": "had",
    "adverbs ending in -ly": "slowly",
    "adverbs of degree": "very",
    "adverbs": "very slowly",
    "adjectives": "sunny sad big red",
    "plural nouns": "foxes",
    "nouns": "morning Tom park friend Mia Tom ball milk dog hat king foxes",
    "words ending in -y": "sunny my very slowly they",
    "words starting with s": "sunny sad said She slowly",
    "first person pronouns": "my",
    "second person pronouns": "your",
    "male pronouns": "he",
    "female pronouns": "She her her",
    "plural pronouns": "they",
    "possessive pronouns": "my her your",
    "demonstratives": "this",
    "pronouns": "my It She her her it your they he",
    "articles": "the a the",
    "indefinite articles": "a",
    "definite article": "the the",
    "determiners": "the my a her this your the",
    "prepositions": "to to to",
    "prepositions of place": "",
    "prepositions of direction": "to to to",
    "conjunctions": "but because",
    "words that contrast": "but",
    "words that give a reason": "because",
    "question words": "",
    "negations": "not not",
    "interjections": "Oh",
    "capitalized words": "One Tom Do Mia Tom It She Is Oh",
    "emotions": "sad",
    "people": "Tom friend Mia Tom king",
    "men": "Tom Tom king he",
    "women": "Mia She her her",
    "friends": "friend",
    "time": "morning",
    "walking and running": "walked",
    "ends of the sentence and commas": ", . , . , . , . . , .",
    "food, drinks": "milk",
}
"""Label -> the words and marks of `STORY` that it is about, in order."""


@pytest.mark.parametrize("label", EXPECTED)
def test_a_rule_holds_on_the_words_that_it_names(label: str) -> None:
    target = read_target(label)
    assert target is not None and nearest_concept(label) is None
    assert [unit.text for unit in units(STORY) if target.holds(unit)] == EXPECTED[label].split()


def test_time_and_place_differ_by_the_noun_behind() -> None:
    found = units(
        "He sat in the big barn in the morning, near a pond, until Monday. On Friday he went out of it."
    )
    for label, expected in (
        ("prepositions of place", "in near"),
        ("prepositions of time", "in until On"),
    ):
        target = read_target(label)
        assert target is not None
        assert [unit.text for unit in found if target.holds(unit)] == expected.split()


def test_a_quotation_ends_a_sentence_only_before_a_capital() -> None:
    text = '"Oh no!" said Tom. "Look!" Mia ran. The baker said, "Come with me!"'
    assert [unit.text for unit in units(text) if unit.opens_sentence] == [
        "Oh",
        "Look",
        "Mia",
        "The",
    ]
    assert [unit.text for unit in units(text) if unit.closes_sentence and not unit.is_word] == [
        ".",
        "!",
        ".",
        "!",
    ]
    inside = units('ran away." It was he. "Go" he said')
    assert [unit.text for unit in inside if unit.in_quotation and unit.is_word] == [
        "ran",
        "away",
        "Go",
    ]


def test_every_rule_is_reached_by_a_label_of_no_concept() -> None:
    """A row behind a more general one, or behind the lexicon, would be dead."""
    labels = [*EXPECTED, *general_labels(), *(_example(rule.pattern) for rule in RULES)]
    reached = {
        target.name
        for label in labels
        if nearest_concept(label) is None and (target := read_target(label))
    }
    missing = [rule.name for rule in RULES if "{}" not in rule.name and rule.name not in reached]
    assert not missing


def _example(pattern: str) -> str:
    """The simplest text that the first alternative matches."""
    depth, first = 0, ""
    for character in pattern:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            break
        first += character
    while (shorter := re.sub(r"\((?:\?:)?([^()|]*)(?:\|[^()]*)?\)\??", r"\1", first)) != first:
        first = shorter
    return re.sub(r"(\w)\?", r"\1", re.sub(r"\[([^\]])[^\]]*\]\??", r"\1", first)).strip()


@pytest.mark.parametrize(
    "label",
    [
        "rare words",
        "the subject of a sentence",
        "adjectives in first person singular",
        "a prepositional phrase",
        "old",
        "",
        "!",
    ],
)
def test_a_label_without_one_clear_meaning_has_none(label: str) -> None:
    assert read_target(label) is None


def test_labels_are_read_from_text_alone() -> None:
    assert list(inspect.signature(read_target).parameters) == ["label"]


def test_masks_agree_with_the_lexicon_and_mark_every_piece_of_a_word() -> None:
    excerpts = [[" The", " cat", " s", "aw", " a", " red"], [" fox", ".", "\n", " He", " ran"]]
    concepts = [concept_target(concept) for concept in CONCEPTS]
    np.testing.assert_array_equal(target_mask(excerpts, concepts), membership(excerpts))
    past = read_target("past tense")
    assert past is not None
    assert np.flatnonzero(target_mask(excerpts, [past])[:, 0]).tolist() == [2, 3, 10]


def test_candidates_are_distinct_and_begin_with_the_given() -> None:
    given = [target for label in ("the word 'to'", "nouns") if (target := read_target(label))]
    names = [target.name for target in candidates(given)]
    assert names[:2] == ["the word to", "nouns"] and len(names) == len(set(names)) > len(CONCEPTS)


def test_the_grammar_knows_nearly_every_word_of_the_stories() -> None:
    classes = (
        grammar.NOUNS,
        grammar.VERBS,
        grammar.ADJECTIVES,
        grammar.ADVERBS,
        grammar.FUNCTION_WORDS,
        *LEXICON.values(),
    )
    known = frozenset().union(*classes)
    words = [word for story in generate(["score"] * 200, seed=1) for word in words_of(story.text)]
    unknown = {word for word in words if word not in known}
    assert unknown <= set(
        "one something down more next oh yes right upon goodbye any up want other".split()
    )
    assert sum(word in unknown for word in words) < 0.02 * len(words)


def test_possessive_her_is_told_from_the_object() -> None:
    """Against the templates: what stands in {his} is possessive, what stands in {him} is not."""
    from interp_by_construction.corpus.templates import BEATS

    slots = dict.fromkeys("his him".split(), "her") | {"he": "she", "He": "She", "His": "Her"}
    right = total = 0
    for template in (template for beat in BEATS.values() for template in beat):
        kinds = list(re.findall(r"\{(his|him|His)\}", template))
        filled = re.sub(r"\{any_give\}", "gave", template)
        filled = re.sub(r"\{(\w+)\}", lambda match: slots.get(match[1]) or _word(match[1]), filled)
        found = [possessive(unit) for unit in units(filled) if unit.lower == "her"]
        total += len(kinds)
        right += sum(is_own == (kind != "him") for is_own, kind in zip(found, kinds, strict=True))
    assert right == total > 50


def _word(slot: str) -> str:
    from interp_by_construction.corpus.templates import SLOTS

    plural = {"animals": "cats", "fruits": "apples", "sound": "barked"}
    return plural.get(slot) or sorted(LEXICON[SLOTS[slot.removeprefix("any_")]])[0]
