"""Concepts that depend on the words before a token, such as `words after a title`.

They follow rules whose truth any text shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from lexical_words import CLOSED, FUNCTION_WORDS, IGNORE, Concept
from numpy.typing import NDArray

CONTEXT = (
    [
        "first words of a sentence",
        "the start of a sentence",
        "sentence beginnings",
        "the first word of a sentence",
    ],
    ["words inside quotation marks", "quoted speech", "dialogue", "words inside quotes"],
    ["words after the", "nouns after the word the", "the word after 'the'"],
    ["words after a", "the word after 'a' or 'an'"],
    ["words after to", "the word after 'to'"],
    ["words after of", "the word after 'of'"],
    ["words after and", "the word after 'and'"],
    ["words after a negation", "negated words", "words that are denied"],
    ["names", "proper names", "capitalized names", "names of people and places"],
    ["words after a comma", "the word after a comma"],
    ["words after he or she", "what he or she does", "the word after a pronoun"],
    ["words that occurred before", "repeated words", "words repeated in the text"],
    ["words inside brackets", "text in parentheses"],
    ["words after a preposition", "the word after a preposition"],
    ["words after is or was", "words that follow the verb be"],
    ["second words of a sentence", "the second word of a sentence"],
    ["the first three words of a sentence", "words near the start of a sentence"],
    ["words late in a long sentence", "words far from the start of the sentence"],
    [
        "the first word inside quotation marks",
        "how a quotation begins",
        "the start of quoted speech",
    ],
    ["words right after a quotation", "the word after closing quotation marks"],
    ["words after a verb of saying", "the word after said, asked or told"],
    ["words after a number", "what is counted", "things that are counted"],
    [
        "words after my, his or her",
        "what somebody has",
        "possessed things",
        "nouns after a possessive",
    ],
    ["words after very, so or too", "words that are intensified"],
    ["words after a modal verb", "the verb after can, will or should"],
    ["words after have or had", "the word after 'have'"],
    ["words in a clause with because", "reasons", "what follows because"],
    ["words in an if clause", "conditions", "what follows if"],
    ["words in a when clause", "what follows when or while"],
    ["words after but", "the word after 'but'", "what is contrasted"],
    ["words in a relative clause", "what follows who or which"],
    ["words after a hyphen", "second parts of compounds"],
    ["words after a colon or semicolon", "the word after a semicolon"],
    ["words after I", "what I do", "verbs after I"],
    ["words after they or we", "what they do"],
    ["passive verbs", "passive participles", "what is done to something"],
    ["progressive verbs", "what is going on", "is doing, was doing"],
    ["words after a name", "the word after a name", "what a named person does"],
    ["names that were mentioned before", "second mentions of a name"],
    ["capitalized first words", "capitalized words at the start of a sentence"],
    ["lower-case words inside quotation marks", "words in the middle of a quotation"],
    ["function words inside quotation marks", "small words in dialogue"],
    ["pronouns inside quotation marks", "pronouns in dialogue", "I and you in quoted speech"],
    ["pronouns outside quotation marks", "pronouns in narration"],
    ["pronouns at the start of a sentence", "sentences that begin with a pronoun"],
    ["question words at the start of a sentence", "sentences that begin with who, what or how"],
    ["commas inside quotation marks", "commas in dialogue"],
)
"""Phrasings of the rules, in the order of `_rules`. The families FOLLOWED and OBJECTS come next."""

FOLLOWED = (
    "in on at by for with from into about over after before between through under this that these those his her their its my your "
    "no not or as than all some any each many one two other more most very be been being have has had do does did will would can "
    "could may who which when"
).split()
"""`words after in`"""

OBJECTS = {
    "give": "gives gave given giving",
    "take": "takes took taken taking",
    "make": "makes made making",
    "see": "sees saw seen seeing",
    "use": "uses used using",
    "find": "finds found finding",
    "put": "puts putting",
    "keep": "keeps kept keeping",
    "have": "has had having",
    "hold": "holds held holding",
    "get": "gets got getting",
    "cause": "causes caused causing",
    "provide": "provides provided providing",
    "produce": "produces produced producing",
    "move": "moves moved moving",
    "show": "shows showed shown showing",
    "carry": "carries carried carrying",
    "cover": "covers covered covering",
    "bring": "brings brought bringing",
    "lose": "loses lost losing",
    "remove": "removes removed removing",
    "express": "expresses expressed expressing",
    "want": "wants wanted wanting",
    "eat": "eats ate eaten eating",
    "contain": "contains contained containing",
    "cut": "cuts cutting",
    "pay": "pays paid paying",
    "know": "knows knew known knowing",
    "write": "writes wrote written writing",
    "lead": "leads led leading",
}
"""`what somebody gives`: the words after the verb, up to a mark, preposition or another clause."""


def _members(title: str) -> list[str]:
    """Of the closed class with this first phrasing."""
    (found,) = [
        members.split() for phrasings, members in CLOSED.items() if phrasings.split(";")[0] == title
    ]
    return found


N_CONCEPTS = len(CONTEXT) + len(FOLLOWED) + len(OBJECTS)
PRONOUNS = frozenset("i you he she it we they me him her us them".split())
POSSESSIVES = frozenset(_members("possessive words"))
PREPOSITIONS = frozenset(_members("prepositions"))
MODALS = frozenset(_members("modal verbs"))
QUESTIONS = frozenset(_members("question words"))
NUMBERS = frozenset(_members("numbers"))
BE = frozenset("is was are were be been being".split())
SAID = frozenset(
    "said says say saying asked ask asks told tell tells answered replied whispered shouted cried".split()
)
CLAUSES = {"because": 26, "if": 27, "when": 28, "while": 28, "who": 30, "which": 30}
"""Opening words of clauses -> rule."""
FOLLOWED_AT = {word: len(CONTEXT) + i for i, word in enumerate(FOLLOWED)}
OBJECT_AT = {
    form: len(CONTEXT) + len(FOLLOWED) + i
    for i, (verb, forms) in enumerate(OBJECTS.items())
    for form in [verb, *forms.split()]
}


def context_concepts(
    texts: list[str], ends: list[list[int]]
) -> tuple[list[Concept], NDArray[np.uint8]]:
    """The concepts, and membership [token, concept].

    ends: the character at which each token of a text ends.
    """
    concepts = [
        Concept("context", phrasings[0], phrasings) for phrasings in (*CONTEXT, *_families())
    ]
    result = np.zeros((sum(map(len, ends)), len(concepts)), dtype=np.uint8)
    row = 0
    for text, own in zip(texts, ends, strict=True):
        words = _context_words(text)
        position = 0
        for end in own:
            while position < len(words) - 1 and words[position][1] < end:
                position += 1
            start, stop, true = words[position]
            if start < end <= stop:
                # Before a word has ended nobody can know that it belongs.
                result[row, true] = 1 if end == stop else IGNORE
            row += 1
    return concepts, result


def _families() -> list[list[str]]:
    after = [
        [f"words after {word}", f"the word after '{word}'", f"what follows the word {word}"]
        for word in FOLLOWED
    ]
    objects = [
        [
            f"objects of the verb {verb}",
            f"what somebody {forms.split()[0]}",
            f"things after {verb} or {forms.split()[0]}",
        ]
        for verb, forms in OBJECTS.items()
    ]
    return after + objects


@dataclass
class _State:
    """What has been read of a text."""

    quoted: bool = False
    bracketed: bool = False
    before: list[str] = field(default_factory=list)
    """Lower-case words and marks."""
    seen: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    last_is_name: bool = False
    n_in_sentence: int = 0
    clause: int | None = None
    """The rule of the clause that is open."""
    verb: int | None = None
    """The rule of the verb whose object is expected."""


def _context_words(text: str) -> list[tuple[int, int, list[int]]]:
    """(start, end, context concepts it belongs to) of every word and mark."""
    state = _State()
    result = []
    for match in re.finditer(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]", text):
        form = match.group()
        closing = form == '"' and state.quoted
        if form == '"':
            state.quoted = not state.quoted
        if form in "()":
            state.bracketed = form == "("
        true = [i for i, holds in enumerate(_rules(form, state)) if holds]
        result.append((match.start(), match.end(), true + _families_of(form, state)))
        _read(form, closing, state)
    return result or [(0, 0, [])]


def _rules(form: str, state: _State) -> tuple[bool, ...]:
    """Which rules of CONTEXT hold."""
    low, before = form.lower(), state.before
    last = before[-1] if before else "."
    word = form.isalpha()
    opened = ".!?,:" if state.quoted else ".!?"  # `"Come," she said`: no sentence begins with `she`
    first = last in ".!?" or (last in "\"'" and (before[-2] if len(before) > 1 else ".") in opened)
    denied = any(w in ("not", "no", "never", "without", "nothing", "t") for w in before[-4:])
    name = word and form[0].isupper() and not first and low != "i"
    pronoun = low in PRONOUNS
    clause = state.clause if word else None
    return (
        word and first,
        word and state.quoted,
        word and last == "the",
        word and last in ("a", "an"),
        word and last == "to",
        word and last == "of",
        word and last == "and",
        word and denied and low not in ("t", "not", "no"),
        name,
        word and last == ",",
        word and last in ("he", "she"),
        word and low in state.seen and low not in FUNCTION_WORDS,
        word and state.bracketed,
        word and last in PREPOSITIONS,
        word and last in ("is", "was", "are", "were"),
        word and state.n_in_sentence == 1,
        word and state.n_in_sentence < 3,
        word and state.n_in_sentence >= 15,
        word and last == '"' and state.quoted,
        word and last == '"' and not state.quoted,
        word and last in SAID,
        word and (last in NUMBERS or last.isdigit()),
        word and last in POSSESSIVES,
        word and last in ("very", "so", "too", "quite", "extremely"),
        word and last in MODALS,
        word and last in ("have", "has", "had"),
        clause == 26,
        clause == 27,
        clause == 28,
        word and last == "but",
        clause == 30,
        word and last == "-",
        word and last in (":", ";"),
        word and last == "i",
        word and last in ("they", "we"),
        word and last in BE and low.endswith(("ed", "en")),
        word and last in BE and low.endswith("ing"),
        word and state.last_is_name and not name,
        name and low in state.names,
        word and first and form[0].isupper(),
        word and state.quoted and form[0].islower(),
        state.quoted and low in FUNCTION_WORDS,
        pronoun and state.quoted,
        pronoun and not state.quoted,
        pronoun and first,
        low in QUESTIONS and first,
        form == "," and state.quoted,
    )


def _families_of(form: str, state: _State) -> list[int]:
    """Which of `words after ...` and `objects of ...` hold."""
    if not form.isalpha():
        return []
    found = (
        [FOLLOWED_AT[state.before[-1]]] if state.before and state.before[-1] in FOLLOWED_AT else []
    )
    if state.verb is not None and form.lower() not in FUNCTION_WORDS:
        found.append(state.verb)
    return found


def _read(form: str, closing: bool, state: _State) -> None:
    """Takes a word or mark into account for what comes after it."""
    low = form.lower()
    word = form.isalpha()
    first = not state.before or state.before[-1] in ".!?"
    state.last_is_name = word and form[0].isupper() and not first and low != "i"
    if state.last_is_name:
        state.names.add(low)
    ended = form[0] in ".!?;"
    state.n_in_sentence = 0 if form[0] in ".!?" else state.n_in_sentence + int(word)
    if ended or form == "," or closing:
        state.clause = state.verb = None
    elif low in CLAUSES:
        state.clause, state.verb = CLAUSES[low], None
    elif low in OBJECT_AT:
        state.verb = OBJECT_AT[low]
    elif _ends_object(low, state):
        state.verb = None
    state.before.append(low)
    state.seen.add(low)


ENDS_OBJECT: Callable[[str], bool] = (
    PREPOSITIONS | QUESTIONS | MODALS | BE | {"and", "or", "but", "that", "to"}
).__contains__


def _ends_object(low: str, state: _State) -> bool:
    return state.verb is not None and (not low.isalpha() or ENDS_OBJECT(low))
