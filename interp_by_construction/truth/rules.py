"""The rules of `scoring.rule_truth`: one row per kind of label, with the predicate on a word or
mark that it stands for."""

from __future__ import annotations

from collections.abc import Callable
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


def _in(words: frozenset[str] | str) -> Callable[[str], Predicate]:
    members = frozenset(words.split()) if isinstance(words, str) else words
    return lambda _: lambda unit: unit.lower in members


def _is(predicate: Predicate) -> Callable[[str], Predicate]:
    return lambda _: predicate


def _concepts(*names: str, more: str = "") -> Callable[[str], Predicate]:
    return _in(frozenset(more.split()).union(*(LEXICON[name] for name in names)))


def _animals(text: str) -> Callable[[str], Predicate]:
    return _in(frozenset(form for word in text.split() for form in (word, plural(word))))


def _pair(first: str, second: str, words: str) -> Rule:
    """One, the other, or both."""
    both = f"{first} and {second}"
    return Rule(both, f"{first}|{second}|{both}", _in(words))


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
    Rule(
        "the word after a comma",
        r"(?:the )?words? (?:after|following) a comma|words after commas",
        _is(lambda u: u.is_word and u.mark_before == ","),
    ),
    Rule(
        "the word after a negation",
        r"(?:the )?words? (?:after|following) (?:a negation|negations)",
        _is(lambda u: u.is_word and u.before in g.NEGATIONS),
    ),
    Rule(
        "the word after a number",
        r"(?:the )?words? (?:after|following) (?:a number|numbers)",
        _is(lambda u: u.is_word and u.before in LEXICON["numbers"]),
    ),
    Rule(
        "the verb after a pronoun",
        r"(?:the )?verbs? (?:after|following) (?:a pronoun|pronouns)",
        _is(lambda u: u.lower in g.VERBS and u.before in g.SUBJECT_PRONOUNS),
    ),
    Rule(
        "words after a verb of speaking",
        r"(?:the )?words? (?:after|following) (?:a )?verbs? of speaking",
        _is(lambda u: u.is_word and u.before in LEXICON["speech"]),
    ),
    # Positions.
    Rule(
        "first word of a sentence",
        r"(?:the )?(?:first words?|starts?|beginnings?|words at the (?:start|beginning)) "
        r"of (?:a |the )?sentences?",
        _is(lambda u: u.opens_sentence),
    ),
    Rule(
        "last word of a sentence",
        r"(?:the )?last words? of (?:a |the )?sentences?",
        _is(lambda u: u.is_word and u.closes_sentence),
    ),
    Rule(
        "end of a sentence",
        r"(?:the )?ends? of (?:a |the )?sentences?",
        _is(lambda u: not u.is_word and u.closes_sentence),
    ),
    Rule(
        "first word of a text",
        r"(?:the )?(?:first words?|beginnings?|starts?) of (?:a |the )?(?:text|story|document)s?",
        _is(lambda u: u.opens_text),
    ),
    Rule(
        "words inside quotation marks",
        r"words? (?:inside|in|within) (?:quotation marks|quotes|quotations|direct speech)",
        _is(lambda u: u.is_word and u.in_quotation),
    ),
    Rule(
        "first word of a quotation",
        r"(?:the )?first words? of (?:a |the )?quotations?",
        _is(lambda u: u.opens_quotation),
    ),
    Rule(
        "words in a question",
        r"words? in (?:a question|questions)",
        _is(lambda u: u.is_word and u.in_question),
    ),
    # Punctuation.
    Rule("punctuation", r"punctuation(?: marks?)?", _is(lambda u: not u.is_word)),
    Rule(
        "{}",
        r"(?:the )?(full stop|period|comma|question mark|exclamation mark|exclamation point|quotation mark|quote)s?",
        lambda w: lambda u: u.text == _SPELLED[w],
    ),
    # Verbs.
    Rule(
        "verbs in the past tense",
        r"(?:the )?(?:verbs?|actions?|words?) (?:in|of) the past(?: tense)?|past[- ]tense(?: verbs?)?"
        r"|past tenses|in the past tense",
        _in(g.PAST),
    ),
    Rule(
        "verbs in the present tense",
        r"(?:verbs?|words?) in the present(?: tense)?|present[- ]tense(?: verbs?)?",
        _is(present),
    ),
    Rule("infinitives", r"infinitives?(?: after to)?", _is(infinitive)),
    Rule("modal verbs", r"modals?(?: verbs?)?", _in(g.MODALS)),
    Rule("forms of to be", r"(?:forms? of )?(?:the verb )?to be", _in(g.BE)),
    Rule("forms of to have", r"(?:forms? of )?(?:the verb )?to have", _in(g.HAVE)),
    Rule("verbs", r"verbs?|actions?|action (?:verbs|words)", _in(g.VERBS)),
    # Nouns, adjectives, adverbs.
    Rule("plural nouns", r"plurals?(?: nouns?| forms?)?", _in(g.PLURAL_NOUNS)),
    Rule("nouns", r"(?:common )?nouns?", _in(g.NOUNS)),
    Rule("adjectives", r"adjectives?", _in(g.ADJECTIVES)),
    Rule("comparatives", r"comparatives?(?: adjectives?)?", _in("better")),
    Rule("superlatives", r"superlatives?(?: adjectives?)?", _in("best")),
    Rule(
        "adverbs in -ly",
        r"adverbs? (?:ending|that ends?) (?:in|with) -?ly",
        _is(lambda u: u.lower in g.ADVERBS and u.lower.endswith("ly")),
    ),
    Rule("adverbs of degree", r"adverbs? of degree|degree adverbs?", _in("so very too")),
    Rule(
        "adverbs of time",
        r"adverbs? of time|time adverbs?",
        _in("again always ever never now once soon still then"),
    ),
    Rule("adverbs", r"adverbs?", _in(g.ADVERBS)),
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
    Rule(
        "first person pronouns",
        r"(?:first|1st)[- ]persons?(?: singular)? pronouns?",
        _in("i me my we us"),
    ),
    Rule("second person pronouns", r"(?:second|2nd)[- ]persons? pronouns?", _in("you your")),
    Rule("male pronouns", r"(?:male|masculine) pronouns?", _in("he him his")),
    Rule("female pronouns", r"(?:female|feminine) pronouns?", _in("she her")),
    Rule("plural pronouns", r"plural pronouns?", _in("they them their we us")),
    Rule(
        "possessive pronouns",
        r"possessives?(?: pronouns?| determiners?| adjectives?)?",
        _is(possessive),
    ),
    Rule("demonstratives", r"demonstratives?(?: pronouns?)?", _is(demonstrative)),
    Rule("pronouns", r"(?:personal )?pronouns?", _in(g.PERSONAL | g.POSSESSIVE)),
    Rule("articles", r"articles?", _in(g.ARTICLES)),
    Rule("indefinite articles", r"indefinite articles?", _in("a an")),
    Rule("definite article", r"(?:the )?definite articles?", _in("the")),
    Rule(
        "determiners",
        r"determiners?",
        _is(lambda u: u.lower in g.ARTICLES | _QUANTIFIERS or possessive(u) or demonstrative(u)),
    ),
    Rule(
        "prepositions of place",
        r"prepositions? of place|(?:locative|spatial) prepositions?",
        _is(of_place),
    ),
    Rule("prepositions of time", r"prepositions? of time|temporal prepositions?", _is(of_time)),
    Rule(
        "prepositions of direction",
        r"prepositions? of (?:direction|movement)|directional prepositions?",
        _is(of_direction),
    ),
    Rule("prepositions", r"prepositions?", _is(preposition)),
    Rule("conjunctions", r"conjunctions?", _in(g.CONJUNCTIONS)),
    Rule("words that contrast", r"words? that (?:contrasts?|shows? contrast)", _in("but")),
    Rule("words that give a reason", r"words? that gives? (?:a reason|reasons)", _in("because")),
    Rule(
        "question words", r"(?:question|interrogative) words?|interrogatives", _in(g.QUESTION_WORDS)
    ),
    Rule("negations", r"negations?|negative words?|words? of negation", _in(g.NEGATIONS)),
    Rule("interjections", r"(?:exclamations and )?interjections?", _in("oh yes goodbye")),
    Rule("function words", r"function words?", _in(g.FUNCTION_WORDS)),
    Rule("ordinal numbers", r"ordinals?(?: numbers?)?", _in("first")),
    Rule(
        "capitalized words",
        r"capitali[sz]ed words?|words? with (?:a capital letter|capital letters)",
        _is(lambda u: u.text[0].isupper()),
    ),
    # Groups of words that are more than one concept, a part of one, or none.
    Rule("emotions", r"emotions?|feelings?", _concepts("positive feelings", "negative feelings")),
    Rule("people", r"people|persons?|nouns (?:for|about) people|groups of people", _in(g.PEOPLE)),
    Rule("men", r"men|males?", _in(g.MALE_NAMES | g.MEN)),
    Rule("women", r"women|females?", _in(g.FEMALE_NAMES | g.WOMEN)),
    Rule("children", r"children|kids?|a child", _in("child children")),
    Rule("friends", r"friends?|friendship", _in("friend friends")),
    Rule("parents", r"parents?", _in("mother father mom dad")),
    Rule(
        "living things",
        r"living things|living beings",
        _in(g.PEOPLE | LEXICON["animals"] | LEXICON["nature"]),
    ),
    Rule("birds", r"birds?", _animals("duck bird hen owl parrot crow chick goose")),
    Rule("dogs", r"dogs?", _animals("dog puppy")),
    Rule("cats", r"cats?", _animals("cat kitten")),
    Rule("horses", r"horses?", _animals("horse pony")),
    Rule("trees", r"trees?", _in("tree oak")),
    Rule("flowers", r"flowers?", _in("flower daisy tulip")),
    Rule("containers", r"containers?", _in("cup bowl pot pan jar kettle mug basket bucket")),
    Rule("dishes and cutlery", r"dish(?:es)?", _in("cup plate bowl spoon fork mug")),
    Rule("shoes", r"shoes?|footwear", _in("boot")),
    Rule("hats", r"hats?|headwear", _in("hat cap")),
    Rule(
        "parts of the face", r"parts? of the face|facial (?:features|parts)", _in("nose ear chin")
    ),
    Rule("houses", r"houses?|homes?", _in("house home castle barn")),
    Rule("buildings", r"buildings?", _in("house school market library castle barn shop")),
    Rule("water", r"water|bodies of water", _in("water beach river lake pond harbor")),
    Rule("ships and boats", r"ships?|boats?|ships and boats|boats and ships", _in("boat ship")),
    Rule("aircraft", r"aircrafts?|(?:air)?planes?", _in("plane")),
    Rule("wet and dry", r"wet and dry|wetness", _in("wet")),
    Rule("temperature", r"temperatures?", _in("cold warm hot cool icy")),
    Rule("heat and fire", r"heat|heat and fire", _in("hot warm burned")),
    Rule("rain and storms", r"rain|rain and storms", _in("rainy stormy")),
    _pair("snow", "ice", "snowy icy"),
    Rule("time", r"time|times|words about time", _in(g.TIME_NOUNS)),
    Rule(
        "moving from place to place",
        r"moving from place to place",
        _concepts("movement", more="went came go come move"),
    ),
    _pair(
        "walking", "running", "walked ran marched raced hurried strolled tiptoed rushed wandered"
    ),
    Rule("jumping", r"jumping|jumps?", _in("jumped hopped skipped")),
    Rule("swimming", r"swimming", _in("swam")),
    Rule("flying", r"flying|flight", _in("flew")),
    Rule("falling", r"falling|falls", _in("fell")),
    _pair("sitting", "standing", "sat"),
    Rule("shouting", r"shouting|shouts?", _in("shouted yelled called")),
    Rule("asking", r"asking|questions", _in("asked")),
    Rule("answering", r"answering|answers|replies", _in("answered replied")),
    _pair("telling", "explaining", "explained announced said"),
    _pair("wanting", "wishing", "wanted wished hoped"),
    Rule("knowing", r"knowing|knowledge", _in("knew know believed")),
    Rule("remembering", r"remembering|memory", _in("remembered")),
    Rule("deciding", r"deciding|decisions", _in("decided")),
    Rule("dreams", r"dreams?|dreaming", _in("dreamed")),
    Rule("hearing", r"hearing", _in("heard hear")),
    Rule("smells", r"smells?|smelling", _in("smelled")),
    Rule("searching", r"searching|looking for something", _in("looked look find")),
    Rule("finding", r"finding", _in("found find spotted discovered")),
    _pair("pushing", "pulling", "pushed pulled tugged"),
    _pair("throwing", "catching", "threw caught tossed"),
    Rule("carrying", r"carrying", _in("carried held lifted brought")),
    Rule("touching", r"touching", _in("touched squeezed")),
    Rule("taking", r"taking", _in("took take grabbed")),
    Rule("sending", r"sending", _in("sent")),
    Rule("playing", r"playing|play", _in("played play")),
    Rule("waiting", r"waiting", _in("waited")),
    Rule("sailors", r"sailors?", _in("sailor")),
)
"""In order: the first pattern that matches a whole label decides."""
