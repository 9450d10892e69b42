"""The controlled English of labels: what is read, what is refused, and where rules hold."""

from __future__ import annotations

import re

import numpy as np
import pytest

from interp_by_construction.corpus.stories import generate
from interp_by_construction.errors import LabelerError
from interp_by_construction.scoring.rule_truth import read_target, target_mask
from interp_by_construction.truth.categories import (
    category_names,
    comparisons,
    members,
    plural,
    verb_forms,
)
from interp_by_construction.truth.closed import CLASSES, parts
from interp_by_construction.truth.language import EXAMPLES, is_rule, nearest, parsed, read, truth_on
from interp_by_construction.truth.vocabulary import atoms, named_things

STORY = (
    'The old king, who had 3 dogs, said "Come here, my child!" Then he did not go. "Why?" asked '
    "Anna (the queen) of Anna. He couldn't run, but Anna ran."
)


def held(label: str, text: str = STORY) -> str:
    """The words and marks of a text that a label holds on."""
    tokens = re.findall(r"\s*(?:\w+(?:['’]\w+)?|[^\w\s])|\n", text)
    values = truth_on([tokens], [label])[:, 0]
    return " ".join(token.strip() for token, value in zip(tokens, values, strict=True) if value)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        # Single words.
        ("the word 'the'", "The the"),
        ("the word the", "The the"),
        ("“of”", "of"),
        ("the", "The the"),
        ("he or but", "he He but"),
        ("the words 'the' and 'he'", "The he the He"),
        ("the words the, he and my", "The my he the He"),
        ("the word after", ""),
        ("words 'king', 'queen'", "king queen"),
        ("the word 'couldn't'", "couldn't"),
        ("words after ','", "who said my but"),
        # A label whose last quotation mark was stripped.
        ("words after 'the", "old queen"),
        # Word classes.
        ("articles", "The the"),
        ("an article", "The the"),
        ("pronouns", "my he He"),
        ("possessive pronouns", "my"),
        ("third-person pronouns", "he He"),
        ("prepositions", "of"),
        ("conjunctions", "but"),
        ("modal verbs", "couldn't"),
        ("forms of have", "had"),
        ("forms of do", "did"),
        ("negations", "not couldn't"),
        ("question words", "who Why"),
        ("numbers", "3"),
        ("numbers in digits", "3"),
        ("commas", ", , , ,"),
        ("question marks and exclamation marks", "! ?"),
        ("opening parentheses", "("),
        ("names", "Anna Anna Anna"),
        # The lexicon.
        ("past-tense verbs", "had said did asked couldn't ran"),
        ("plural nouns", "dogs"),
        ("dogs", "dogs"),
        ("people", "king child"),
        ("kinds of dogs", "dogs"),
        ("words for dogs", "dogs"),
        ("words about dogs", "dogs"),
        ("dog words", "dogs"),
        ("verbs of speaking", "said asked"),
        ("verbs of motion", "Come go run ran"),
        # Letters.
        ("words ending in -an", "ran"),
        ("words that end with 'n'", "Then queen run ran"),
        ("words beginning with qu-", "queen"),
        ("words with the letter k", "king asked"),
        ("capitalized words", "The Come Then Why Anna Anna He Anna"),
        ("long words", ""),
        ("words of five letters", "child asked queen"),
        ("three-letter words", "The old who had did not Why the run but ran"),
        ("words of two letters or fewer", "my he go of He"),
        # Positions.
        ("the first word of a sentence", "The Then Why He"),
        ("second words of sentences", "old he asked couldn't"),
        ("the first two words of a sentence", "The old Then he Why asked He couldn't"),
        ("verbs in the first two words of a sentence", "asked couldn't"),
        ("words after the seventh word of a sentence", "said Come here my child"),
        ("the first word of the text", "The"),
        ("the first three words of the text", "The old king"),
        ("the last word of a sentence", "child go Anna ran"),
        ("the first word of a quotation", "Come Why"),
        ("words inside quotation marks", "Come here my child Why"),
        ("commas in direct speech", ","),
        ("pronouns outside quotation marks", "he He"),
        ("words in parentheses", "the queen"),
        ("pronouns at the start of a sentence", "He"),
        # Neighbours.
        ("the word after 'the'", "old queen"),
        ("the word after the", "old queen"),
        ("words after a comma", "who said my but"),
        ("words following a comma or a full stop", "who said my He but"),
        ("nouns after an article", "queen"),
        ("the second word after a comma", "had child Anna"),
        ("words after (names and nouns)", "ran"),
        ("the word after the first word of a sentence", "old he asked couldn't"),
        ("names anywhere after a negation in the sentence", "Anna"),
        ("nouns before a mark", None),
        ("nouns before punctuation", "king dogs child Anna queen Anna"),
        ("words between commas", "who had 3 dogs"),
        ("words between 'king' and 'said'", "who had 3 dogs"),
        # Repeats.
        ("words that occurred before in the text", "the Anna He Anna"),
        ("names that were mentioned before", "Anna Anna"),
        ("names that occur for the first time", "Anna"),
        # Logic.
        ("articles and forms of have", "The had the"),
        ("articles, forms of have or negations", "The had not the couldn't"),
        ("words that are verbs", "had said Come did go asked couldn't run ran"),
        ("verbs that are not past-tense verbs", "Come go run"),
        ("verbs except past-tense verbs", "Come go run"),
        ("verbs but not past-tense verbs", "Come go run"),
        ("verbs, but not past-tense verbs", "Come go run"),
        ("capitalized words that are names", "Anna Anna Anna"),
        ("not words", ', , " , ! " . " ? " ( ) . , .'),
        ("(articles and pronouns) in the first two words of a sentence", "The he He"),
        # Truth only.
        ("words in a question", "Why"),
        ("verbs in a sentence with a negation", "did go couldn't run ran"),
    ],
)
def test_a_label_holds_on_the_words_that_it_names(label: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(LabelerError, match=re.escape(label)):
            read(label)
    else:
        assert held(label) == expected


def test_the_word_that_came_next_the_last_time() -> None:
    label = "the word that followed the previous word's last occurrence"
    assert held(label, "A red hat. A red coat. A red coat and red hats.") == "red red coat"


@pytest.mark.parametrize(
    "label",
    [
        "",
        "and so on",
        "dragons of old",
        "words that rhyme",
        "words such as red and blue",
        "the phrase 'of the'",
        "names of people",
        "nouns and verbs after a comma",
        "words after a comma and names",
        "words after a comma or names after a colon",
        "capitalized nouns and verbs",
        "not nouns and verbs",
        "pronouns and names inside quotation marks",
        "the words a, b",
        "words after",
        "(nouns",
        "nouns)",
        "((((((((((nouns))))))))))",
        "not " * 30 + "nouns",
        "nouns " * 400,
        "words of zero letters",
        "words of 0 letters",
    ],
)
def test_what_is_unknown_or_ambiguous_is_not_read(label: str) -> None:
    if label == "the words a, b":
        assert read(label).name == "the words 'a' and 'b'"
        return
    with pytest.raises(LabelerError, match="in no form that rules can read"):
        read(label)


def test_a_refusal_names_the_label_and_the_nearest_forms() -> None:
    with pytest.raises(LabelerError, match=r"'words after a coma'.*`words after a comma`"):
        read("words after a coma")
    assert nearest("pronoun") and nearest("xyzzy qwrt") == []


def test_every_canonical_name_is_read_as_itself() -> None:
    simple = [rule.name for rule in atoms().values()]
    made = [f"words after {name}" for name in simple] + [f"{name} after a comma" for name in simple]
    wide = [f"({name} and 'x') except 'y'" for name in simple[::7]]
    deep = [
        "(nouns after (articles and pronouns)) in parentheses",
        "words between 'a' and 'b'",
        "nouns of three letters or more",
        "not (nouns that are long)",
        "(words ending in -ing and the words 'a', 'b' and 'c') that are not verbs",
        "names after the fourth word of the text",
        "the third word after (names and nouns)",
        "words in the first two words of a sentence",
        "(verbs that are capitalized) in capital letters",
    ]
    for label in [*simple, *EXAMPLES, *made, *wide, *deep]:
        name = parsed(label).name
        assert parsed(name).name == name
        assert label not in simple or name == label


def test_which_rules_look_ahead() -> None:
    ahead = {label for label in EXAMPLES if parsed(label).looks_ahead}
    assert ahead == {
        "nouns before a verb",
        "words between commas",
        "the last word of a sentence",
        "words in a question",
        "verbs in a sentence with a negation",
    }
    for label in ahead:
        for made in (f"words after ({label})", f"not ({label})", f"nouns and ({label})"):
            assert parsed(made).looks_ahead
        assert parsed(f"nouns except ({label})").looks_ahead


def test_a_text_that_begins_inside_a_sentence_says_so() -> None:
    assert held("the first word of a sentence", "of it. Then he went.\nand she too.") == "Then and"
    assert held("the second word of a sentence", "of it. Then he went.\nand she too.") == "he she"
    assert held("the first word of the text", "of it. Then he went.\nand she too.") == "and"


def test_form_and_position_agree_with_the_rules_of_the_stories() -> None:
    """Two readers of text that were written apart. Their lexicons differ, so the labels name closed
    classes, marks, letters and positions."""
    labels = (
        "the word 'said'; the word after 'the'; words after a comma; words after a negation; the first word of a sentence; "
        "the last word of a sentence; the first word of a text; words inside quotation marks; the first word of a quotation; "
        "punctuation; commas; quotation marks; modal verbs; forms of to be; forms of to have; adverbs of degree; "
        "first person pronouns; second person pronouns; male pronouns; female pronouns; plural pronouns; articles; "
        "indefinite articles; question words; negations; capitalized words; words ending in -ing; words beginning with un"
    ).split("; ")
    stories = [story.text for story in generate(["train", "score"] * 100, 0)]
    # An excerpt may begin inside a document, a document behind a line break.
    texts = [re.findall(r"\s*(?:\w+|[^\w\s])|\n", f"\n{story}\n") for story in stories]
    targets = [target for label in labels if (target := read_target(label)) is not None]
    assert len(targets) == len(labels)
    np.testing.assert_array_equal(truth_on(texts, labels) > 0, target_mask(texts, targets))


def test_titles_and_initials_end_no_sentence() -> None:
    text = "He saw Mr. Brown and J. Smith. Then it ended."
    assert held("the first word of a sentence", text) == "He Then"
    assert held("names", text) == "Brown J Smith"


def test_documents_know_nothing_of_each_other() -> None:
    text = 'He said "no\nwords and words (here\nwords.'
    assert held("words that occurred before in the text", text) == "words"
    assert held("words inside quotation marks", text) == "no"
    assert held("words in parentheses", text) == "here"
    assert held("words after 'no'", text) == ""


def test_a_paragraph_begins_anew_but_remembers_the_words_of_its_document() -> None:
    text = 'Tom met Anna. He said "no\n\nanna and Tom (met\n\nwords.\nTom met her.'
    assert held("words that occurred before in the text", text) == "anna Tom met"
    assert held("words inside quotation marks", text) == "no"
    assert held("words in parentheses", text) == "met"
    assert held("the first word of a sentence", text) == "Tom He anna words Tom"
    assert held("the first word of the text", text) == "Tom Tom"
    assert held("the first word of the text", "\n\nThen he went") == ""
    assert held("the first word of a sentence", "\n\nthen he went") == "then"


def test_a_contraction_belongs_to_the_classes_of_its_parts() -> None:
    assert parts("can't") == ("can't", "can", "not") and parts("dog's") == ("dog's", "dog")
    assert held("forms of be", "I’m here and they're not.") == "I’m they're"
    assert held("animals", "the dog's hat") == "dog's"


def test_forms_of_regular_words() -> None:
    assert [plural(noun) for noun in ("cat", "box", "city", "boy")] == [
        "cats",
        "boxes",
        "cities",
        "boys",
    ]
    assert verb_forms("hop") == ("hops", "hopped", "hopping")
    assert verb_forms("bake") == ("bakes", "baked", "baking")
    assert verb_forms("try") == ("tries", "tried", "trying")
    assert comparisons("big") == ("bigger", "biggest")
    assert comparisons("happy") == ("happier", "happiest")


def test_the_lexicon_holds_words_by_their_most_frequent_use() -> None:
    assert {"dog", "dogs", "mouse", "mice"} <= members("animals") and "bark" not in members("trees")
    assert {"walked", "ran", "went"} <= members("past-tense verbs") & members("verbs of motion")
    assert "bakes" in members("verbs") - members("nouns")
    function_words = CLASSES["prepositions"] | CLASSES["pronouns"]
    assert not function_words & members("nouns")
    assert len(category_names()) > 100 and named_things() <= set(atoms())
    with pytest.raises(KeyError):
        members("dragons")


@pytest.mark.parametrize(
    ("label", "same"),
    [
        ("the word 'the', but only after a preposition", "the word 'the' after a preposition"),
        ("verbs, but only inside quotation marks", "verbs inside quotation marks"),
        ("the word 'but', but only after a comma", "the word 'but' after a comma"),
        ("the word 'it' in the narration", "the word 'it' outside quotation marks"),
        ("the word 'it' in dialogue", "the word 'it' inside quotation marks"),
        ("names that were used before", "names that occurred before in the text"),
        ("words just after a comma", "words after a comma"),
    ],
)
def test_other_words_for_the_same_are_read_as_the_same(label: str, same: str) -> None:
    assert parsed(label).name == parsed(same).name


def test_but_only_has_to_narrow_something_down() -> None:
    assert not is_rule("the word 'to', but only")
    assert not is_rule("verbs, but only nouns")
