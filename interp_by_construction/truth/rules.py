"""The rules of `scoring.rule_truth`: one row per kind of label, with the predicate on a word or
mark that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from interp_by_construction.corpus import grammar as g
from interp_by_construction.corpus.grammar import Unit
from interp_by_construction.corpus.lexicon import LEXICON, plural
from interp_by_construction.truth.word_predicates import (
    demonstrative,
    infinitive,
    of_direction,
    of_place,
    of_time,
    possessive,
    preposition,
    present,
)

Predicate = Callable[[Unit], bool]


class Rule(NamedTuple):
    """One row of the table."""

    name: str
    """Canonical name; `{}` takes what the pattern captured."""
    pattern: str
    """Matches the whole label, in lower case and without quotation marks."""
    make: Callable[[str], Predicate]
    """Predicate from what the pattern captured (the empty string if nothing)."""


@dataclass(frozen=True)
class OneOf:
    """Whether a word or mark is one of these words. Most predicates are of this kind, and one look
    into a table answers all of them."""

    words: frozenset[str]

    def __call__(self, unit: Unit) -> bool:
        return unit.lower in self.words


def _in(words: str | frozenset[str]) -> Predicate:
    return OneOf(frozenset(words.split()) if isinstance(words, str) else words)


def _rule(name: str, pattern: str, about: str | frozenset[str] | Predicate) -> Rule:
    """A rule without a blank: about these words, or about all words for which a predicate holds."""
    holds = _in(about) if isinstance(about, str | frozenset) else about
    return Rule(name, pattern, lambda _: holds)


def _concepts(*names: str, more: str = "") -> frozenset[str]:
    return frozenset(more.split()).union(*(LEXICON[name] for name in names))


def _animals(text: str) -> frozenset[str]:
    return frozenset(form for word in text.split() for form in (word, plural(word)))


def _pair(first: str, second: str, words: str) -> Rule:
    """One, the other, or both."""
    both = f"{first} and {second}"
    return _rule(both, f"{first}|{second}|{both}", words)


_QUANTIFIERS = frozenset({"all", "every", "some", "no", "any"})

_SPELLED = {
    "full stop": ".",
    "period": ".",
    "comma": ",",
    "question mark": "?",
    "exclamation mark": "!",
    "exclamation point": "!",
    "quotation mark": '"',
    "quote": '"',
}

RULES: tuple[Rule, ...] = (
    # Single words and what follows them.
    Rule(
        "the word {}",
        r"the word ([a-z]+)|words? (?!(?:after|before|in|of|for|with|that|and)\b)([a-z]+)",
        lambda w: lambda u: u.lower == w,
    ),
    Rule(
        "the word after {}",
        r"(?:the )?words? (?:after|following) (?:the word )?(the|an?|of|and|to|in)",
        lambda w: lambda u: u.is_word and u.before == w,
    ),
    _rule(
        "the word after a comma",
        r"(?:the )?words? (?:after|following) a comma|words after commas",
        lambda u: u.is_word and u.mark_before == ",",
    ),
    _rule(
        "the word after a negation",
        r"(?:the )?words? (?:after|following) (?:a negation|negations)",
        lambda u: u.is_word and u.before in g.NEGATIONS,
    ),
    _rule(
        "the word after a number",
        r"(?:the )?words? (?:after|following) (?:a number|numbers)",
        lambda u: u.is_word and u.before in LEXICON["numbers"],
    ),
    _rule(
        "the verb after a pronoun",
        r"(?:the )?verbs? (?:after|following) (?:a pronoun|pronouns)",
        lambda u: u.lower in g.VERBS and u.before in g.SUBJECT_PRONOUNS,
    ),
    _rule(
        "words after a verb of speaking",
        r"(?:the )?words? (?:after|following) (?:a )?verbs? of speaking",
        lambda u: u.is_word and u.before in LEXICON["speech"],
    ),
    # Positions.
    _rule(
        "first word of a sentence",
        r"(?:the )?(?:first words?|starts?|beginnings?|words at the (?:start|beginning)) "
        r"of (?:a |the )?sentences?",
        lambda u: u.opens_sentence,
    ),
    _rule(
        "last word of a sentence",
        r"(?:the )?last words? of (?:a |the )?sentences?",
        lambda u: u.is_word and u.closes_sentence,
    ),
    _rule(
        "end of a sentence",
        r"(?:the )?ends? of (?:a |the )?sentences?",
        lambda u: not u.is_word and u.closes_sentence,
    ),
    _rule(
        "first word of a text",
        r"(?:the )?(?:first words?|beginnings?|starts?) of (?:a |the )?(?:text|story|document)s?",
        lambda u: u.opens_text,
    ),
    _rule(
        "words inside quotation marks",
        r"words? (?:inside|in|within) (?:quotation marks|quotes|quotations|direct speech)",
        lambda u: u.is_word and u.in_quotation,
    ),
    _rule(
        "first word of a quotation",
        r"(?:the )?first words? of (?:a |the )?quotations?",
        lambda u: u.opens_quotation,
    ),
    _rule(
        "words in a question",
        r"words? in (?:a question|questions)",
        lambda u: u.is_word and u.in_question,
    ),
    # Punctuation.
    _rule("punctuation", r"punctuation(?: marks?)?", lambda u: not u.is_word),
    Rule(
        "{}",
        r"(?:the )?(full stop|period|comma|question mark|exclamation mark|exclamation point|quotation mark|quote)s?",
        lambda w: lambda u: u.text == _SPELLED[w],
    ),
    # Verbs.
    _rule(
        "verbs in the past tense",
        r"(?:the )?(?:verbs?|actions?|words?) (?:in|of) the past(?: tense)?|past[- ]tense(?: verbs?)?"
        r"|past tenses|in the past tense",
        g.PAST,
    ),
    _rule(
        "verbs in the present tense",
        r"(?:verbs?|words?) in the present(?: tense)?|present[- ]tense(?: verbs?)?",
        present,
    ),
    _rule("infinitives", r"infinitives?(?: after to)?", infinitive),
    _rule("modal verbs", r"modals?(?: verbs?)?", g.MODALS),
    _rule("forms of to be", r"(?:forms? of )?(?:the verb )?to be", g.BE),
    _rule("forms of to have", r"(?:forms? of )?(?:the verb )?to have", g.HAVE),
    _rule("verbs", r"verbs?|actions?|action (?:verbs|words)", g.VERBS),
    # Nouns, adjectives, adverbs.
    _rule("plural nouns", r"plurals?(?: nouns?| forms?)?", g.PLURAL_NOUNS),
    _rule("nouns", r"(?:common )?nouns?", g.NOUNS),
    _rule("adjectives", r"adjectives?", g.ADJECTIVES),
    _rule("comparatives", r"comparatives?(?: adjectives?)?", "better"),
    _rule("superlatives", r"superlatives?(?: adjectives?)?", "best"),
    _rule(
        "adverbs in -ly",
        r"adverbs? (?:ending|that ends?) (?:in|with) -?ly",
        lambda u: u.lower in g.ADVERBS and u.lower.endswith("ly"),
    ),
    _rule("adverbs of degree", r"adverbs? of degree|degree adverbs?", "so very too"),
    _rule(
        "adverbs of time",
        r"adverbs? of time|time adverbs?",
        "again always ever never now once soon still then",
    ),
    _rule("adverbs", r"adverbs?", g.ADVERBS),
    Rule(
        "words ending in -{}",
        r"(?:words?|verbs?|nouns?|adjectives?) (?:ending|that ends?) (?:in|with) -?([a-z]{1,5})",
        lambda w: lambda u: u.is_word and u.lower.endswith(w) and len(u.text) > len(w),
    ),
    Rule(
        "words beginning with {}",
        r"words? (?:beginning|starting|that (?:begins?|starts?)) with -?([a-z]{1,5})-?",
        lambda w: lambda u: u.is_word and u.lower.startswith(w),
    ),
    # Closed classes.
    _rule(
        "first person pronouns",
        r"(?:first|1st)[- ]persons?(?: singular)? pronouns?",
        "i me my we us",
    ),
    _rule("second person pronouns", r"(?:second|2nd)[- ]persons? pronouns?", "you your"),
    _rule("male pronouns", r"(?:male|masculine) pronouns?", "he him his"),
    _rule("female pronouns", r"(?:female|feminine) pronouns?", "she her"),
    _rule("plural pronouns", r"plural pronouns?", "they them their we us"),
    _rule(
        "possessive pronouns", r"possessives?(?: pronouns?| determiners?| adjectives?)?", possessive
    ),
    _rule("demonstratives", r"demonstratives?(?: pronouns?)?", demonstrative),
    _rule("pronouns", r"(?:personal )?pronouns?", g.PERSONAL | g.POSSESSIVE),
    _rule("articles", r"articles?", g.ARTICLES),
    _rule("indefinite articles", r"indefinite articles?", "a an"),
    _rule("definite article", r"(?:the )?definite articles?", "the"),
    _rule(
        "determiners",
        r"determiners?",
        lambda u: u.lower in g.ARTICLES | _QUANTIFIERS or possessive(u) or demonstrative(u),
    ),
    _rule(
        "prepositions of place",
        r"prepositions? of place|(?:locative|spatial) prepositions?",
        of_place,
    ),
    _rule("prepositions of time", r"prepositions? of time|temporal prepositions?", of_time),
    _rule(
        "prepositions of direction",
        r"prepositions? of (?:direction|movement)|directional prepositions?",
        of_direction,
    ),
    _rule("prepositions", r"prepositions?", preposition),
    _rule("conjunctions", r"conjunctions?", g.CONJUNCTIONS),
    _rule("words that contrast", r"words? that (?:contrasts?|shows? contrast)", "but"),
    _rule("words that give a reason", r"words? that gives? (?:a reason|reasons)", "because"),
    _rule("question words", r"(?:question|interrogative) words?|interrogatives", g.QUESTION_WORDS),
    _rule("negations", r"negations?|negative words?|words? of negation", g.NEGATIONS),
    _rule("interjections", r"(?:exclamations and )?interjections?", "oh yes goodbye"),
    _rule("function words", r"function words?", g.FUNCTION_WORDS),
    _rule("ordinal numbers", r"ordinals?(?: numbers?)?", "first"),
    _rule(
        "capitalized words",
        r"capitali[sz]ed words?|words? with (?:a capital letter|capital letters)",
        lambda u: u.text[0].isupper(),
    ),
    # Groups of words that are more than one concept, a part of one, or none.
    _rule("emotions", r"emotions?|feelings?", _concepts("positive feelings", "negative feelings")),
    _rule("people", r"people|persons?|nouns (?:for|about) people|groups of people", g.PEOPLE),
    _rule("men", r"men|males?", g.MALE_NAMES | g.MEN),
    _rule("women", r"women|females?", g.FEMALE_NAMES | g.WOMEN),
    _rule("children", r"children|kids?|a child", "child children"),
    _rule("friends", r"friends?|friendship", "friend friends"),
    _rule("parents", r"parents?", "mother father mom dad"),
    _rule(
        "living things",
        r"living things|living beings",
        g.PEOPLE | LEXICON["animals"] | LEXICON["nature"],
    ),
    _rule("birds", r"birds?", _animals("duck bird hen owl parrot crow chick goose")),
    _rule("dogs", r"dogs?", _animals("dog puppy")),
    _rule("cats", r"cats?", _animals("cat kitten")),
    _rule("horses", r"horses?", _animals("horse pony")),
    _rule("trees", r"trees?", "tree oak"),
    _rule("flowers", r"flowers?", "flower daisy tulip"),
    _rule("containers", r"containers?", "cup bowl pot pan jar kettle mug basket bucket"),
    _rule("dishes and cutlery", r"dish(?:es)?", "cup plate bowl spoon fork mug"),
    _rule("shoes", r"shoes?|footwear", "boot"),
    _rule("hats", r"hats?|headwear", "hat cap"),
    _rule("parts of the face", r"parts? of the face|facial (?:features|parts)", "nose ear chin"),
    _rule("houses", r"houses?|homes?", "house home castle barn"),
    _rule("buildings", r"buildings?", "house school market library castle barn shop"),
    _rule("water", r"water|bodies of water", "water beach river lake pond harbor"),
    _rule("ships and boats", r"ships?|boats?|ships and boats|boats and ships", "boat ship"),
    _rule("aircraft", r"aircrafts?|(?:air)?planes?", "plane"),
    _rule("wet and dry", r"wet and dry|wetness", "wet"),
    _rule("temperature", r"temperatures?", "cold warm hot cool icy"),
    _rule("heat and fire", r"heat|heat and fire", "hot warm burned"),
    _rule("rain and storms", r"rain|rain and storms", "rainy stormy"),
    _pair("snow", "ice", "snowy icy"),
    _rule("time", r"time|times|words about time", g.TIME_NOUNS),
    _rule(
        "moving from place to place",
        r"moving from place to place",
        _concepts("movement", more="went came go come move"),
    ),
    _pair(
        "walking", "running", "walked ran marched raced hurried strolled tiptoed rushed wandered"
    ),
    _rule("jumping", r"jumping|jumps?", "jumped hopped skipped"),
    _rule("swimming", r"swimming", "swam"),
    _rule("flying", r"flying|flight", "flew"),
    _rule("falling", r"falling|falls", "fell"),
    _pair("sitting", "standing", "sat"),
    _rule("shouting", r"shouting|shouts?", "shouted yelled called"),
    _rule("asking", r"asking|questions", "asked"),
    _rule("answering", r"answering|answers|replies", "answered replied"),
    _pair("telling", "explaining", "explained announced said"),
    _pair("wanting", "wishing", "wanted wished hoped"),
    _rule("knowing", r"knowing|knowledge", "knew know believed"),
    _rule("remembering", r"remembering|memory", "remembered"),
    _rule("deciding", r"deciding|decisions", "decided"),
    _rule("dreams", r"dreams?|dreaming", "dreamed"),
    _rule("hearing", r"hearing", "heard hear"),
    _rule("smells", r"smells?|smelling", "smelled"),
    _rule("searching", r"searching|looking for something", "looked look find"),
    _rule("finding", r"finding", "found find spotted discovered"),
    _pair("pushing", "pulling", "pushed pulled tugged"),
    _pair("throwing", "catching", "threw caught tossed"),
    _rule("carrying", r"carrying", "carried held lifted brought"),
    _rule("touching", r"touching", "touched squeezed"),
    _rule("taking", r"taking", "took take grabbed"),
    _rule("sending", r"sending", "sent"),
    _rule("playing", r"playing|play", "played play"),
    _rule("waiting", r"waiting", "waited"),
    _rule("sailors", r"sailors?", "sailor"),
)
"""In order: the first pattern that matches a whole label decides."""
