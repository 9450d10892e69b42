"""The grammar of the stories: their word classes, and a text as a sequence of words and marks.

All words of the stories are known (`lexicon`, `templates`), so no language model is needed to tell
which rule of grammar, spelling or position a token follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from interp_by_construction.corpus.lexicon import BOYS, GIRLS, LEXICON, plural


def _set(words: str, concepts: str = "") -> frozenset[str]:
    """The words, and all words of the concepts."""
    named = concepts.split(", ") if concepts else []
    return frozenset(words.split()).union(*(LEXICON[concept] for concept in named))


BE = _set("am are is was were be")
HAVE = _set("had has have")
MODALS = _set("can could may must will would")
PAST = _set(
    "was were had did burned came fell felt followed got grew helped hit hurt kissed liked "
    "lived lost looked loved needed played put stopped took tried turned waited wanted went "
    "wore",
    concepts=(
        "movement, speech, laughing, crying, perception, thinking, hand actions, making, giving, "
        "eating, cooking, resting, animal sounds"
    ),
)
BASE = _set(
    "be come do eat find fix get go grow have hear help hurt know let look love make move need play see take thank try"
)
"""Forms that are infinitives behind `to` or a modal verb, and in the present tense elsewhere."""
PRESENT = BASE | _set("am are is has ends lives")
VERBS = PAST | PRESENT | MODALS | _set("gone grown named")

MALE_NAMES, FEMALE_NAMES = (frozenset(name.lower() for name in names) for names in (BOYS, GIRLS))
MEN = _set("father dad brother grandpa uncle grandfather king he him his")
WOMEN = _set("mother mom sister grandma aunt grandmother queen she her")
"""Beside the names."""
PEOPLE = _set("child children friend friends", concepts="names, family, jobs")
PLURAL_NOUNS = (
    frozenset(
        plural(word)
        for concept in ("animals", "fruit")
        for word in LEXICON[concept]
        if plural(word) in LEXICON[concept]
    )
    - _set("sheep deer")
) | _set("days friends seeds things words years")
NOUNS = PLURAL_NOUNS | _set(
    "air child day dinner door end family friend gift ground home house name place road seed "
    "tale thing time water way",
    concepts=(
        "animals, names, family, food, fruit, drinks, kitchen things, body parts, clothes, toys, "
        "vehicles, instruments, tools, furniture, places, nature, sky, time of day, days, "
        "seasons, jobs"
    ),
)
ADJECTIVES = _set(
    "alone best better fine first good kind last loud old other pretty quiet stuck",
    concepts="colors, positive feelings, negative feelings, tastes, weather, size, touch, shapes",
)
TIME_NOUNS = _set("day days time years", concepts="time of day, days, seasons")
ADVERBS = _set(
    "again always away ever even everywhere fast here never now once so soon still then there "
    "too very well",
    concepts="manner",
)
SUBJECT_PRONOUNS = _set("i you he she it they we")
PERSONAL = SUBJECT_PRONOUNS | _set("me him her them us")
POSSESSIVE = _set("my your his her its their")
ARTICLES = _set("a an the")
CONJUNCTIONS = _set("and but or because when while if until")
PREPOSITIONS = _set(
    "above after around at behind by for from in into like near of off on out over past through to under until with"
)
QUESTION_WORDS = _set("what who whose which where when how why")
NEGATIONS = _set("not no none never nothing nor")
FUNCTION_WORDS = (
    BE
    | HAVE
    | MODALS
    | PERSONAL
    | POSSESSIVE
    | ARTICLES
    | CONJUNCTIONS
    | PREPOSITIONS
    | QUESTION_WORDS
    | NEGATIONS
    | _set("as do did than that this there so all every some too very")
)

MARKS = frozenset(".,!?\"'")
ENDS = frozenset(".!?")
_UNIT = re.compile(r"[^\W\d_]+|[^\w\s]")


class Unit(NamedTuple):
    """A word or a punctuation mark, and what stands around it."""

    text: str
    start: int
    end: int
    before: str
    """The lower-case word directly before it in the same sentence; else empty."""
    after: str
    """The lower-case word directly after it in the same sentence; else empty."""
    noun: str
    """The first noun among the four next words and marks of the sentence; else empty."""
    mark_before: str
    """The mark directly before it; else empty."""
    opens_text: bool
    """First word of a document."""
    opens_sentence: bool
    closes_sentence: bool
    """Last word of a sentence, or the mark that ends it."""
    in_quotation: bool
    opens_quotation: bool
    """First word after an opening quotation mark."""
    in_question: bool

    @property
    def lower(self) -> str:
        """The text in lower case."""
        return self.text.lower()

    @property
    def is_word(self) -> bool:
        """False for a mark."""
        return self.text[0].isalpha()


def units(text: str) -> list[Unit]:
    """The words and marks of a text, in order; documents are separated by line breaks.

    A sentence ends with `.`, `!` or `?` (and a closing quotation mark), where a capital letter or
    nothing follows: `"Oh no!" said Tom.` is one sentence. An excerpt that begins inside a
    document opens a sentence if it begins with a capital letter.
    """
    found: list[Unit] = []
    start = 0
    for index, document in enumerate(text.split("\n")):
        found += _document(document, start, index > 0)
        start += len(document) + 1
    return found


def _document(text: str, offset: int, whole: bool) -> Iterator[Unit]:
    matches = list(_UNIT.finditer(text))
    raw = [match.group() for match in matches]
    is_word = [piece[0].isalpha() for piece in raw]
    quoted, opening = _quotations(text, [match.start() for match in matches], raw)
    sentences, ends = _sentences(raw, opening)
    last_word = {sentences[i]: i for i in range(len(raw)) if is_word[i]}
    first_word = {sentences[i]: i for i in reversed(range(len(raw))) if is_word[i]}
    questions = {sentences[i] for i in ends if raw[i] == "?"}

    def neighbour(i: int, j: int) -> str:
        fits = 0 <= j < len(raw) and is_word[j] and sentences[i] == sentences[j]
        return raw[j].lower() if fits else ""

    for i, match in enumerate(matches):
        following = [
            raw[j].lower()
            for j in range(i + 1, min(i + 5, len(raw)))
            if sentences[j] == sentences[i]
        ]
        first = first_word.get(sentences[i]) == i
        yield Unit(
            text=raw[i],
            start=offset + match.start(),
            end=offset + match.end(),
            before=neighbour(i, i - 1),
            after=neighbour(i, i + 1),
            noun=next((word for word in following if word in NOUNS), ""),
            mark_before=raw[i - 1] if i and not is_word[i - 1] else "",
            opens_text=first and sentences[i] == 0 and whole,
            opens_sentence=first and (sentences[i] > 0 or whole or raw[i][0].isupper()),
            closes_sentence=(
                last_word.get(sentences[i]) == i and any(sentences[j] == sentences[i] for j in ends)
            )
            or i in ends,
            in_quotation=quoted[i],
            opens_quotation=bool(i) and i - 1 in opening and is_word[i],
            in_question=sentences[i] in questions,
        )


def _quotations(
    text: str, starts: Sequence[int], raw: Sequence[str]
) -> tuple[list[bool], set[int]]:
    """Whether each piece is inside quotation marks, and which marks open a quotation.

    White space or nothing precedes a mark that opens a quotation.
    """
    marks = [i for i, piece in enumerate(raw) if piece == '"']
    opening = {i for i in marks if starts[i] == 0 or text[starts[i] - 1].isspace()}
    inside, quoted = bool(marks) and marks[0] not in opening, []
    for i, piece in enumerate(raw):
        if piece == '"':
            inside = i in opening
        quoted.append(inside and piece != '"')
    return quoted, opening


def _sentences(raw: Sequence[str], opening: set[int]) -> tuple[list[int], set[int]]:
    """Number of the sentence of each piece, and the marks that end a sentence."""
    number, numbers, ends = 0, [], set()
    i = 0
    while i < len(raw):
        numbers.append(number)
        if raw[i] in ENDS:
            if i + 1 < len(raw) and raw[i + 1] == '"' and i + 1 not in opening:
                numbers.append(number)
                ahead = i + 2
            else:
                ahead = i + 1
            following = next((piece for piece in raw[ahead:] if piece != '"'), "A")
            if following[0].isupper():
                ends.add(i)
                number += 1
            i = ahead
        else:
            i += 1
    return numbers, ends
