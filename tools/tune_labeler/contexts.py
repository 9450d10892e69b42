"""Kinds of labels whose truth depends on context, by rules over parsed text.

A rule gives phrasings of one concept and the rows of a `Table` that belong to it. Truth may rest on
the parse of a whole sentence; a model that reads from left to right learns what it can of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from table import Mask, Table

ARTICLES = "a an the"
PRONOUNS = "i you he she it we they me him her us them"
POSSESSIVES = "my your his her its our their"
PREPOSITIONS = "in on at by for with from to of about over under between through into onto across behind beyond against during without within near after before above below around among along toward towards upon off"
CONJUNCTIONS = "and or but nor yet so"
BE = "is are was were be been being am 's 're 'm"
HAVE = "have has had having 've"
MODALS = "can could may might must shall should will would 'll 'd cannot"
NEGATIONS = "not no never none nothing nobody nowhere neither nor n't without hardly scarcely"
QUESTIONS = "who what where when why how which whose whom"
SAYING = "said say says asked cried answered replied whispered shouted exclaimed remarked observed returned added continued called told inquired muttered murmured repeated began"
NUMBERS = "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand dozen"
TITLES = "mr. mrs. miss dr. sir lady captain colonel lord mr mrs dr mary aunt uncle master"
OBJECTS = "have take see give make find put hear leave tell know want like keep shake open turn bring say hold lose love send ask do get draw follow meet write"
SOFTENERS = "perhaps probably possibly maybe surely certainly apparently evidently seemed seems seem supposed suppose think thought believe believed"


@dataclass(frozen=True)
class Rule:
    """One concept."""

    kind: str
    phrasings: list[str]
    """The first one is how it is tested."""
    rows: Mask
    at_once: bool = False
    """Whether the first part of a word shows it; else only its last part does."""


def rules(t: Table, categories: dict[str, Mask]) -> Iterator[Rule]:
    """Every rule. categories: words of some meanings by their plural name, such as `animals`."""
    for family in FAMILIES:
        yield from family(t, categories)


def position(t: Table, _: dict[str, Mask]) -> Iterator[Rule]:
    """Where a word stands."""

    def at(phrasings: str, rows: Mask) -> Rule:
        return Rule("position", phrasings.split("; "), rows, at_once=True)

    w, place = t.word, t.place
    yield at(
        "the first word of a sentence; sentence beginnings; words that open a sentence; first words of sentences",
        w & (place == 1),
    )
    yield at(
        "the second word of a sentence; second words of sentences; words right after the first word of a sentence",
        w & (place == 2),
    )
    yield at("the third word of a sentence; third words of sentences", w & (place == 3))
    yield at(
        "one of the first three words of a sentence; words near the start of a sentence; the beginnings of sentences",
        w & (place <= 3),
    )
    yield at(
        "words late in a long sentence; words far from the start of their sentence; words after the fifteenth word of a sentence",
        w & (place > 15),
    )
    yield at(
        "words after the twenty-fifth word of a sentence; the far end of very long sentences",
        w & (place > 25),
    )
    yield at(
        "words after a comma; the word that follows a comma; what comes right after a comma",
        w & t.behind(t.form == ","),
    )
    yield at(
        "words after a semicolon or colon; the word that follows a semicolon; the first word after a semicolon",
        w & t.behind(t.among("; :")),
    )
    yield at("words after a dash; the word that follows a dash", w & t.behind(t.among("- -- --")))
    yield at(
        "words inside quotation marks; quoted speech; words that somebody says aloud; dialogue",
        w & t.quoted,
    )
    yield at("words outside quotation marks; narration; what the narrator says", w & ~t.quoted)
    yield at(
        "the first word inside quotation marks; how a quotation begins; the first word of a speech",
        w & t.behind(t.opens_quote),
    )
    yield at(
        "the second word inside quotation marks; second words of a quotation",
        w & t.behind(t.opens_quote, 2),
    )
    yield at(
        "the word after closing quotation marks; words right after a quotation; what follows a speech",
        w & t.behind(t.closes_quote),
    )
    yield at("words in parentheses; words inside brackets; bracketed words", w & t.bracketed)
    listed = t.related("conj")
    third = listed & t.headed(listed & t.headed(~listed))
    yield at("the third item of a list; third things in an enumeration", w & third)
    yield at(
        "what 'and' or 'or' joins to an earlier word; words joined by and or or to a word before",
        w & listed & t.headed(~listed),
    )
    yield at(
        "a word between two commas; single words set off by commas",
        w & t.behind(t.form == ",") & t.before(t.form == ","),
    )
    yield at(
        "words two places after a comma; the second word after a comma",
        w & t.behind(t.form == ",", 2) & t.behind(w),
    )
    first_half = w & (place <= 8)
    yield at("the first eight words of a sentence; early words of a sentence", first_half)
    begins = np.searchsorted(t.passage, t.passage)
    yield at(
        "the beginning of the text; the first ten words of the text",
        w & (np.arange(len(t)) - begins < 10),
    )


def neighbour(t: Table, _: dict[str, Mask]) -> Iterator[Rule]:
    """Words behind a certain word."""
    for words, more in (
        ("the", "nouns after 'the'"), ("a an", "nouns after 'a' or 'an'"), ("of", ""), ("and", ""), ("to", ""), ("in", ""), ("with", ""),
        ("for", ""), ("at", ""), ("on", ""), ("from", ""), ("by", ""), ("his", "what he has"), ("her", "what she has"), ("my", "what I have"),
        ("your", "what you have"), ("their", ""), ("its", ""), ("this", ""), ("that", ""), ("these those", ""), ("he", "what he does"),
        ("she", "what she does"), ("i", "what I do"), ("you", "what you do"), ("they", "what they do"), ("we", "what we do"), ("it", ""),
        ("was", ""), ("is", ""), ("had", ""), ("have", ""), ("be", ""), ("been", ""), ("not n't", "what is denied"), ("no", ""), ("so", ""),
        ("very", "words that 'very' makes stronger"), ("as", ""), ("but", "what is contrasted"), ("or", ""), ("if", ""), ("when", ""),
        ("who", "what somebody does, behind 'who'"), ("which", ""), ("what", ""), ("all", ""), ("some any", ""), ("one", ""), ("there", ""),
        ("said", ""), ("would could should", ""), ("will shall", ""), ("can may", ""), ("must", ""), ("did do does", ""), ("into", ""),
        ("upon", ""), ("like", ""), ("than", ""), ("then", ""), ("up", ""), ("out", ""), ("little", ""), ("great", ""), ("old", ""),
        ("mr. mrs.", "surnames after a title"), ("two three four five six", "what is counted"),
    ):  # fmt: skip
        every = words.split()
        shown = " or ".join(f"'{word}'" for word in every)
        phrasings = [
            f"the word after {shown}",
            f"words after {' or '.join(every)}",
            f"what comes right after the word {shown}",
        ]
        rows = t.word & t.behind(t.among(every))
        yield Rule("neighbour", [*phrasings, *([more] if more else [])], rows, at_once=True)
    for words in ("the", "of", "and", "to", "a", "was", "he", "she", "in", "with"):
        rows = t.word & t.behind(t.among(words), 2) & t.behind(t.word)
        yield Rule(
            "neighbour",
            [f"the second word after '{words}'", f"words two places behind '{words}'"],
            rows,
            at_once=True,
        )
    for name, rows in (
        ("a preposition", t.tagged("IN") & t.among(PREPOSITIONS)), ("an adjective", t.tagged("JJ")), ("a noun", t.tagged("NN", "NNS")),
        ("a verb", t.tagged("VB", "VBD", "VBZ", "VBP")), ("a pronoun", t.among(PRONOUNS)), ("a name", t.name),
        ("a possessive", t.among(POSSESSIVES) | (t.form == "'s")), ("a conjunction", t.among(CONJUNCTIONS)),
        ("a modal verb", t.tagged("MD")), ("an adverb", t.tagged("RB")), ("a verb of saying", t.among(SAYING)),
        ("a number", t.tagged("CD")), ("a question word", t.among(QUESTIONS)),
    ):  # fmt: skip
        yield Rule(
            "neighbour",
            [f"the word after {name}", f"words that follow {name}", f"what comes behind {name}"],
            t.word & t.behind(rows),
            at_once=True,
        )


def grammar(t: Table, _: dict[str, Mask]) -> Iterator[Rule]:
    """What a word does in its sentence."""
    noun, verb = (
        t.tagged("NN", "NNS", "NNP", "NNPS"),
        t.tagged("VB", "VBD", "VBZ", "VBP", "VBN", "VBG"),
    )

    def of(phrasings: str, rows: Mask) -> Rule:
        return Rule("grammar", phrasings.split("; "), rows & t.word)

    yield of(
        "the subject of a sentence, a noun; nouns that do something; who or what acts; subjects that are nouns",
        noun & t.related("nsubj"),
    )
    yield of(
        "objects of a verb; what somebody does something to; direct objects; the thing that is acted on",
        noun & t.related("dobj"),
    )
    yield of(
        "objects of a preposition; the noun that a preposition leads to; nouns in a prepositional phrase",
        noun & t.related("pobj"),
    )
    yield of(
        "the noun after 'of'; whose or of what; the noun in an of-phrase",
        noun & t.related("pobj") & t.headed(t.low == "of"),
    )
    yield of(
        "subjects of a passive verb; what something is done to; what was done something to",
        t.related("nsubjpass"),
    )
    yield of(
        "names that act; a name as the subject of its sentence; what a person named does begins with",
        t.name & t.related("nsubj"),
    )
    yield of("possessors; whose thing it is; the owner before 's", noun & t.related("poss"))
    yield of(
        "adjectives before a noun; words that describe the next noun; attributes in front of a noun",
        t.tagged("JJ") & t.related("amod") & t.before(noun),
    )
    yield of(
        "adjectives after 'was' or 'is'; what somebody or something is like; predicate adjectives",
        t.tagged("JJ") & t.related("acomp"),
    )
    yield of(
        "what somebody is or becomes; nouns after 'was' that say what it is; predicate nouns",
        noun & t.related("attr"),
    )
    yield of(
        "the verb behind 'to'; infinitives after 'to'; to do something",
        t.tagged("VB") & t.behind(t.tagged("TO")),
    )
    yield of("the 'to' before a verb; 'to' as part of an infinitive", t.tagged("TO"))
    yield of(
        "the 'to' of direction; 'to' before a noun or person; 'to' that is no part of a verb",
        (t.low == "to") & t.tagged("IN"),
    )
    yield of(
        "'that' that opens a clause; 'that' as a conjunction; 'that' after saying or knowing",
        (t.low == "that") & t.related("mark"),
    )
    yield of(
        "'that' which points at something; 'that' before a noun; 'that' as a demonstrative",
        (t.low == "that") & (t.related("det") | t.tagged("DT")),
    )
    yield of(
        "'that' which stands for a noun; 'that' as a relative pronoun; who, which and that after a noun",
        t.among("that which who whom") & t.tagged("WDT", "WP") & t.headed(t.related("relcl")),
    )
    yield of(
        "'her' before a noun; 'her' that says whose; her as a possessive",
        (t.low == "her") & t.tagged("PRP$"),
    )
    yield of(
        "'her' as an object; 'her' that stands for a person; her after a verb or preposition",
        (t.low == "her") & t.tagged("PRP"),
    )
    yield of(
        "helping verbs; auxiliaries before another verb; verbs that help a main verb",
        t.related("aux", "auxpass") & ~t.tagged("TO"),
    )
    yield of(
        "forms of 'be' as the main verb; 'was' that says what something is; be without another verb",
        t.among(BE) & t.related("ROOT", "ccomp", "advcl", "conj", "relcl"),
    )
    yield of(
        "'had' and 'have' before a participle; have as a helping verb; the had of 'had gone'",
        t.among(HAVE) & t.related("aux"),
    )
    yield of(
        "'had' and 'have' as main verbs; owning something, said with have; have that is no helping verb",
        t.among(HAVE) & ~t.related("aux"),
    )
    yield of(
        "main verbs of a sentence; the verb that the sentence is built on; what happens in the sentence",
        verb & t.related("ROOT"),
    )
    yield of(
        "verbs in a relative clause; what a person does, behind who or which; verbs of clauses that describe a noun",
        verb & t.related("relcl"),
    )
    yield of(
        "verbs in a subordinate clause; verbs behind when, if, because or as",
        verb & t.related("advcl"),
    )
    yield of(
        "the second part of a name; surnames; the last word of a name of two words",
        t.name & t.behind(t.name | t.among(TITLES)),
    )
    yield of(
        "the first part of a name of two words; first names before a surname; titles and first names before a surname",
        (t.name | t.among(TITLES)) & t.before(t.name),
    )
    yield of(
        "nouns before another noun; the first part of a compound; nouns that describe a noun",
        t.tagged("NN") & t.related("compound") & t.before(noun),
    )
    yield of(
        "nouns without an article; nouns that no word stands before; bare nouns",
        t.tagged("NN", "NNS") & ~t.heads_of(t.related("det", "poss", "nummod", "amod")),
    )
    yield of(
        "nouns with an adjective before them; described nouns",
        t.tagged("NN", "NNS") & t.behind(t.tagged("JJ")),
    )
    yield of(
        "adverbs of a verb; adverbs that say how, when or where something is done",
        t.tagged("RB") & t.related("advmod") & t.headed(verb) & ~t.among(NEGATIONS),
    )
    yield of(
        "adverbs before an adjective; words that say how much, before an adjective; degrees of a quality",
        t.related("advmod") & t.headed(t.tagged("JJ")) & t.before(t.tagged("JJ")),
    )
    yield of(
        "small words that belong to a verb; up, out and off after a verb; particles of verbs",
        t.related("prt"),
    )
    yield of(
        "'there' that says that something exists; there is and there was; existential there",
        (t.low == "there") & t.tagged("EX"),
    )
    yield of(
        "'there' that names a place; there as an adverb of place",
        (t.low == "there") & t.tagged("RB"),
    )
    yield of(
        "pronouns as subjects; he, she or they who act; pronouns in front of their verb",
        t.tagged("PRP") & t.related("nsubj", "nsubjpass"),
    )
    yield of(
        "pronouns as objects; him, her or them after a verb or preposition; pronouns that something is done to",
        t.tagged("PRP") & t.related("dobj", "pobj", "dative"),
    )
    yield of(
        "to whom something is given or told; receivers; dative objects",
        t.related("dative") & (noun | t.tagged("PRP")),
    )
    yield of(
        "prepositions after a verb; prepositions that go with a verb; verb and preposition",
        t.tagged("IN") & t.related("prep") & t.headed(verb) & t.behind(verb),
    )
    yield of(
        "prepositions after a noun; prepositions that add to a noun; of, with and in behind a noun",
        t.tagged("IN") & t.related("prep") & t.behind(noun),
    )
    yield of(
        "'as' that compares; 'as' before an adjective or adverb; as good as",
        (t.low == "as") & t.tagged("RB"),
    )
    yield of(
        "'like' that compares; like as a preposition; similar to, said with like",
        (t.low == "like") & t.tagged("IN"),
    )
    yield of(
        "'so' before an adjective; 'so' that makes stronger",
        (t.low == "so") & t.before(t.tagged("JJ", "RB")),
    )
    yield of("'and' between two verbs; 'and' that joins actions", (t.low == "and") & t.headed(verb))
    yield of("'and' between two nouns; 'and' that joins things", (t.low == "and") & t.headed(noun))
    yield of(
        "'and' at the beginning of a sentence; sentences that begin with and",
        (t.low == "and") & (t.place == 1),
    )
    yield of(
        "verbs without a subject; commands; imperatives; telling somebody to do something",
        t.tagged("VB") & t.related("ROOT") & ~t.heads_of(t.related("nsubj", "aux")),
    )
    yield of(
        "-ing forms after a preposition; doing something, behind by, of or without",
        t.tagged("VBG") & t.related("pcomp"),
    )
    yield of(
        "-ing forms that go with the main verb; doing something at the same time; participles after a comma",
        t.tagged("VBG") & t.related("advcl"),
    )
    yield of(
        "appositions; a noun that says again who or what it is; explanations behind a name",
        noun & t.related("appos"),
    )
    yield of(
        "people spoken to; names that somebody is addressed by; vocatives",
        t.name & t.quoted & t.related("npadvmod"),
    )
    yield of(
        "nouns of time that say when; when something happens, as a noun",
        noun
        & t.related("npadvmod")
        & t.among(
            "day night morning evening time moment year week hour minute days years times afternoon"
        ),
    )
    yield of(
        "verbs of a clause after say, think or know; what is said or thought to happen",
        verb & t.related("ccomp"),
    )
    yield of(
        "nouns with a number before them; what there are several of; counted nouns",
        noun & t.heads_of(t.related("nummod")),
    )
    for verb in OBJECTS.split():
        forms = t.headed(t.lemma == verb) & t.related("dobj")
        yield of(
            f"objects of the verb {verb}; what somebody {verb}s; the thing after a form of {verb}",
            forms & (noun | t.tagged("PRP")),
        )
    yield of("plural nouns as subjects; several that act", t.tagged("NNS") & t.related("nsubj"))
    yield of("plural nouns after a preposition", t.tagged("NNS") & t.related("pobj"))


def repetition(t: Table, _: dict[str, Mask]) -> Iterator[Rule]:
    """Words that the passage had before."""
    common = t.among(
        " ".join(
            (
                ARTICLES,
                PRONOUNS,
                POSSESSIVES,
                PREPOSITIONS,
                CONJUNCTIONS,
                BE,
                HAVE,
                MODALS,
                NEGATIONS,
                QUESTIONS,
            )
        )
        + " that this as if there then all when"
    )
    content = t.word & ~common

    def of(phrasings: str, rows: Mask) -> Rule:
        return Rule("repetition", phrasings.split("; "), rows)

    yield of(
        "words that were used before in the text; repeated words; a word seen before in the passage",
        content & (t.occurrence > 0),
    )
    yield of(
        "the second time a word is used; second occurrences of a word; words used once before",
        content & (t.occurrence == 1),
    )
    yield of(
        "words used twice before in the text; third and later occurrences of a word",
        content & (t.occurrence > 1),
    )
    yield of(
        "new words; words that the text did not have before; first occurrences of a word",
        content & (t.occurrence == 0),
    )
    yield of(
        "words repeated within one sentence; a word that its own sentence had before",
        content & (t.occurrence_in_sentence > 0),
    )
    yield of(
        "names that were mentioned before; a name seen earlier in the text; second mentions of a name",
        t.name & (t.occurrence > 0),
    )
    yield of(
        "names mentioned for the first time; new names; a name that the text did not have before",
        t.name & (t.occurrence == 0),
    )
    yield of(
        "what followed the same word before; words that continue an earlier copy; the token behind an earlier copy of the previous word",
        t.word & t.copied & content,
    )
    yield of(
        "a phrase of two words said again; repeated pairs of words",
        t.word & t.copied & t.behind(t.word),
    )
    noun = t.tagged("NN", "NNS")
    yield of("nouns that came up before; things mentioned earlier", noun & (t.occurrence > 0))
    yield of("things mentioned for the first time; new nouns", noun & (t.occurrence == 0))
    verb = t.tagged("VBD", "VB", "VBZ", "VBP", "VBG", "VBN") & content
    yield of("verbs used before in the text; actions that happen again", verb & (t.occurrence > 0))
    yield of(
        "the word right after a repeated word; what follows a word seen before",
        t.word & t.behind(content & (t.occurrence > 0)),
    )


def scope(t: Table, _: dict[str, Mask]) -> Iterator[Rule]:
    """Negation, questions, speech, tense, conditions: what a sentence or clause is about."""
    w = t.word
    negated = t.sentences_with(t.related("neg") | t.among(NEGATIONS))
    deny = t.related("neg") | t.among("no never nothing none nobody")

    def of(kind: str, phrasings: str, rows: Mask, at_once: bool = False) -> Rule:
        return Rule(kind, phrasings.split("; "), rows & w, at_once)

    yield of(
        "negation",
        "words in a sentence with a negation; sentences that deny something; negative sentences",
        negated,
        True,
    )
    yield of(
        "negation",
        "words after a negation in the same sentence; what is denied; words behind not, no or never",
        t.so_far(deny),
        True,
    )
    near = t.behind(deny) | t.behind(deny, 2) | t.behind(deny, 3)
    yield of(
        "negation",
        "the three words after a negation; words right behind not, no or never",
        near,
        True,
    )
    yield of(
        "negation",
        "negated verbs; verbs with not or never; what somebody does not do",
        t.heads_of(t.related("neg")) & t.tagged("VB", "VBD", "VBN", "VBG", "VBP", "VBZ"),
    )
    yield of(
        "negation",
        "nouns after 'no'; what there is none of; things that are missing",
        t.tagged("NN", "NNS") & t.heads_of(t.low == "no"),
    )
    asked = t.sentences_with(t.form == "?")
    wh = t.so_far(t.among(QUESTIONS) & (t.place <= 2)) | (t.among(QUESTIONS) & (t.place <= 2))
    yield of(
        "question",
        "words in a question; questions; sentences that end in a question mark",
        asked,
        True,
    )
    yield of(
        "question",
        "the first word of a question; how a question begins",
        asked & (t.place == 1),
        True,
    )
    yield of(
        "question",
        "question words that open a question; who, what and why at the start of a question",
        asked & t.among(QUESTIONS) & (t.place <= 2),
    )
    yield of(
        "question",
        "words of a question that begins with a question word; questions with who, what, why or how",
        asked & wh,
        True,
    )
    yield of(
        "question",
        "verbs in a question; what is asked about, as a verb",
        asked & t.tagged("VB", "VBD", "VBN", "VBG", "VBP", "VBZ"),
    )
    yield of(
        "question", "pronouns in a question; you and I in a question", asked & t.among(PRONOUNS)
    )
    yield of(
        "question",
        "question words that ask nothing; who, what and how outside a question",
        ~asked & t.among(QUESTIONS),
    )
    loud = t.sentences_with(t.form == "!")
    yield of(
        "exclamation",
        "words in an exclamation; sentences with an exclamation mark; shouted or excited sentences",
        loud,
        True,
    )
    yield of("exclamation", "the first word of an exclamation", loud & (t.place == 1), True)
    said = t.among(SAYING) & ~t.quoted
    yield of(
        "speech",
        "verbs of saying after a quotation; 'said' and the like behind somebody's words",
        said
        & (t.behind(t.closes_quote) | t.behind(t.closes_quote, 2) | t.behind(t.closes_quote, 3)),
    )
    yield of(
        "speech",
        "who is speaking; the speaker named beside 'said'; names and pronouns of speakers",
        t.related("nsubj") & t.headed(said),
    )
    yield of(
        "speech",
        "'I' and 'you' in somebody's words; first and second person in dialogue",
        t.quoted & t.among("i you me my your we us our"),
    )
    yield of(
        "speech",
        "'I' told by the narrator; first person outside quotation marks",
        ~t.quoted & t.among("i me my we us our"),
    )
    yield of(
        "speech",
        "pronouns inside quotation marks; pronouns in dialogue; pronouns that a speaker uses",
        t.quoted & t.among(PRONOUNS),
    )
    yield of(
        "speech",
        "pronouns outside quotation marks; pronouns in the narration",
        ~t.quoted & t.among(PRONOUNS),
    )
    yield of(
        "speech",
        "verbs in somebody's words; verbs inside quotation marks",
        t.quoted & t.tagged("VB", "VBD", "VBZ", "VBP", "VBG", "VBN"),
    )
    yield of(
        "speech",
        "verbs of the narration; verbs outside quotation marks",
        ~t.quoted & t.tagged("VB", "VBD", "VBZ", "VBP", "VBG", "VBN"),
    )
    yield of("speech", "names in dialogue; names inside quotation marks", t.quoted & t.name)
    yield of("speech", "names in the narration; names outside quotation marks", ~t.quoted & t.name)
    yield of(
        "speech",
        "words of greeting, agreement or surprise in dialogue; yes, no, oh and well in somebody's words",
        t.quoted & t.tagged("UH"),
    )
    yield of(
        "speech",
        "words spoken right after 'said'; speech that a verb of saying announces",
        t.quoted & t.sentences_with(said) & t.so_far(said),
        True,
    )
    yield of("tense", "verbs in the past tense; what happened; simple past", t.tagged("VBD"))
    yield of("tense", "verbs in the present tense; what happens now", t.tagged("VBZ", "VBP"))
    yield of(
        "tense",
        "participles after have or had; what has happened; the perfect",
        t.tagged("VBN") & t.heads_of(t.among(HAVE) & t.related("aux")),
    )
    yield of(
        "tense",
        "passive participles; what is done to somebody or something; verbs in the passive",
        t.tagged("VBN") & t.heads_of(t.related("auxpass")),
    )
    yield of(
        "tense",
        "participles that describe a noun; past participles without a helping verb",
        t.tagged("VBN") & t.related("amod", "acl"),
    )
    yield of(
        "tense",
        "what is going on; -ing forms after was or is; the progressive",
        t.tagged("VBG") & t.heads_of(t.among(BE) & t.related("aux")),
    )
    yield of(
        "tense",
        "verbs after a modal; what can, may or must happen; verbs behind could, should or would",
        t.tagged("VB") & t.heads_of(t.tagged("MD")),
    )
    yield of(
        "tense",
        "the future; verbs after will or shall; what will happen",
        t.tagged("VB") & t.heads_of(t.among("will shall 'll")),
    )
    yield of(
        "tense",
        "irregular past tense verbs; past forms that do not end in -ed",
        t.tagged("VBD") & ~np.char.endswith(t.low, "ed") & ~t.among(BE + " " + HAVE),
    )
    yield of(
        "tense",
        "past tense verbs in -ed; regular past tense verbs; -ed forms that are no participles",
        t.tagged("VBD") & np.char.endswith(t.low, "ed"),
    )
    yield of(
        "tense",
        "participles in -ed; -ed forms that are no past tense",
        t.tagged("VBN") & np.char.endswith(t.low, "ed"),
    )
    yield of(
        "tense",
        "words in a sentence in the present tense; sentences about what is so now",
        t.sentences_with(t.tagged("VBZ", "VBP") & t.related("ROOT")),
        True,
    )
    yield of(
        "condition",
        "words in an if-clause; conditions; what would have to be so",
        t.so_far(t.low == "if") & ~t.so_far((t.form == ",") & t.so_far(t.low == "if")),
        True,
    )
    yield of(
        "condition",
        "words after because; reasons; why something is so",
        t.so_far(t.low == "because"),
        True,
    )
    yield of(
        "condition",
        "words in a clause with when or while; when something happens, as a clause",
        t.so_far(t.among("when while"))
        & ~t.so_far((t.form == ",") & t.so_far(t.among("when while"))),
        True,
    )
    yield of(
        "condition",
        "words after 'but' in the same sentence; what is set against the rest of the sentence",
        t.so_far(t.low == "but"),
        True,
    )
    yield of(
        "condition",
        "words after who or which; clauses that describe a person or thing",
        t.so_far(t.among("who which whom whose"))
        & ~t.so_far((t.form == ",") & t.so_far(t.among("who which whom whose"))),
        True,
    )
    yield of(
        "condition", "words in a comparison; what comes after than", t.so_far(t.low == "than"), True
    )
    yield of(
        "certainty",
        "words in a sentence that is not certain; sentences with perhaps, seemed or I think",
        t.sentences_with(t.among(SOFTENERS)),
        True,
    )


def topic(t: Table, categories: dict[str, Mask]) -> Iterator[Rule]:
    """All words of a sentence about something, and the words behind a mention."""
    for plural, rows in categories.items():
        about = (
            t.sentences_with(rows, least=2) if plural not in FEELINGS else t.sentences_with(rows)
        )
        yield Rule(
            "sentence",
            [
                f"sentences about {plural}",
                f"words in a sentence about {plural}",
                f"all words of a sentence that speaks of {plural}",
            ],
            about & t.word,
            True,
        )
        behind = t.so_far(rows)
        yield Rule(
            "sentence",
            [
                f"words after a mention of {plural} in the same sentence",
                f"what is said after {plural} have been named",
            ],
            behind & t.word,
            True,
        )


FEELINGS = ("joy", "sadness", "anger", "fear", "praise", "blame", "illness", "love")


def following(t: Table, categories: dict[str, Mask]) -> Iterator[Rule]:
    """What comes next: the row in front of something."""
    noun, verb = t.tagged("NN", "NNS"), t.tagged("VB", "VBD", "VBZ", "VBP")
    for name, rows in (
        ("a name", t.name), ("a noun", noun), ("a verb", verb), ("an adjective", t.tagged("JJ")), ("a pronoun", t.among(PRONOUNS)),
        ("a preposition", t.tagged("IN") & t.among(PREPOSITIONS)), ("a comma", t.form == ","), ("a full stop", t.form == "."),
        ("a question mark", t.form == "?"), ("an exclamation mark", t.form == "!"), ("a quotation mark", t.form == '"'),
        ("a semicolon", t.form == ";"), ("a number", t.tagged("CD")), ("a past-tense verb", t.tagged("VBD")), ("an adverb", t.tagged("RB")),
        ("an article", t.among(ARTICLES)), ("a possessive", t.among(POSSESSIVES)), ("a verb of saying", t.among(SAYING)),
        ("a conjunction", t.among("and or but")), ("a plural noun", t.tagged("NNS")), ("a participle", t.tagged("VBN")),
        ("an -ing form", t.tagged("VBG")), ("an infinitive", t.tagged("VB") & t.behind(t.tagged("TO"))), ("a modal verb", t.tagged("MD")),
    ):  # fmt: skip
        short = name.split(" ", 1)[1]
        yield Rule(
            "next",
            [
                f"before {name}",
                f"words right before {name}",
                f"the next word is {name}",
                f"the word in front of {name}",
                f"places where {name} comes next, such as before {short}s",
            ],
            t.before(rows),
        )
    for word in "the of to and a in was it i he you that had with his her not be is for as at on but she him all so there said up out into been one very little man time".split():
        yield Rule(
            "next",
            [
                f"before the word '{word}'",
                f"the next word is '{word}'",
                f"words right before '{word}'",
            ],
            t.before(t.low == word),
        )
    for plural, rows in categories.items():
        if plural not in FEELINGS:
            yield Rule(
                "next",
                [
                    f"before a word for {plural}",
                    f"the next word names {plural}",
                    f"words right before {plural}",
                ],
                t.before(rows),
            )
    yield Rule(
        "next",
        [
            "the last word of a sentence",
            "words that end a sentence",
            "the end of a sentence is next",
        ],
        t.word & t.before(t.among(". ! ?")),
    )
    yield Rule(
        "next",
        ["the last word of a quotation", "words that end somebody's speech"],
        t.word & t.before(t.among(". ! ? ,")) & t.before(t.closes_quote, 2),
    )


def both(t: Table, _: dict[str, Mask]) -> Iterator[Rule]:
    """Words of a class, or one word, in a context only: the same words elsewhere do not belong."""
    places: dict[str, tuple[str, Mask]] = {
        "inside quotation marks": ("in dialogue", t.quoted),
        "outside quotation marks": ("in the narration", ~t.quoted),
        "at the start of a sentence": ("that open a sentence", t.place == 1),
        "not at the start of a sentence": ("in the middle of a sentence", t.place > 1),
        "after a comma": ("that follow a comma", t.behind(t.form == ",")),
        "before a comma": ("with a comma behind them", t.before(t.form == ",")),
        "in a question": ("of a question", t.sentences_with(t.form == "?")),
        "in an exclamation": ("of an exclamation", t.sentences_with(t.form == "!")),
        "after a verb": (
            "right behind a verb",
            t.behind(t.tagged("VB", "VBD", "VBZ", "VBP", "VBG", "VBN")),
        ),
        "after a noun": ("right behind a noun", t.behind(t.tagged("NN", "NNS", "NNP"))),
        "after a preposition": ("right behind a preposition", t.behind(t.tagged("IN"))),
        "late in the sentence": ("after the tenth word of a sentence", t.place > 10),
        "in a sentence with a negation": ("beside a negation", t.sentences_with(t.related("neg"))),
        "that were used before": ("seen before in the text", t.occurrence > 0),
    }
    classes: dict[str, Mask] = {
        "nouns": t.tagged("NN", "NNS"), "verbs": t.tagged("VB", "VBD", "VBZ", "VBP", "VBG", "VBN"), "adjectives": t.tagged("JJ"),
        "pronouns": t.among(PRONOUNS), "prepositions": t.tagged("IN") & t.among(PREPOSITIONS), "names": t.name, "articles": t.among(ARTICLES),
        "adverbs": t.tagged("RB"), "commas": t.form == ",", "conjunctions": t.among("and or but"), "past-tense verbs": t.tagged("VBD"),
        "possessives": t.among(POSSESSIVES), "-ing forms": t.tagged("VBG"), "modal verbs": t.tagged("MD"),
    }  # fmt: skip
    for word in "the and of to a in it was that he i you her as with for had his not but at is on she be said so him have they all from there this my we were one no by what if or when then would could".split():
        classes[f"the word '{word}'"] = t.low == word
    for name, rows in classes.items():
        for place, (other, where) in places.items():
            yield Rule(
                "both",
                [f"{name} {place}", f"{name} {other}", f"{name}, but only {place}"],
                rows & where,
            )


def sequence(t: Table, _: dict[str, Mask]) -> Iterator[Rule]:
    """Members of an order, and whether they go on in it."""
    orders = {
        "days of the week": "monday tuesday wednesday thursday friday saturday sunday".split(),
        "months": "january february march april may june july august september october november december".split(),
        "numbers": "one two three four five six seven eight nine ten eleven twelve".split(),
        "ordinals": "first second third fourth fifth sixth seventh eighth ninth tenth".split(),
        "letters": list("abcdefghijklmnop"),
    }
    ranks = {word: (name, i) for name, order in orders.items() for i, word in enumerate(order)}
    low, passage = t.low.tolist(), t.passage.tolist()
    made = np.array([book == "sequences" for book in t.books])[t.passage]
    larger, next_, smaller, again = (np.zeros(len(t), dtype=bool) for _ in range(4))
    last: dict[tuple[int, str], int] = {}
    for row, (word, own) in enumerate(zip(low, passage, strict=True)):
        value = int(word) if word.isdigit() else None
        name, rank = ("digits", value) if value is not None else ranks.get(word, (None, None))
        if name is None or rank is None or (name == "letters" and not made[row]):
            continue
        if (own, name) in last:
            before = last[own, name]
            larger[row], smaller[row] = rank > before, rank < before
            next_[row], again[row] = rank == before + 1, rank == before
        last[own, name] = rank
    yield Rule(
        "sequence",
        [
            "a number larger than the last one",
            "numbers that rise",
            "a number or date later than the one before",
        ],
        larger,
    )
    yield Rule(
        "sequence",
        [
            "a number smaller than the last one",
            "numbers that fall",
            "a number or date earlier than the one before",
        ],
        smaller,
    )
    yield Rule(
        "sequence",
        [
            "the next in order",
            "the next number, weekday or letter of a series",
            "words that continue a count",
        ],
        next_,
    )
    for name, order in orders.items():
        if name != "letters":
            yield Rule(
                "sequence",
                [
                    f"{name} that come next in order",
                    f"{name} right after the one before them in order",
                ],
                next_ & t.among(order),
            )


FAMILIES: tuple[Callable[[Table, dict[str, Mask]], Iterator[Rule]], ...] = (
    position, neighbour, grammar, repetition, scope, topic, following, both, sequence,
)  # fmt: skip
